"""``checkpoint``: the machine of a sandbox, with all containers in it, is written to a folder.

Everything that can be refused is, before anything stands still. Then the guest is parked, QEMU writes itself out, and the disks are copied while it stands.
Whatever happens on the way, the machine goes on and there is no folder; only when that is complete it ends, unless it is to go on beside its likeness.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from runv import VERSION
from runv.agent.client import Agent
from runv.errors import HostError, NotFoundError, StateError, VmError
from runv.files import locked_folder, read_text, write_atomic
from runv.log import Log
from runv.sandbox import hookpoints, pause
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder, SandboxRecord
from runv.sandbox.links.netrecord import NetRecord
from runv.sandbox.remove import kill_processes, remove
from runv.sandbox.saved import image, programs
from runv.sandbox.saved.image import Saved, SavedCard, SavedContainer, SavedDisk
from runv.sandbox.storage import disks
from runv.sandbox.storage.opened import used
from runv.spec.annotations import COPY
from runv.spec.config import Config, parse_config
from runv.state import CREATED, CREATING, STOPPED, Container, ContainerRecord
from runv.storage import copies
from runv.storage.places import disk_paths
from runv.vm import qmp, running

# A guest's memory at the speed of a slow disk, and what QEMU needs for itself.
_SAVE_TIMEOUT_S = 600.0
_PARK_TIMEOUT_S = 30.0


class _Source(NamedTuple):
    """What is known of the machine before it stands still."""

    sandbox: SandboxFolder
    record: SandboxRecord
    started: running.Started
    found: running.Found
    cards: list[SavedCard]
    containers: list[SavedContainer]
    programs: dict[str, copies.Content]


def checkpoint(container: Container, path: str, log: Log, *, leave_running: bool) -> None:
    """Saves the sandbox that a container lives in to a new folder at ``path``. Its containers end then and this one is deleted, as by runc; with
    ``leave_running`` all go on.

    :raise StateError, ConfigError: it cannot be saved as it is; nothing was touched
    :raise RunvError: it could not be saved; the machine goes on, and there is no folder
    """
    if not container.exists():
        raise NotFoundError("container does not exist")
    record = container.load()
    status = container.status(record)[0]
    if status in (CREATING, CREATED, STOPPED):
        raise StateError(f"Container cannot be checkpointed in {status} state")
    sandbox = SandboxFolder(container.root, record.sandbox)
    with contextlib.ExitStack() as locks:
        members = _lock(container.root, sandbox, locks)
        source = _look(sandbox, members)
        with image.Folder(path) as folder:
            _save(source, folder, leave_running=leave_running)
        if leave_running:
            return
    _delete(container, record, log)


def _lock(root: str, sandbox: SandboxFolder, locks: contextlib.ExitStack) -> list[Container]:
    """Locks every container of a sandbox, and then itself, as all commands do."""
    try:
        members = [Container(root, name) for name in sandbox.members()]
        for member in members:
            locks.enter_context(locked_folder(member.folder))
        locks.enter_context(locked_folder(sandbox.folder))
    except FileNotFoundError:
        raise StateError("cannot checkpoint: a container of the sandbox is being deleted") from None
    if sandbox.members() != [member.id for member in members]:
        raise StateError("cannot checkpoint: a container of the sandbox is being created or deleted")
    return members


def _look(sandbox: SandboxFolder, members: list[Container]) -> _Source:
    """:raise StateError, ConfigError: the machine cannot be saved"""
    qemu = sandbox.process("qemu.pid")
    if qemu is None or not qemu.alive():
        raise StateError("container not running")
    if sandbox.paused():
        raise StateError("the container's machine is paused", hint="`runv resume --vm` lets it go on")
    record = sandbox.load()
    _check_ties(sandbox, record, members)
    started = running.started(qemu.pid)
    if started.passes_through:
        raise StateError("cannot checkpoint: a device of the host's was passed through to the machine")
    serials = list(used(sandbox))
    found = qmp.session(sandbox.path("qmp.sock"), "look at the machine", lambda client: running.look(client, serials, started.cards))
    if found.other or found.vcpus != record.vcpus:
        what = ", ".join(found.other) or f"{found.vcpus} virtual CPUs"
        raise StateError(f"cannot checkpoint: the machine was changed while it ran: it has got {what}")
    _check_disks(qemu.pid, found)
    return _Source(
        sandbox=sandbox,
        record=record,
        started=started,
        found=found,
        cards=_cards(sandbox, started),
        containers=[_container(sandbox, member) for member in members],
        programs=programs.contents({**record.machine, "qemu": f"/proc/{qemu.pid}/exe"}),
    )


def _check_ties(sandbox: SandboxFolder, record: SandboxRecord, members: list[Container]) -> None:
    """What ties a machine to this host and cannot be saved."""
    if not record.machine:
        raise StateError("cannot checkpoint: the machine was started by an earlier version of runv")
    if record.machine["share"] == "virtiofs":
        raise StateError("cannot checkpoint: the machine shares folders by virtiofs", hint="QEMU cannot save such a machine")
    waiting = json.loads(_text_of(sandbox.path("waiting.json")) or "{}")
    if waiting:
        raise StateError(f"cannot checkpoint: container {min(waiting)} of the machine, which was restored, is still to be restored")
    for member in members:
        relay = member.relay()
        if relay is not None and relay.alive():
            raise StateError(f"cannot checkpoint: a socket of the host is mounted in container {member.id}")
    relay = sandbox.process("relay.pid")
    if relay is not None and relay.alive():
        raise StateError("cannot checkpoint: the sandbox uses a resolver that runs on the host (127.0.0.11)")
    if os.path.exists(sandbox.path("shared")):
        raise StateError(
            f"cannot checkpoint: {_what_is_shared(members)}",
            hint="QEMU cannot save a machine that has the host's files mounted; a root on disks, and no bind mounts, can be saved",
        )


def _what_is_shared(members: list[Container]) -> str:
    for member in members:
        config = _config_of(member)
        has_disk = disk_paths(member.load().bundle, config) or (config.annotations or {}).get(COPY) == "true"
        if config.root is not None and os.path.isdir(member.load().rootfs) and not has_disk:
            return f"the root of container {member.id} is a folder of the host, {member.load().rootfs}"
        for mount in config.mounts or []:
            if mount.is_bind and not mount.source.startswith("/dev/shm/"):
                return f"{mount.source} of the host is mounted at {mount.destination} in container {member.id}"
    return "its guest has mounted files of the host, for a container that has gone"


def _config_of(member: Container) -> Config:
    with open(member.path("config.json"), "rb") as file:
        return parse_config(file.read(), "config.json").config


def _check_disks(pid: int, found: running.Found) -> None:
    for disk in found.disks:
        path = _path_of(pid, disk)
        if disk.serial.startswith("b") and not disk.read_only:
            raise StateError(f"cannot checkpoint: {path} is a block device that the machine writes to", hint="only image files become part of a checkpoint")


def _path_of(pid: int, disk: running.DiskFound) -> str:
    return os.readlink(f"/proc/{pid}/fd/{disk.fd}")


def _cards(sandbox: SandboxFolder, started: running.Started) -> list[SavedCard]:
    links = {card[0]: card[1] for card in NetRecord(sandbox).cards}
    numbers = [(int("".join(filter(str.isdigit, name))), queues) for name, queues in started.cards]
    return [SavedCard(number, queues, links.get(number, "")) for number, queues in numbers]


def _container(sandbox: SandboxFolder, member: Container) -> SavedContainer:
    record = member.load()
    own = disks.own_of(sandbox, member.id)
    return SavedContainer(
        id=member.id,
        bundle=record.bundle,
        config=json.loads(read_text(member.path("config.json"))),
        started=bool(record.started),
        paused=os.path.exists(member.path("paused")),
        disks=[disks.serial_at(sandbox, path, own) for path in disk_paths(record.bundle, _config_of(member))],
        used=own,
        volumes=_text_of(member.path("volumes.json")),
    )


def _text_of(path: str) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        return ""


def _save(source: _Source, folder: image.Folder, *, leave_running: bool) -> None:
    sandbox = source.sandbox
    with connect(sandbox) as agent, _standing(sandbox, agent) as standing:
        state = _save_state(sandbox, folder)
        folder.complete(_describe(source, state, _save_disks(sandbox, source.found, folder)))
        if not leave_running:
            standing.pop_all()
            kill_processes(sandbox)
            os.unlink(sandbox.path("paused"))


@contextlib.contextmanager
def _standing(sandbox: SandboxFolder, agent: Agent) -> Iterator[contextlib.ExitStack]:
    """While the machine is saved. It is marked as paused first: whoever looks finds it so, and `resume --vm` helps if we are killed. The machine
    goes on afterwards, unless what is yielded was emptied."""
    with contextlib.ExitStack() as stack:
        write_atomic(sandbox.path("paused"), "")
        stack.callback(pause.let_go_on, sandbox)
        agent.call("park", {}, _PARK_TIMEOUT_S)
        yield stack


def _save_state(sandbox: SandboxFolder, folder: image.Folder) -> copies.Content:
    try:
        fd = os.open(folder.state, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(f"create {folder.state}", error) from error
    try:
        qmp.session(sandbox.path("qmp.sock"), "save the machine", lambda client: qmp.save_whole(client, fd), _SAVE_TIMEOUT_S)
        os.fsync(fd)
        return copies.content(fd)
    except OSError as error:
        raise HostError(f"write {folder.state}", error) from error
    finally:
        os.close(fd)


def _save_disks(sandbox: SandboxFolder, found: running.Found, folder: image.Folder) -> list[SavedDisk]:
    qemu = sandbox.process("qemu.pid")
    if qemu is None or not qemu.alive():
        raise VmError("QEMU has ended")
    return [_save_disk(qemu.pid, disk, folder) for disk in found.disks]


def _save_disk(pid: int, disk: running.DiskFound, folder: image.Folder) -> SavedDisk:
    """A disk that nobody writes to stays where it is, unless it is nowhere any more."""
    path = _path_of(pid, disk)
    copied = not disk.read_only or not os.path.exists(path)
    try:
        fd = os.open(f"/proc/{pid}/fd/{disk.fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = copies.copy(fd, folder.disk(disk.serial)) if copied else copies.likeness(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"copy disk {path}", error) from error
    return SavedDisk(disk.serial, disk.lun, disk.format, path, disk.read_only, copied, content)


def _describe(source: _Source, state: copies.Content, saved_disks: list[SavedDisk]) -> Saved:
    record = source.record
    return Saved(
        format=image.FORMAT,
        version=VERSION,
        secret=record.secret,
        machine=record.machine,
        vcpus=record.vcpus,
        memory_mib=record.boot_mib,
        vcpus_max=record.vcpus_max,
        memory_max_mib=record.memory_max_mib,
        named_memory=source.started.named_memory,
        processor=programs.processor(str(record.machine["accelerator"])),
        programs=source.programs,
        controller=source.found.controller,
        cards=source.cards,
        disks=saved_disks,
        containers=source.containers,
        state=state,
    )


def _delete(container: Container, record: ContainerRecord, log: Log) -> None:
    try:
        with locked_folder(container.folder):
            poststop = hookpoints.after_delete(container, record, log)
            remove(container)
    except FileNotFoundError:
        return  # `runv run` waited for it, and was faster
    poststop()


