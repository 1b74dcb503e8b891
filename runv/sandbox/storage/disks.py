"""The disks of a sandbox: attached when its machine starts or when a container joins, taken away when the last container that uses one leaves.

Which container uses which is written to ``disks/<container>`` of the sandbox's folder before anything is attached.
"""

import os

from runv.agent.client import Agent
from runv.errors import ConfigError
from runv.files import read_text, write_atomic
from runv.quick import dumps, loads, suppress
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.storage.opened import Opened, used
from runv.storage import images
from runv.storage.devices import DevicePlan, Numbers
from runv.storage.images import Wish
from runv.storage.plan import GuestDisk
from runv.vm.machine import Disk

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Iterable

# The guest waits 10 s for a disk to appear.
_FIND_TIMEOUT_S = 15.0


def write_down(sandbox: SandboxFolder, container: str, opened: Opened) -> list[Disk]:
    """Notes what ``container`` uses; returns what has to be attached for it. The caller holds the sandbox's lock."""
    if not opened.wishes:
        return []
    _check_names(sandbox, opened.wishes)
    present = used(sandbox)
    missing = opened.missing(present)
    modes = present | {disk.serial: disk.read_only for disk in missing}
    os.makedirs(sandbox.path("disks"), 0o700, exist_ok=True)
    _save_own(sandbox, container, own_of(sandbox, container) | {wish.serial: modes[wish.serial] for wish in opened.wishes})
    return [Disk(image.serial, image.fd, image.format, image.read_only, image.block_device) for image in missing]


def keep_names(sandbox: SandboxFolder, paths: dict[str, str]) -> None:
    """Notes where the disks of a restored machine are, by their serials, which are made of the inodes of other files: those of where it was saved.
    Of one that has no name the path is a folder, and ends so."""
    now = {serial: "" if path.endswith("/") else images.wish(path, read_only=True).serial for serial, path in paths.items()}
    write_atomic(sandbox.path("serials.json"), dumps(now))


def _names(sandbox: SandboxFolder) -> dict[str, str]:
    try:
        return dict(loads(read_text(sandbox.path("serials.json"))))
    except FileNotFoundError:
        return {}


def serial_at(sandbox: SandboxFolder, path: str, own: "Iterable[str]") -> str:
    """What the guest calls the disk at ``path``, if it is one of ``own``; empty where it is none, or where another file has taken its place."""
    with suppress(ConfigError):
        now = images.wish(path, read_only=True).serial
        names = _names(sandbox)
        return next((serial for serial in own if names.get(serial, serial) == now), "")
    return ""


def _check_names(sandbox: SandboxFolder, wishes: "Iterable[Wish]") -> None:
    """:raise ConfigError: a disk would be taken for another one, which the guest knows by its name"""
    now = _names(sandbox)
    for wanted in wishes:
        if now.get(wanted.serial, wanted.serial) != wanted.serial:
            raise ConfigError(
                f"cannot attach disk {wanted.path}: the machine, which was restored, knows another one by its name", hint="a copy of the file has another name"
            )


def own_of(sandbox: SandboxFolder, container: str) -> dict[str, bool]:
    """The serials of the disks that one container uses, and whether they are read-only."""
    try:
        return dict(loads(read_text(sandbox.path("disks", container))))
    except FileNotFoundError:
        return {}


def _save_own(sandbox: SandboxFolder, container: str, own: dict[str, bool]) -> None:
    write_atomic(sandbox.path("disks", container), dumps(own))


def attach(sandbox: SandboxFolder, disks: list[Disk]) -> None:
    """Plugs disks into the running machine.

    :raise VmError: QEMU refused
    """
    if disks:
        from runv.vm import qmp
        from runv.vm.disks import plug

        qmp.session(sandbox.path("qmp.sock"), "attach a disk", lambda qemu: plug(qemu, disks))


def detach(sandbox: SandboxFolder, container: str, agent: Agent) -> None:
    """Takes away what only ``container`` uses, which has ended. The caller holds the sandbox's lock.

    :raise VmError: QEMU refused
    :raise AgentError: the guest does not let go
    """
    own = own_of(sandbox, container)
    _unplug(sandbox, [serial for serial in own if serial not in used(sandbox, container)], agent)
    with suppress(FileNotFoundError):
        os.unlink(sandbox.path("disks", container))


def give_up(sandbox: SandboxFolder, container: str, serial: str, agent: Agent) -> None:
    """Takes away one disk, which ``container`` has no use for any more; as ``detach``."""
    own = own_of(sandbox, container)
    if serial not in used(sandbox, container):
        _unplug(sandbox, [serial], agent)
    own.pop(serial, None)
    _save_own(sandbox, container, own)


def _unplug(sandbox: SandboxFolder, serials: list[str], agent: Agent) -> None:
    if serials:
        from runv.vm import qmp
        from runv.vm.disks import unplug

        agent.call("release", {"disks": serials}, _FIND_TIMEOUT_S)
        qmp.session(sandbox.path("qmp.sock"), "detach a disk", lambda qemu: unplug(qemu, serials))


def find(agent: Agent, wishes: "Iterable[Wish]", devices: DevicePlan) -> tuple[dict[str, GuestDisk], dict[str, Numbers]]:
    """Asks the guest under which names and numbers it has the disks, and, where that matters, its character devices.

    :raise AgentError: a disk did not appear
    """
    serials = [wish.serial for wish in wishes]
    if not serials and not devices.asks_guest:
        return {}, {}
    request = {"disks": serials, "characters": devices.asks_guest}
    answer = agent.call("devices", request, _FIND_TIMEOUT_S)
    disks = {serial: GuestDisk(**disk) for serial, disk in answer["disks"].items()}
    return disks, {name: (numbers[0], numbers[1]) for name, numbers in answer["characters"].items()}
