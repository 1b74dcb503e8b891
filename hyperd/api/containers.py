"""Containers, their streams and logs, and further processes in them."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from hyperd import manifests
from hyperd.api.call import Body, Call, Params, Route
from hyperd.api.pods import KillParams, ListParams, RemoveParams, StopParams, pod_of, signal_number
from hyperd.api.streams import Lines, serve_process, size_of, until_closing
from hyperd.api.views import ContainerView, EndView, ExecView, container_view, exec_view
from hyperd.errors import ConflictError, InvalidError, MissingError
from hyperd.pods.pod import Pod
from hyperd.pods.ports import Streams
from hyperd.store import ContainerRecord, ExecRecord

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PROCESS_MAX = 256


class AddBody(Body, frozen=True):
    """A container in hyperd's own form."""

    container: dict[str, Any]


class AddParams(Params, frozen=True):
    """``start`` false: it waits to be started."""

    start: bool = True


class LogParams(Params, frozen=True):
    """``since``, ``until``: a time (RFC 3339 or seconds since the epoch), or how long ago (10m). ``tail``: how many lines, -1 for all."""

    follow: bool = False
    since: str = ""
    until: str = ""
    tail: int = -1
    timestamps: bool = False
    stdout: bool = True
    stderr: bool = True


class AttachParams(Params, frozen=True):
    """Which streams."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


class ExecBody(Body, frozen=True):
    """A process. ``env``: pairs. ``detach``: run it at once, with nobody attached."""

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    user: str = ""
    tty: bool = False
    stdin: bool = False
    detach: bool = False
    privileged: bool = False


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


class LogLine(msgspec.Struct, frozen=True):
    """``text`` ends with its newline, unless it is a part of a line (``partial``). Bytes that are not UTF-8 are replaced."""

    time: str
    stream: str
    text: str
    partial: bool = False


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
        raise ConflictError(f"container {record.name} is not running")
    try:
        await call.services.tools.runtime.kill(record.id, number)
    except MissingError:
        raise ConflictError(f"container {record.name} is not running") from None


async def rename(call: Call) -> ContainerView:
    """It goes on under another name."""
    pod, record = container_of(call)
    await call.services.manager.rename_container(pod, record, call.body.name)
    return container_view(pod, _now(pod, record))


async def wait(call: Call) -> EndView:
    """Returns when it has ended and is not to be started again."""
    pod, record = container_of(call)
    await pod.book.until(lambda: _ended(pod, record.id))
    record = _now(pod, record)
    return EndView(code=max(record.code, 0), signal=record.signal, oom=record.oom)


def _now(pod: Pod, record: ContainerRecord) -> ContainerRecord:
    """What is last known of it."""
    return pod.book.containers.get(record.id, record)


def _settled(pod: Pod, container: str, phases: tuple[str, ...]) -> bool:
    record = pod.book.containers.get(container)
    return record is None or pod.book.gone or record.phase in phases


def _ended(pod: Pod, container: str) -> bool:
    record = pod.book.containers.get(container)
    if record is None or pod.book.gone:
        return True
    if record.phase == "exited" and not record.retry_at:
        return True
    return record.phase == "waiting" and pod.book.pod.phase in ("stopped", "failed", "succeeded")


async def logs(call: Call) -> Any:
    """Lines of its log."""
    pod, record = container_of(call)
    wanted = pod.book.specification(record)
    driver = (wanted.log or pod.book.pod.spec.log).driver
    if driver == "none":
        raise ConflictError(f"container {record.name} keeps no log", hint="its log driver is none")
    ended = asyncio.Event()
    source = call.services.logs(
        call.services.tools.log(record.pod, record.id),
        follow=call.params.follow,
        ended=ended,
        since=moment(call.params.since, 0.0),
        until=moment(call.params.until, float("inf")),
        tail=call.params.tail,
        streams=frozenset(name for name in ("stdout", "stderr") if getattr(call.params, name)),
    )
    async with Lines(call) as lines, _setting(ended, pod, record.id):
        async for when, stream, text in until_closing(call, source):
            if lines.closed:
                break
            await lines.send(LogLine(when, stream, text, not text.endswith("\n")))
    return lines.response


@contextlib.asynccontextmanager
async def _setting(ended: asyncio.Event, pod: Pod, container: str) -> AsyncIterator[None]:
    """Sets ``ended`` when nothing more will be logged."""

    async def wait() -> None:
        await pod.book.until(lambda: _ended(pod, container))
        ended.set()

    task = asyncio.create_task(wait())
    try:
        yield
    finally:
        task.cancel()


def moment(text: str, default: float) -> float:
    """Seconds since the epoch.

    :raise InvalidError: it is neither a time nor how long ago
    """
    if not text:
        return default
    if match := _DURATION.fullmatch(text):
        return time.time() - float(match[1]) * _UNITS[match[2]]
    try:
        return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else _rfc3339(text)
    except (ValueError, OverflowError):
        raise InvalidError(f"not a time: {text[:40]!r}", hint="give 2026-01-31T12:00:00Z, seconds since 1970, or 10m for ten minutes ago") from None


def _rfc3339(text: str) -> float:
    from datetime import UTC, datetime

    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


async def attach(call: Call) -> Any:
    """Its streams; of one that was not started yet, from the first byte on."""
    pod, record = container_of(call)
    if record.phase == "exited" and not record.retry_at:
        raise ConflictError(f"container {record.name} is not running")
    streams = {"stdin": call.params.stdin, "stdout": call.params.stdout, "stderr": call.params.stderr}
    # Who was there before the program ran is told everything; one who comes later must not hold it up.
    hold = record.phase not in ("running", "stopping")

    async def end() -> tuple[int, int]:
        await pod.book.until(lambda: _ended(pod, record.id) or _now(pod, record).phase == "exited")
        last = _now(pod, record)
        return max(last.code, 0), last.signal

    return await serve_process(call, lambda: pod.attach(record, **streams, hold=hold), end)


async def resize(call: Call) -> None:
    """Of its terminal."""
    pod, record = container_of(call)
    rows, columns = size_of([call.body.rows, call.body.columns])
    if record.phase not in ("running", "starting"):
        raise ConflictError(f"container {record.name} is not running")
    await pod.tools.monitors.resize(pod.tools.folder(record.pod, record.id), rows, columns)


async def execute(call: Call) -> Identity:
    """A further process in a container."""
    pod, record = container_of(call)
    return await _execute(call, pod, record)


async def execute_vm(call: Call) -> Identity:
    """A process in the machine, outside of all containers."""
    return await _execute(call, pod_of(call), None)


async def _execute(call: Call, pod: Pod, container: ContainerRecord | None) -> Identity:
    body: ExecBody = call.body
    if not body.args or not body.args[0] or len(body.env) > _PROCESS_MAX:
        raise InvalidError("args: a process needs a program")
    if any("\0" in text for text in (*body.args, body.cwd, body.user, *(part for pair in body.env for part in pair))):
        raise InvalidError("args, env, cwd and user must not contain NUL")
    wanted = ExecRecord(
        id="",
        container="",
        pod="",
        created=0.0,
        args=body.args,
        environment=tuple(f"{name}={value}" for name, value in body.env),
        cwd=body.cwd,
        user=body.user,
        tty=body.tty,
        stdin=body.stdin,
        machine=container is None,
        privileged=body.privileged,
    )
    made = await call.services.execs.create(pod, container, wanted)
    if body.detach:
        await call.services.execs.release(pod, await call.services.execs.start(pod, made, hold=False))
    return Identity(made.id)


def _exec_of(call: Call) -> tuple[Pod, ExecRecord]:
    return call.services.execs.find(call.services.manager.all(), call.name())


async def show_exec(call: Call) -> ExecView:
    """What is known of it."""
    return exec_view(_exec_of(call)[1])


async def attach_exec(call: Call) -> Any:
    """Starts it and carries its streams."""
    pod, record = _exec_of(call)
    if record.phase == "exited":
        raise ConflictError(f"process {record.id} has ended")
    folder = pod.tools.folder(record.pod, record.id)

    async def connect() -> Streams:
        known = pod.book.execs[record.id]
        if known.phase != "created":
            return await pod.tools.monitors.attach(folder, stdin=record.stdin, stdout=True, stderr=True, hold=True)
        started = await call.services.execs.start(pod, known, hold=True)
        attached = await pod.tools.monitors.attach(folder, stdin=record.stdin, stdout=True, stderr=True, hold=True)
        await call.services.execs.release(pod, started)
        return attached

    async def end() -> tuple[int, int]:
        await pod.book.until(lambda: pod.book.gone or pod.book.execs.get(record.id, record).phase == "exited")
        last = pod.book.execs.get(record.id, record)
        return last.code or 0, last.signal

    return await serve_process(call, connect, end)


async def resize_exec(call: Call) -> None:
    """Of its terminal."""
    pod, record = _exec_of(call)
    rows, columns = size_of([call.body.rows, call.body.columns])
    if record.phase not in ("running", "starting"):
        raise ConflictError(f"process {record.id} is not running")
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
    Route("GET", "/containers/{name}/logs", logs, "Read the log of a container", LogParams, answer=LogLine, kind="ndjson"),
    Route("GET", "/containers/{name}/attach", attach, "Attach to a container", AttachParams, kind="websocket"),
    Route("POST", "/containers/{name}/resize", resize, "Set the size of a container's terminal", body=SizeBody, status=204),
    Route("POST", "/containers/{name}/exec", execute, "Make a further process in a container", body=ExecBody, answer=Identity, status=201),
    Route("POST", "/pods/{name}/exec-vm", execute_vm, "Make a process in a machine", body=ExecBody, answer=Identity, status=201),
    Route("GET", "/execs/{name}", show_exec, "Show a further process", answer=ExecView),
    Route("GET", "/execs/{name}/attach", attach_exec, "Start a further process and attach to it", kind="websocket"),
    Route("POST", "/execs/{name}/resize", resize_exec, "Set the size of a process's terminal", body=SizeBody, status=204),
)
