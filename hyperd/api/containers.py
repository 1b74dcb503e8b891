"""Containers and their streams."""

import asyncio
from typing import Any

import msgspec

from hyperd import manifests
from hyperd.api.call import Body, Call, Params, Route
from hyperd.api.pods import KillParams, ListParams, RemoveParams, StopParams, pod_of, signal_number
from hyperd.api.streams import serve_process, size_of
from hyperd.api.views import ContainerView, EndView, container_view
from hyperd.errors import ConflictError, MissingError
from hyperd.pods.pod import Pod
from hyperd.store import ContainerRecord


class AddBody(Body, frozen=True):
    """A container in hyperd's own form."""

    container: dict[str, Any]


class AddParams(Params, frozen=True):
    """``start`` false: it waits to be started."""

    start: bool = True


class AttachParams(Params, frozen=True):
    """Which streams."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


class SizeBody(Body, frozen=True):
    """Of a terminal."""

    rows: int
    columns: int


class RenameBody(Body, frozen=True):
    """What it is to be called."""

    name: str


class Identity(msgspec.Struct, frozen=True):
    """Of what was made."""

    id: str


def container_of(call: Call) -> tuple[Pod, ContainerRecord]:
    """The container that the address names."""
    return call.services.manager.find_container(call.name())


async def listing(call: Call) -> list[ContainerView]:
    """Containers of all pods."""
    return [
        container_view(pod, record)
        for pod in call.services.manager.all()
        for record in pod.book.containers.values()
        if call.params.all or record.phase in ("creating", "starting", "running", "stopping")
    ]


async def add(call: Call) -> Identity:
    """Adds a container to a pod, and starts it if the pod runs."""
    pod = pod_of(call)
    volumes = [volume.name for volume in pod.book.pod.spec.volumes]
    wanted = await asyncio.to_thread(manifests.read_container, call.body.container, volumes)
    record = await call.services.manager.add_container(pod, wanted, start=call.params.start)
    return Identity(record.id)


async def show(call: Call) -> ContainerView:
    """All of one container."""
    pod, record = container_of(call)
    return container_view(pod, record, full=True)


async def remove(call: Call) -> None:
    """Returns when nothing is left of it."""
    pod, record = container_of(call)
    if record.phase in ("creating", "starting", "running", "stopping") and not call.params.force:
        raise ConflictError(f"container {record.name} is running", hint="stop it first, or force its removal")
    await pod.ask_container(record, "removed")
    await pod.book.until(lambda: pod.book.gone or record.id not in pod.book.containers)


async def start(call: Call) -> ContainerView:
    """Returns when it was started."""
    pod, record = container_of(call)
    if pod.book.pod.phase not in ("starting", "running"):
        raise ConflictError(f"pod {pod.book.pod.name} does not run", hint="start the pod")
    await pod.ask_container(record, "running")
    await pod.book.until(lambda: _settled(pod, record.id, ("running", "exited")))
    if record.id in pod.book.failures:
        raise pod.book.failures[record.id]
    return container_view(pod, _now(pod, record))


async def stop(call: Call) -> ContainerView:
    """Returns when it has ended."""
    pod, record = container_of(call)
    await pod.ask_container(record, "stopped", call.params.timeout)
    await pod.book.until(lambda: _settled(pod, record.id, ("exited", "waiting")))
    return container_view(pod, _now(pod, record))


async def kill(call: Call) -> None:
    """Sends a signal to its first process."""
    _, record = container_of(call)
    number = signal_number(call.params.signal)
    if record.phase not in ("running", "stopping"):
        raise ConflictError(f"container {record.name} is not running", hint="start it first")
    try:
        await call.services.tools.runtime.kill(record.id, number)
    except MissingError:
        raise ConflictError(f"container {record.name} is not running", hint="start it first") from None


async def rename(call: Call) -> ContainerView:
    """It goes on under another name."""
    pod, record = container_of(call)
    await call.services.manager.rename_container(pod, record, call.body.name)
    return container_view(pod, _now(pod, record))


async def wait(call: Call) -> EndView:
    """Returns when it has ended and is not to be started again."""
    pod, record = container_of(call)
    await pod.book.until(lambda: ended_for_good(pod, record.id))
    record = _now(pod, record)
    return EndView(code=max(record.code, 0), signal=record.signal, oom=record.oom)


def _now(pod: Pod, record: ContainerRecord) -> ContainerRecord:
    """What is last known of it."""
    return pod.book.containers.get(record.id, record)


def _settled(pod: Pod, container: str, phases: tuple[str, ...]) -> bool:
    record = pod.book.containers.get(container)
    return record is None or pod.book.gone or record.phase in phases


def ended_for_good(pod: Pod, container: str) -> bool:
    """Whether it has ended and is not to be started again."""
    record = pod.book.containers.get(container)
    if record is None or pod.book.gone:
        return True
    if record.phase == "exited" and not record.retry_at:
        return True
    return record.phase == "waiting" and pod.book.pod.phase in ("stopped", "failed", "succeeded")


async def attach(call: Call) -> Any:
    """Its streams; of one that was not started yet, from the first byte on."""
    pod, record = container_of(call)
    if record.phase == "exited" and not record.retry_at:
        raise ConflictError(f"container {record.name} is not running", hint="start it first")
    streams = {"stdin": call.params.stdin, "stdout": call.params.stdout, "stderr": call.params.stderr}
    # Who was there before the program ran is told everything; one who comes later must not hold it up.
    hold = record.phase not in ("running", "stopping")

    async def end() -> tuple[int, int]:
        await pod.book.until(lambda: ended_for_good(pod, record.id) or _now(pod, record).phase == "exited")
        last = _now(pod, record)
        return max(last.code, 0), last.signal

    return await serve_process(call, lambda: pod.attach(record, **streams, hold=hold), end)


async def resize(call: Call) -> None:
    """Of its terminal."""
    pod, record = container_of(call)
    rows, columns = size_of([call.body.rows, call.body.columns])
    if record.phase not in ("running", "starting"):
        raise ConflictError(f"container {record.name} is not running", hint="start it first")
    await pod.tools.monitors.resize(pod.tools.folder(record.pod, record.id), rows, columns)


ROUTES = (
    Route("GET", "/containers", listing, "List containers", ListParams, answer=list[ContainerView]),
    Route("POST", "/pods/{name}/containers", add, "Add a container to a pod", AddParams, AddBody, answer=Identity, status=201),
    Route("GET", "/containers/{name}", show, "Show a container", answer=ContainerView),
    Route("DELETE", "/containers/{name}", remove, "Remove a container from its pod", RemoveParams, status=204),
    Route("POST", "/containers/{name}/start", start, "Start a container", answer=ContainerView),
    Route("POST", "/containers/{name}/stop", stop, "Stop a container", StopParams, answer=ContainerView),
    Route("POST", "/containers/{name}/kill", kill, "Send a signal to a container", KillParams, status=204),
    Route("POST", "/containers/{name}/rename", rename, "Rename a container", body=RenameBody, answer=ContainerView),
    Route("GET", "/containers/{name}/wait", wait, "Wait for the end of a container", answer=EndView),
    Route("GET", "/containers/{name}/attach", attach, "Attach to a container", AttachParams, kind="websocket"),
    Route("POST", "/containers/{name}/resize", resize, "Set the size of a container's terminal", body=SizeBody, status=204),
)
