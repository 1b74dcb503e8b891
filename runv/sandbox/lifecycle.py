"""start, kill, delete and what a created container can be asked. Light: these are the commands an engine calls most."""

import os

from runv.agent.client import CALL_TIMEOUT_S
from runv.errors import AgentError, AgentLostError, NotFoundError, RunvError, StateError, VmError
from runv.files import locked_folder, read_text
from runv.log import Log
from runv.network.names import names_in
from runv.network.resolver import kinds_at
from runv.processes import Identity, kill_all, kill_and_wait, wait_reaped
from runv.quick import signal, suppress
from runv.sandbox import hookpoints
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links.netrecord import NetRecord
from runv.sandbox.remove import kill_processes, remove
from runv.state import CREATED, CREATING, PAUSED, RUNNING, STOPPED, Container, ContainerRecord, timestamp

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from typing import Any

    from runv.agent.client import Agent

_KILL_TIMEOUT_S = 5.0
_REAP_TIMEOUT_S = 1.0
_LOCK_PATIENCE_S = 0.2


def start(container: Container, log: Log, starter: "Agent | None" = None) -> None:
    """Lets the program of a created container run.

    :param starter: a connection to its guest, if there is one; it is closed
    :raise StateError: it runs already, or has stopped
    :raise AgentError: the program could not be executed
    """
    try:
        with locked_folder(container.folder):
            _start_locked(container, log, starter)
    except FileNotFoundError:
        raise NotFoundError("container does not exist") from None
    finally:
        if starter is not None:
            starter.close()


def _start_locked(container: Container, log: Log, starter: "Agent | None") -> None:
    record = container.load()
    status, pid = container.status(record)
    if status == RUNNING:
        raise StateError("cannot start an already running container")
    if status == PAUSED:
        raise StateError("cannot start a container in the paused state")
    if status != CREATED:
        raise StateError("cannot start a container that has stopped")
    # Written first: what cannot be written down must not run.
    record.started = timestamp()
    container.save(record)
    try:
        sandbox = SandboxFolder(container.root, record.sandbox)
        with starter or connect(sandbox) as agent:
            _bring_in_links(sandbox, agent)
            bring_in_resolver(sandbox, agent, record)
            timeout_s = hookpoints.start_timeout_s(container, CALL_TIMEOUT_S)
            agent.call("start", {"container": container.id, "process": "init"}, timeout_s)
    except RunvError:
        record.started = ""
        container.save(record)
        raise
    hookpoints.after_start(container, record, pid, log)


def _bring_in_links(sandbox: SandboxFolder, agent: "Agent") -> None:
    """Docker fills the network namespace only between ``create`` and ``start``, and CNI's ``connect`` may come at any time: what is new goes
    into the guest. With nothing new this costs a look into procfs."""
    qemu = sandbox.process("qemu.pid")
    names = names_in(read_text(f"/proc/{qemu.pid}/net/dev")) if qemu is not None else []
    if not NetRecord(sandbox).settled(names):
        from runv.sandbox.links import network

        network.bring_more(sandbox, agent)


def bring_in_resolver(sandbox: SandboxFolder, agent: "Agent", record: ContainerRecord) -> None:
    """With the links comes Docker's resolver: connections to it are carried from now on, if there is one and they were not.

    :raise RunvError: it could not be done
    """
    relay, qemu = sandbox.process("relay.pid"), sandbox.process("qemu.pid")
    if qemu is not None and (relay is None or not relay.alive()) and kinds_at(qemu.pid):
        from runv import settings
        from runv.sandbox.residents.relay import carry_late_resolver

        carry_late_resolver(agent, sandbox, record.groups, settings.load())


def kill(container: Container, number: int, *, everyone: bool) -> None:
    """Sends a signal to the container's first process, or to all of its processes. SIGKILL also resumes what is paused, as from runc;
    every other signal waits until that is done.

    :raise StateError: it is not running, or its whole machine stands still
    """
    record = container.load()
    status, _ = container.status(record)
    if status in (CREATING, STOPPED):
        if everyone:
            return
        raise StateError("container not running")
    sandbox = SandboxFolder(container.root, record.sandbox)
    try:
        if number == signal.SIGKILL and status == PAUSED:
            _unpause(container, sandbox)
        with connect(sandbox, _KILL_TIMEOUT_S) as agent:
            request = {"container": container.id, "process": "init", "signal": number, "all": everyone}
            agent.call("signal", request, _KILL_TIMEOUT_S)
    except (AgentLostError, VmError):
        _kill_standin(container, number)
    except AgentError as error:
        raise (StateError("container not running") if error.kind in ("state", "not-found") else error) from error


def _unpause(container: Container, sandbox: SandboxFolder) -> None:
    if sandbox.paused():
        from runv.sandbox.pause import let_go_on

        let_go_on(sandbox)
    with suppress(FileNotFoundError):
        os.unlink(container.path("paused"))


def _kill_standin(container: Container, number: int) -> None:
    """The guest does not answer. SIGKILL must work all the same; any other signal has nobody to go to."""
    standin = container.standin()
    if number != signal.SIGKILL or standin is None or not standin.alive():
        raise StateError("container not running")
    # Those of `exec` first, as the kernel has it where a pid namespace ends; an engine that waits for all of them is to hear of them in this order.
    execs = container.exec_standins()
    kill_all(execs, _KILL_TIMEOUT_S)
    wait_reaped(execs, _REAP_TIMEOUT_S)
    kill_and_wait(standin, _KILL_TIMEOUT_S)


def delete(container: Container, log: Log, *, force: bool) -> None:
    """Removes a container. With ``force`` whatever runs is killed, and one that is not there is fine.

    :raise NotFoundError: there is none
    :raise StateError: it runs
    """
    if not container.exists():
        if force:
            return
        raise NotFoundError("container does not exist")
    try:
        if force:
            _interrupt_creation(container)
        with locked_folder(container.folder):
            _delete_locked(container, log, force=force)
    except FileNotFoundError:
        if not force:
            raise NotFoundError("container does not exist") from None


def _interrupt_creation(container: Container) -> None:
    """A `create` under way holds the lock, for as long as a guest may take to boot. Without its machine it fails at once, and lets go."""
    try:
        with locked_folder(container.folder, _LOCK_PATIENCE_S):
            return
    except StateError:
        record = _load_or_none(container)
    if record is not None:
        kill_processes(SandboxFolder(container.root, record.sandbox))


def _delete_locked(container: Container, log: Log, *, force: bool) -> None:
    record = _load_or_none(container)
    if record is None:
        # Never came to be, or is broken: nothing of it is worth keeping (as runc: remove it, and say it was none).
        remove(container)
        if not force:
            raise NotFoundError("container does not exist")
        return
    status, _ = container.status(record)
    if status in (RUNNING, PAUSED, CREATING) and not force:
        raise StateError(f"cannot delete container {container.id} that is not stopped: {status}")
    poststop = hookpoints.after_delete(container, record, log)
    remove(container)
    poststop()


def _load_or_none(container: Container) -> ContainerRecord | None:
    try:
        return container.load()
    except StateError:
        return None


def processes(container: Container) -> list[dict[str, "Any"]]:
    """What runs in the container, as the guest sees it: pid, ppid, uid, start_ticks, comm, args.

    :raise StateError: it is not running
    """
    record = container.load()
    if container.status(record)[0] in (CREATING, STOPPED):
        raise StateError("container not running")
    with connect(SandboxFolder(container.root, record.sandbox)) as agent:
        found = agent.call("processes", {"container": container.id})["processes"]
    return list(found)


def host_pids(container: Container) -> list[int]:
    """The host processes that stand for the container's processes: what ``ps --format json`` gives engines."""
    standins: list[Identity | None] = [container.standin(), *container.exec_standins()]
    return sorted(standin.pid for standin in standins if standin is not None and standin.alive())
