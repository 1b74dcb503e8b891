"""One more process in a container that exists: ``exec``."""

import os
import time
from typing import Any, NamedTuple

from runv.agent.client import CALL_TIMEOUT_S
from runv.errors import AgentError, StateError
from runv.files import write_atomic
from runv.processes import Identity
from runv.sandbox import standin
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.process import Options, guest_process, open_terminal
from runv.settings import Settings
from runv.spec.config import Process
from runv.state import CREATING, PAUSED, STOPPED, Container
from runv.vm import choice

# A process for a paused container is made when somebody resumes it.
_PAUSED_TIMEOUT_S = 24 * 3600.0


class Executed(NamedTuple):
    """A running process: its stand-in, and the file that holds its pid, to be removed when it has ended."""

    identity: Identity
    pid_file: str


def execute(
    container: Container,
    process: Process,
    raw: dict[str, Any],
    options: Options,
    settings: Settings,
    *,
    ignore_paused: bool = False,
) -> Executed:
    """Starts ``process`` (``raw`` is the same as the guest gets it) in a container that is created or running. With ``ignore_paused``
    it may be paused, and ``execute`` returns when it was resumed.

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
    os.makedirs(container.path("exec"), 0o700, exist_ok=True)
    _forget_ended(container)
    pid_file = container.path("exec", f"{name}.pid")
    standing = standin.start(
        choice.artefact(settings, "standin"),
        f"{container.id} {name}",
        pid_file=pid_file,
        groups=record.groups,
        network=f"/proc/{init.pid}/ns/net",
        foreground_terminal=options.foreground and process.terminal,
    )
    try:
        timeout_s = _PAUSED_TIMEOUT_S if status == PAUSED else CALL_TIMEOUT_S
        _start_in_guest(container, record.sandbox, name, process, raw, options, standing, timeout_s)
        if options.pid_file:
            write_atomic(options.pid_file, str(standing.identity.pid), 0o644)
    except BaseException:
        standing.config.close()  # a stand-in without orders ends by itself; one with orders kills its process
        os.kill(standing.identity.pid, 9)
        os.waitpid(standing.identity.pid, 0)
        os.unlink(pid_file)
        raise
    return Executed(standing.identity, pid_file)


def _forget_ended(container: Container) -> None:
    from runv.processes import read_identity

    for name in os.listdir(container.path("exec")):
        identity = read_identity(container.path("exec", name))
        if identity is not None and not identity.alive():
            os.unlink(container.path("exec", name))


def _start_in_guest(
    container: Container,
    sandbox: str,
    name: str,
    process: Process,
    raw: dict[str, Any],
    options: Options,
    standing: standin.Standin,
    timeout_s: float,
) -> None:
    folder = SandboxFolder(container.root, sandbox)
    with connect(folder) as starter, connect(folder) as agent:
        try:
            agent.call("exec", {"container": container.id, "process": name, "spec": guest_process(raw)}, timeout_s)
        except AgentError as error:
            raise (StateError("cannot exec in a stopped container") if error.kind == "state" else error) from error
        terminal = open_terminal(process, options)
        try:
            standin.attach(standing, agent, container.id, name, terminal)
        finally:
            if terminal.fd >= 0:
                os.close(terminal.fd)
        starter.call("start", {"container": container.id, "process": name})
