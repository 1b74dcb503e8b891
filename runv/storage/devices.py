"""``linux.devices`` and their cgroup rules: which of the host's devices become disks of the machine, and which the guest has itself.

The numbers in config.json are the host's. A block device is attached as a disk, and the guest gives it numbers of its own. A character device
cannot be carried over: the guest has one of the same name, maybe with other numbers, or there is none.
"""

import os
import stat

from runv.errors import ConfigError, reason
from runv.files import read_text
from runv.quick import Any, NamedTuple
from runv.storage.images import Wish, device_serial, merge, wish
from runv.storage.plan import GuestDisk

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Iterable

    from runv.spec.config import Config, Device

Numbers = tuple[int, int]

# null, zero, full, random, urandom, kmsg; tty, console, ptmx: the same everywhere.
_EVERYWHERE = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (1, 11), (5, 0), (5, 1), (5, 2)})
_PRIVILEGED_CAPABILITIES = {"CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_MKNOD"}
_VFIO_CONTROL = "vfio/vfio"
IOMMU_GROUPS = "/sys/kernel/iommu_groups"


class DevicePlan(NamedTuple):
    """``devices`` and ``rules`` as in config.json; where one is about a disk it has the member ``disk``, its serial, and where it is about a
    character device that needs looking up, ``name``, the host's. A device that the host does not have is ``absent``: as with runc there is a node, which
    leads nowhere; its rule is dropped, since in the guest its numbers may be anybody's. ``pci``: the addresses of devices that are passed through as they are."""

    devices: tuple[dict[str, Any], ...] = ()
    rules: tuple[dict[str, Any], ...] = ()
    disks: tuple[Wish, ...] = ()
    pci: tuple[str, ...] = ()
    privileged: bool = False

    @property
    def asks_guest(self) -> bool:
        """Whether it takes the guest's own list of character devices to settle it."""
        return any("name" in device for device in self.devices)

    @property
    def ignored(self) -> list[str]:
        """Sentences about devices that are there in name only."""
        absent = [] if self.privileged else [device["path"] for device in self.devices if "absent" in device]
        return [f"linux.devices: {path} leads nowhere: the host has no such device" for path in absent]


class Placed(NamedTuple):
    """Devices and rules with the guest's numbers. ``left_out``: the paths of those that a privileged container does not get."""

    devices: list[dict[str, Any]]
    rules: list[dict[str, Any]]
    left_out: list[str]


def plan_devices(config: "Config", raw: dict[str, Any], others: "Iterable[Wish]" = ()) -> DevicePlan:
    """Settles what each device is. ``others``: disks that the container has beside these, which rules may be about.

    :raise ConfigError: a device that cannot be attached
    """
    linux = raw.get("linux") or {}
    listed = list(zip(config.linux.devices or [], linux.get("devices") or [], strict=True))
    rules = list((linux.get("resources") or {}).get("devices") or [])
    privileged = is_privileged(config, rules)
    names: dict[Numbers, str] = {}
    disks, devices, pci = [], [], []
    for device, entry in listed:
        numbers = (device.major, device.minor)
        if device.type == "b":
            path = _host_path(device)
            if privileged and path in ("", device.path):
                continue  # one of all of the host's, which the engine lists for every privileged container
            if not path:
                devices.append({**entry, "absent": True})
                continue
            disks.append(_disk(device, path, rules))
            devices.append({**entry, "disk": disks[-1].serial})
        elif device.type in ("c", "u") and numbers not in _EVERYWHERE:
            name = host_name("char", numbers)
            if name.startswith("vfio/"):
                pci += [] if privileged or name == _VFIO_CONTROL else group_addresses(name.removeprefix("vfio/"))
                continue
            names[numbers] = name
            devices.append({**entry, "name": name} if name else {**entry, "absent": True})
        else:
            devices.append(dict(entry))
    serials = {disk.serial for disk in (*disks, *others)}
    marked = tuple(marked_rule(rule, serials, names) for rule in rules)
    return DevicePlan(tuple(devices), marked, merge(disks), tuple(pci), privileged)


def is_privileged(config: "Config", rules: list[dict[str, Any]]) -> bool:
    """Whether it is what engines call a privileged container: every device is allowed, and the power to use it is there. Pure."""
    capabilities = config.process.capabilities if config.process else None
    allowed = any(
        rule.get("allow")
        and rule.get("type") in (None, "", "a")
        and not {"major", "minor"} & {key for key in rule if rule[key] not in (None, -1)}
        and set(rule.get("access") or "rwm") >= set("rwm")
        for rule in rules
    )
    return allowed and set((capabilities or {}).get("bounding", [])) >= _PRIVILEGED_CAPABILITIES


def marked_rule(rule: dict[str, Any], serials: set[str], names: dict[Numbers, str]) -> dict[str, Any]:
    """A rule with ``disk`` or ``name`` where it is about exactly one device that has one. Pure."""
    numbers = _numbers(rule)
    if numbers and rule.get("type") == "b" and device_serial(*numbers) in serials:
        return {**rule, "disk": device_serial(*numbers)}
    if numbers and rule.get("type") == "c" and numbers in names:
        return {**rule, "name": names[numbers]}
    return dict(rule)


def place_devices(planned: DevicePlan, disks: dict[str, GuestDisk], characters: dict[str, Numbers]) -> Placed:
    """Puts the guest's numbers in. Pure.

    :raise ConfigError: a device that the guest does not have, and that was not just one of all
    """
    placed = Placed([], [], [])
    for device in planned.devices:
        if "absent" in device and planned.privileged:
            placed.left_out.append(device["path"])
            continue
        if "absent" in device:
            placed.devices.append({key: value for key, value in device.items() if key != "absent"})
            continue
        numbers = _guest_numbers(device, disks, characters)
        if numbers is not None:
            placed.devices.append(_with(device, numbers))
        elif planned.privileged:
            placed.left_out.append(device["path"])
        else:
            raise ConfigError(f"cannot create device {device['path']}: {_what(device)}")
    for rule in planned.rules:
        numbers = _guest_numbers(rule, disks, characters)
        if numbers is not None:
            placed.rules.append(_with(rule, numbers) if {"disk", "name"} & rule.keys() else dict(rule))
    return placed


def _guest_numbers(entry: dict[str, Any], disks: dict[str, GuestDisk], characters: dict[str, Numbers]) -> Numbers | None:
    """None: there is no such device in the guest, or (a rule) it would name one that is none of the container's business."""
    if "disk" in entry:
        disk = disks[entry["disk"]]
        return disk.major, disk.minor
    if "name" in entry:
        return characters.get(entry["name"])
    numbers = _numbers(entry)
    return None if entry.get("type") == "b" and numbers is not None else numbers or (0, 0)


def _with(entry: dict[str, Any], numbers: Numbers) -> dict[str, Any]:
    placed = {key: value for key, value in entry.items() if key not in ("disk", "name")}
    return {**placed, "major": numbers[0], "minor": numbers[1]} if {"disk", "name"} & entry.keys() else placed


def _what(device: dict[str, Any]) -> str:
    numbers = f"{device.get('major')}:{device.get('minor')}"
    return f"the guest has no character device {device['name']} ({numbers} on the host)"


def _numbers(entry: dict[str, Any]) -> Numbers | None:
    """The numbers of a device, or of a rule about exactly one."""
    major, minor = entry.get("major"), entry.get("minor")
    return (major, minor) if isinstance(major, int) and isinstance(minor, int) and major >= 0 and minor >= 0 else None


def host_name(kind: str, numbers: Numbers) -> str:
    """What the host calls a device, below /dev (``net/tun``); empty when it has none. ``kind``: ``char`` or ``block``."""
    try:
        lines = read_text(f"/sys/dev/{kind}/{numbers[0]}:{numbers[1]}/uevent").splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("DEVNAME=") for line in lines if line.startswith("DEVNAME=")), "")


def _host_path(device: "Device") -> str:
    """The host's node of a block device, whatever the container calls it; empty when there is none."""
    wanted = os.makedev(device.major, device.minor)
    for path in ("/dev/" + host_name("block", (device.major, device.minor)), device.path):
        try:
            status = os.stat(path)
        except OSError:
            continue
        if stat.S_ISBLK(status.st_mode) and status.st_rdev == wanted:
            return path
    return ""


def _disk(device: "Device", path: str, rules: list[dict[str, Any]]) -> Wish:
    about = [rule for rule in rules if rule.get("type") == "b" and _numbers(rule) == (device.major, device.minor)]
    writable = not about or any(rule.get("allow") and "w" in (rule.get("access") or "rwm") for rule in about)
    return wish(path, read_only=not writable)


def group_addresses(group: str) -> list[str]:
    """The PCI addresses of an IOMMU group's devices but for its bridges, which cannot be given away.

    :raise ConfigError: there is no such group
    """
    folder = f"{IOMMU_GROUPS}/{group}/devices"
    try:
        found = sorted(os.listdir(folder))
        return [name for name in found if not read_text(f"{folder}/{name}/class").startswith("0x0604")]
    except OSError as error:
        raise ConfigError(f"cannot pass IOMMU group {group} through: {reason(error)}") from error
