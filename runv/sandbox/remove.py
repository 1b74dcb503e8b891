"""Taking a container away, whatever state it is in and whatever of it is left. Needs neither the guest nor config.json."""

import os

from runv import cgroups
from runv.errors import AgentError, AgentLostError, HostError, NotFoundError, StateError, VmError
from runv.files import locked_folder, remove_tree, write_atomic
from runv.processes import kill_all
from runv.quick import dumps, suppress
from runv.sandbox.claims import left_in
from runv.sandbox.connection import connect
from runv.sandbox.layout import PROCESSES, SandboxFolder, sandboxes
from runv.sandbox.links import netrecord
from runv.state import Container, ContainerRecord

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.agent.client import Agent
    from runv.processes import Identity

KILL_TIMEOUT_S = 10.0
_AGENT_TIMEOUT_S = 10.0


def remove(container: Container) -> None:
    """Ends what runs of ``container`` and removes what is on disk; twice is fine. The caller holds the container's lock.

    :raise StateError: a process does not die
    """
    try:
        record: ContainerRecord | None = container.load()
    except NotFoundError:
        record = None  # half-made: what exists then is found by its pid files
    except StateError:
        record = _rebuilt(container)
    if record is not None:
        _leave_sandbox(container, record, SandboxFolder(container.root, record.sandbox))
    left = _kill_standins(container)
    if left is not None:
        raise StateError(f"cannot kill process {left.pid} of container {container.id}")
    if record is not None:
        cgroups.remove(record.made_groups)
    remove_tree(container.folder)


def _kill_standins(container: Container) -> "Identity | None":
    """Returns one that does not die. Those of `exec` end before that of the first process, as processes of a pid namespace do."""
    left = kill_all(container.exec_standins(), KILL_TIMEOUT_S)
    return kill_all([container.standin(), container.relay(), container.watcher()], KILL_TIMEOUT_S) or left


def _rebuilt(container: Container) -> ContainerRecord | None:
    """What matters of a state.json that cannot be read: the sandbox that counts the container as a member, and where its processes sit."""
    name = next((folder.name for folder in sandboxes(container.root) if container.id in folder.members()), None)
    if name is None:
        return None
    standin = container.standin()
    groups = cgroups.of_process(standin.pid) if standin is not None and standin.alive() else []
    return ContainerRecord(
        id=container.id, sandbox=name, bundle="", rootfs="", oci_version="", created="", annotations={}, groups=groups, made_groups=groups,
    )  # fmt: skip


def _leave_sandbox(container: Container, record: ContainerRecord, sandbox: SandboxFolder) -> None:
    try:
        with locked_folder(sandbox.folder):
            others = [member for member in sandbox.members() if member != container.id]
            has_disks = os.path.isdir(sandbox.path("disks"))
            if (others or has_disks) and sandbox.paused():
                _let_go_on(sandbox)
            if others and sandbox.alive():
                _leave_running(container, sandbox)
            elif has_disks and sandbox.alive():
                _unmount_disks(container, sandbox)
            _hand_over_groups(container, record, sandbox, last=not others)
            with suppress(FileNotFoundError):
                os.unlink(sandbox.path("members", container.id))
            if not others:
                end_sandbox(sandbox)
    except FileNotFoundError:
        return  # gone already, or never made


def _let_go_on(sandbox: SandboxFolder) -> None:
    """Nothing can be taken out of a machine that stands still. One that cannot be woken is lost, with all that is in it."""
    from runv.sandbox.pause import let_go_on

    try:
        let_go_on(sandbox)
    except VmError:
        kill_processes(sandbox)


def _hand_over_groups(container: Container, record: ContainerRecord, sandbox: SandboxFolder, *, last: bool) -> None:
    """The machine stays in the cgroup of the container it was made for, and pods share parents: who leaves last removes what had to stay."""
    left = left_in(sandbox)
    groups = left + [group for group in record.made_groups if group not in left]
    if not last:
        try:
            write_atomic(sandbox.path("groups.json"), dumps(groups))
        except HostError:
            # A full disk must not keep anybody from deleting: config.json is of no use any more, and makes room.
            with suppress(FileNotFoundError):
                os.unlink(container.path("config.json"))
            write_atomic(sandbox.path("groups.json"), dumps(groups))
    elif left:
        record.made_groups = groups
        with suppress(HostError):  # for one who comes after a crash; what follows here has it
            container.save(record)


def _leave_running(container: Container, sandbox: SandboxFolder) -> None:
    from runv.vm.namespace import remove_binds  # ctypes: only where there is a machine to change

    try:
        with connect(sandbox, _AGENT_TIMEOUT_S) as agent:
            _delete_in_guest(container, agent)
            if os.path.exists(sandbox.path("disks", container.id)):
                from runv.sandbox.storage import disks

                disks.detach(sandbox, container.id, agent)
    except AgentLostError:
        # A guest that does not answer: its other containers are lost too, and their stand-ins must say so.
        kill_processes(sandbox)
        return
    qemu = sandbox.process("qemu.pid")
    if qemu is not None:
        with suppress(HostError):  # never shared, or QEMU has ended since
            remove_binds(qemu, sandbox.path("share"), container.id)


def _delete_in_guest(container: Container, agent: "Agent") -> None:
    try:
        agent.call("delete", {"container": container.id}, _AGENT_TIMEOUT_S)
    except AgentError as error:
        if error.kind != "not-found":
            raise


def _unmount_disks(container: Container, sandbox: SandboxFolder) -> None:
    """The machine is about to be killed: what its container has written to disks must be on them before. A guest that does not answer must not keep
    anybody from deleting; then it is as if the power had failed."""
    with suppress(AgentError, AgentLostError), connect(sandbox, _AGENT_TIMEOUT_S) as agent:
        agent.call("delete", {"container": container.id}, _AGENT_TIMEOUT_S)


def end_sandbox(sandbox: SandboxFolder) -> None:
    """Kills the machine and removes its folder; the caller holds its lock. Mounts are QEMU's own and go with it.

    :raise StateError: a process does not die
    """
    record = _outliving(sandbox)
    if record is None:
        kill_processes(sandbox)
    else:
        from runv.sandbox.links.leaving import letting_go  # only where there is something to give back

        with letting_go(record):
            kill_processes(sandbox)
    remove_tree(sandbox.folder)


def _outliving(sandbox: SandboxFolder) -> netrecord.NetRecord | None:
    """What the machine had of the host's network, and of a namespace that was given; None where that is nothing."""
    if os.path.exists(sandbox.path(netrecord.NAME)):
        with suppress(StateError):
            record = netrecord.NetRecord(sandbox)
            return record if record.outlives else None
    return None


def kill_processes(sandbox: SandboxFolder) -> None:
    """Kills the machine and its helpers, without asking the guest.

    :raise StateError: one does not die
    """
    left = kill_all([sandbox.process(name) for name in PROCESSES], KILL_TIMEOUT_S)
    if left is not None:
        raise StateError(f"cannot kill process {left.pid} of sandbox {sandbox.name}")
