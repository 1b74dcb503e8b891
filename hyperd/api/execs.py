"""Further processes, in containers and in machines."""

from typing import Any

from hyperd.api.call import Body, Call, Route
from hyperd.api.containers import Identity, SizeBody, container_of
from hyperd.api.pods import pod_of
from hyperd.api.streams import serve_process, size_of
from hyperd.api.views import ExecView, exec_view
from hyperd.errors import ConflictError, InvalidError
from hyperd.pods.pod import Pod
from hyperd.pods.ports import Streams
from hyperd.store import ContainerRecord, ExecRecord

_VARIABLES_MAX = 256


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


async def execute(call: Call) -> Identity:
    """A further process in a container."""
    pod, record = container_of(call)
    return await _execute(call, pod, record)


async def execute_vm(call: Call) -> Identity:
    """A process in the machine, outside of all containers."""
    return await _execute(call, pod_of(call), None)


async def _execute(call: Call, pod: Pod, container: ContainerRecord | None) -> Identity:
    body: ExecBody = call.body
    if not body.args or not body.args[0] or len(body.env) > _VARIABLES_MAX:
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
    Route("POST", "/containers/{name}/exec", execute, "Make a further process in a container", body=ExecBody, answer=Identity, status=201),
    Route("POST", "/pods/{name}/exec-vm", execute_vm, "Make a process in a machine", body=ExecBody, answer=Identity, status=201),
    Route("GET", "/execs/{name}", show_exec, "Show a further process", answer=ExecView),
    Route("GET", "/execs/{name}/attach", attach_exec, "Start a further process and attach to it", kind="websocket"),
    Route("POST", "/execs/{name}/resize", resize_exec, "Set the size of a process's terminal", body=SizeBody, status=204),
)
