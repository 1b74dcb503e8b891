"""One more process in a container that exists: ``exec``."""

import os
import time

from runv.agent.client import CALL_TIMEOUT_S, Agent
from runv.errors import AgentError, RunvError, StateError
from runv.files import write_atomic
from runv.processes import Identity
from runv.quick import suppress
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.process import Options, guest_process, open_terminal
from runv.sandbox.residents import standin
from runv.settings import Settings
from runv.spec.process import Process
from runv.state import CREATING, PAUSED, STOPPED, Container

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

# A process for a paused container is made when somebody resumes it.
_PAUSED_TIMEOUT_S = 24 * 3600.0


class Executed:
    """A running process: its stand-in, and the file that holds its pid, to be removed when it has ended."""

    __slots__ = ("identity", "pid_file")

    def __init__(self, identity: Identity, pid_file: str) -> None:
        self.identity = identity
        self.pid_file = pid_file


def execute(
    container: Container,
    process: Process,
    raw: "dict[str, Any]",
    options: Options,
    settings: Settings,
    *,
    ignore_paused: bool = False,
) -> Executed:
    """Starts ``process`` (``raw`` is the same as the guest gets it) in a container that is created or running. With ``ignore_paused``
    it may be paused, and ``execute`` returns when it was resumed; an archive's process is not held up by that.

    :raise StateError: it is neither
    :raise AgentError: the program is not there, or cannot be executed
    """
    record = container.load()
    status, _ = container.status(record)
    init = container.standin()
    if status in (CREATING, STOPPED) or init is None:
        raise StateError("cannot exec in a stopped container")
    if status == PAUSED and not ignore_paused:
        raise StateError("cannot exec in a paused container (use --ignore-paused to override)")
    name = f"exec-{os.getpid()}-{time.monotonic_ns()}"
    os.makedirs(container.execs_folder(), 0o700, exist_ok=True)
    _forget_ended(container.execs_folder())
    pid_file = os.path.join(container.execs_folder(), f"{name}.pid")
    folder = SandboxFolder(container.root, record.sandbox)
    request = {"container": container.id, "process": name}
    timeout_s = _PAUSED_TIMEOUT_S if status == PAUSED else CALL_TIMEOUT_S
    with connect(folder) as starter, connect(folder) as agent:
        agent.post("exec", {**request, "spec": guest_process(raw)}, timeout_s)
        # The guest makes the process meanwhile.
        try:
            if not process.terminal:
                agent.ask_streams(container.id, name, standin.STREAMS)
            standing = standin.start(
                settings.artefact("standin"),
                f"{container.id} {name}",
                pid_file=pid_file,
                groups=record.groups,
                network=f"/proc/{init.pid}/ns/net",
                foreground_terminal=options.foreground and process.terminal,
            )
        except BaseException:
            # A process that has an owner ends, and is forgotten, with the owner's connection.
            with suppress(RunvError):
                agent.post("wait", {**request, "owner": True})
            raise
        try:
            _take_process(agent, timeout_s)
            _attach(standing, agent, request, process, options)
            starter.call("start", request)
            if options.pid_file:
                write_atomic(options.pid_file, str(standing.identity.pid), 0o644)
        except BaseException:
            standing.config.close()  # a stand-in without orders ends by itself; one with orders kills its process
            os.kill(standing.identity.pid, 9)
            os.waitpid(standing.identity.pid, 0)
            os.unlink(pid_file)
            raise
    return Executed(standing.identity, pid_file)


def _take_process(agent: Agent, timeout_s: float) -> None:
    try:
        agent.take(timeout_s)
    except AgentError as error:
        raise (StateError("cannot exec in a stopped container") if error.kind == "state" else error) from error


def _attach(standing: standin.Standin, agent: Agent, request: "dict[str, Any]", process: Process, options: Options) -> None:
    terminal = open_terminal(process, options)
    try:
        standin.attach(standing, agent, request["container"], request["process"], terminal)
    finally:
        if terminal.fd >= 0:
            os.close(terminal.fd)


def _forget_ended(folder: str) -> None:
    from runv.processes import read_identity

    for name in os.listdir(folder):
        identity = read_identity(os.path.join(folder, name))
        if identity is not None and not identity.alive():
            os.unlink(os.path.join(folder, name))
