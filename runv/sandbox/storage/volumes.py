"""Volumes of a running container: disks that come to it and go, grow, and are copied while they are written to.

``volumes.json`` of the container's folder says which disk was attached where. It is written before the disk comes, and again when it has gone.
"""

import contextlib
import functools
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from runv.agent.client import Agent
from runv.errors import ConfigError, HostError, NotFoundError, StateError, VmError
from runv.files import locked_folder, read_text, write_atomic
from runv.sandbox.connection import connect
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.storage import copies, disks
from runv.sandbox.storage.opened import Opened, used
from runv.spec.config import Mount
from runv.state import CREATED, RUNNING, Container
from runv.storage import plan as storage
from runv.storage.devices import DevicePlan
from runv.storage.images import Wish, wish
from runv.storage.plan import GuestDisk
from runv.storage.words import DISK_TYPES, check_words
from runv.vm import disks as machine_disks
from runv.vm import qmp

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

_T = TypeVar("_T")
# The guest copies what the image has, or grows a file system.
_MOUNT_TIMEOUT_S = 600.0
_POLL_S, _POLL_MAX_S = 0.02, 0.5


class Volume(NamedTuple):
    """``added``: the disk came with it, and was not among the container's before. ``complete``: it was mounted; else whoever attached it was killed."""

    destination: str
    path: str
    serial: str
    added: bool
    complete: bool = False


@contextlib.contextmanager
def _running(container: Container) -> Iterator[tuple[SandboxFolder, Agent]]:
    with _locked(container):
        record = container.load()
        if container.status(record)[0] not in (CREATED, RUNNING):
            raise StateError("container not running")
        sandbox = SandboxFolder(container.root, record.sandbox)
        with locked_folder(sandbox.folder), connect(sandbox) as agent:
            yield sandbox, agent


@contextlib.contextmanager
def _locked(container: Container) -> Iterator[None]:
    if not container.exists():
        raise NotFoundError("container does not exist")
    with locked_folder(container.folder):
        yield


def listing(container: Container) -> list[Volume]:
    """What was attached to it, in the order of time."""
    container.load()
    return [volume for volume in _load(container).values() if volume.complete]


def _load(container: Container) -> dict[str, Volume]:
    try:
        return {entry["destination"]: Volume(**entry) for entry in json.loads(read_text(container.path("volumes.json")))}
    except FileNotFoundError:
        return {}


def _save(container: Container, volumes: dict[str, Volume]) -> None:
    write_atomic(container.path("volumes.json"), json.dumps([volume._asdict() for volume in volumes.values()]))


def attach(container: Container, path: str, destination: str, fstype: str, options: list[str]) -> None:
    """Mounts the file system on the disk at ``path``. ``fstype`` empty: the guest looks. ``options``: as of a mount in config.json.

    :raise ConfigError: it is no disk, something is attached there, or the options are wrong
    :raise StateError: the container is not running
    :raise AgentError: the guest cannot mount it; nothing of it is left then
    """
    # The type that is looked for is that of a disk.
    mount = Mount(destination=destination, type=fstype or "ext4", source=path, options=options)
    if mount.is_bind or "remount" in options or not destination.startswith("/"):
        raise ConfigError(f"cannot attach {path} at {destination}: a file system on a disk is mounted at an absolute path")
    check_words(mount, "options")
    wanted = storage.volume(os.path.realpath(path), options)
    with _running(container) as (sandbox, agent):
        volumes = _whole(container, sandbox, agent)
        if destination in volumes:
            raise ConfigError(f"cannot attach {path} at {destination}: {volumes[destination].path} is attached there")
        opened = Opened([wanted], used(sandbox))
        added = wanted.serial not in disks.own_of(sandbox, container.id) or any(
            volume.serial == wanted.serial and volume.added for volume in volumes.values()
        )
        volume = Volume(destination, wanted.path, wanted.serial, added)
        try:
            _save(container, {**volumes, destination: volume})
            disks.attach(sandbox, disks.write_down(sandbox, container.id, opened))
            disk = _find(agent, wanted)
            entry = {"destination": destination, "source": disk.node, "type": fstype or disk.fstype, "options": options}
            if not entry["type"]:
                raise ConfigError(f"cannot attach {path}: no file system is known on it", hint="--type names one")
            agent.call("attach", {"container": container.id, "mount": entry}, _MOUNT_TIMEOUT_S)
            _save(container, {**volumes, destination: volume._replace(complete=True)})
        except BaseException:
            _let_go(container, sandbox, agent, volume, volumes)
            raise
        finally:
            opened.close()


def _find(agent: Agent, wanted: Wish) -> GuestDisk:
    return disks.find(agent, [wanted], DevicePlan())[0][wanted.serial]


def _let_go(container: Container, sandbox: SandboxFolder, agent: Agent, volume: Volume, others: dict[str, Volume]) -> None:
    if volume.added and all(other.serial != volume.serial for other in others.values()):
        disks.give_up(sandbox, container.id, volume.serial, agent)
    _save(container, others)


def detach(container: Container, destination: str) -> None:
    """Takes away the disk that was attached at ``destination``, or that config.json has mounted there.

    :raise NotFoundError: there is none
    :raise AgentError: it is in use in the container
    """
    with _running(container) as (sandbox, agent):
        volumes = _whole(container, sandbox, agent)
        volume = volumes.pop(destination, None) or _configured(container, sandbox, destination)
        if volume is None:
            raise NotFoundError(f"no volume is attached at {destination}")
        _unmount(container, agent, volume)
        _let_go(container, sandbox, agent, volume, volumes)


def _unmount(container: Container, agent: Agent, volume: Volume) -> None:
    disk = _find(agent, Wish(volume.serial, volume.path, True))
    place = {"destination": volume.destination, "major": disk.major, "minor": disk.minor}
    agent.call("detach", {"container": container.id, **place})


def _whole(container: Container, sandbox: SandboxFolder, agent: Agent) -> dict[str, Volume]:
    """Those that are attached. What was begun by somebody who was killed is taken back."""
    volumes = _load(container)
    for volume in [volume for volume in volumes.values() if not volume.complete]:
        del volumes[volume.destination]
        if _ask(sandbox, f"look for {volume.path}", functools.partial(machine_disks.is_there, serial=volume.serial)):
            _unmount(container, agent, volume)
        _let_go(container, sandbox, agent, volume, volumes)
    return volumes


def _configured(container: Container, sandbox: SandboxFolder, destination: str) -> Volume | None:
    """The disk that config.json has mounted there, if it is still the container's. It goes if this is the only place for it."""
    mounts = json.loads(read_text(container.path("config.json"))).get("mounts") or []
    bundle, own = container.load().bundle, disks.own_of(sandbox, container.id)
    found = [mount for mount in mounts if mount.get("type") in DISK_TYPES and "bind" not in (mount.get("options") or [])]
    places = {os.path.normpath(mount["destination"]): os.path.realpath(os.path.join(bundle, mount["source"])) for mount in found}
    path = places.get(os.path.normpath(destination))
    serial = wish(path, read_only=True).serial if path else ""
    if path is None or serial not in own:
        return None
    return Volume(destination, path, serial, list(places.values()).count(path) == 1, True)


def resize(container: Container, path: str, size: int) -> None:
    """Lets the disk at ``path`` and the file system on it grow to ``size`` bytes.

    :raise ConfigError: the container does not use it, or may only read it
    :raise VmError: it would become smaller, or the host has no space
    :raise AgentError: its file system cannot grow; the disk has grown then
    """
    wanted = wish(path, read_only=False)
    with _running(container) as (sandbox, agent):
        if _own(sandbox, container, wanted):
            raise ConfigError(f"cannot resize {path}: the sandbox has it read-only")
        _ask(sandbox, f"resize {path}", lambda qemu: machine_disks.resize(qemu, wanted.serial, size))
        _tend(agent, wanted, "grow")


def _own(sandbox: SandboxFolder, container: Container, wanted: Wish) -> bool:
    """Whether the container has the disk read-only."""
    own = disks.own_of(sandbox, container.id)
    if wanted.serial not in own:
        raise ConfigError(f"container {container.id} has no disk {wanted.path}")
    return own[wanted.serial]


def _tend(agent: Agent, wanted: Wish, what: str) -> None:
    disk = _find(agent, wanted)
    agent.call("tend", {"do": what, "disks": [{"node": disk.node, "type": disk.fstype}]}, _MOUNT_TIMEOUT_S)


def _ask(sandbox: SandboxFolder, what: str, work: Callable[["QMPClient"], Awaitable[_T]]) -> _T:
    return qmp.session(sandbox.path("qmp.sock"), what, work)


def snapshot(container: Container, path: str, target: str) -> None:
    """Makes the new file ``target`` a raw copy of the disk at ``path`` as it is now, with all that was written to it before; holes stay holes. The
    container goes on meanwhile.

    :raise ConfigError: the container does not use it
    :raise HostError: there is such a file, or it cannot be made
    :raise VmError: no space; nothing of the copy is left then
    """
    wanted = wish(path, read_only=True)
    try:
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(f"make {target}", error) from error
    try:
        with _running(container) as (sandbox, _):
            _own(sandbox, container, wanted)
            copies.note(sandbox, wanted.serial, container.id)
            _ask(sandbox, f"copy {path}", lambda qemu: machine_disks.begin_copy(qemu, wanted.serial, fd))
        try:
            _wait(sandbox, path, wanted.serial)
            _finish(container, path, wanted)
        except BaseException:
            with contextlib.suppress(VmError):  # it has ended, and the copy with it
                _ask(sandbox, f"copy {path}", lambda qemu: machine_disks.end_copy(qemu, wanted.serial))
            raise
        finally:
            copies.forget(sandbox, wanted.serial)
        os.fsync(fd)
    except BaseException:
        os.unlink(target)
        raise
    finally:
        os.close(fd)


def tidy(container: Container) -> None:
    """Takes back what was begun by somebody who was killed: volumes that were not mounted yet, and copies. The file of a copy is not ours to remove.

    :raise StateError: the container is not running
    """
    with _running(container) as (sandbox, agent):
        volumes = _whole(container, sandbox, agent)
        _save(container, volumes)
        for copy in copies.abandoned(sandbox):
            _ask(sandbox, f"end the copy of disk {copy.serial}", functools.partial(machine_disks.end_copy, serial=copy.serial))
            copies.forget(sandbox, copy.serial)


def _wait(sandbox: SandboxFolder, path: str, serial: str) -> None:
    """Asks now and then: who waited for the event would keep everybody else from the monitor."""
    pause_s = _POLL_S
    while not _ask(sandbox, f"copy {path}", lambda qemu: machine_disks.copied(qemu, serial)):
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _POLL_MAX_S)


def _finish(container: Container, path: str, wanted: Wish) -> None:
    with _running(container) as (sandbox, agent):
        if not _own(sandbox, container, wanted):
            _tend(agent, wanted, "sync")
        _ask(sandbox, f"copy {path}", lambda qemu: machine_disks.finish_copy(qemu, wanted.serial))


def as_json(volumes: list[Volume]) -> list[dict[str, Any]]:
    """For output."""
    return [{"destination": volume.destination, "path": volume.path} for volume in volumes]
