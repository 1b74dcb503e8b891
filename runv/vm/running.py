"""What there is of a machine that runs, as far as another one must have the same to go on where it stands. From QEMU's command line, and asked over QMP."""

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from runv.errors import VmError
from runv.files import read_text
from runv.vm.cmdline import MEMORY_PORT, PORT_PREFIX, card_name
from runv.vm.disks import CONTROLLER, PORT

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

_TAP = re.compile(r"tap,id=([^,]+),fds=([0-9:]+)")


class Started(NamedTuple):
    """What its command line says. ``cards``: the names of the netdevs and how many pairs of queues each has. ``named_memory``: see ``machine.Memory``.
    ``passes_through``: devices of the host's are in it."""

    cards: tuple[tuple[str, int], ...]
    named_memory: bool
    passes_through: bool


class DiskFound(NamedTuple):
    """A disk as it is plugged in. ``fd``: QEMU's own descriptor of it. ``format``: ``raw`` or ``qcow2``."""

    serial: str
    lun: int
    fd: int
    format: str
    read_only: bool


class Found(NamedTuple):
    """What QEMU says. ``controller``: whether there is that of the disks. ``other``: the names of devices that came while it ran and are none of these."""

    vcpus: int
    controller: bool
    disks: tuple[DiskFound, ...]
    other: tuple[str, ...]


def started(pid: int) -> Started:
    """How the QEMU with this pid was started."""
    words = read_text(f"/proc/{pid}/cmdline").split("\0")
    taps = [match for word in words if (match := _TAP.match(word))]
    return Started(
        cards=tuple((match[1], len(match[2].split(":"))) for match in taps),
        named_memory=any(word.endswith(",memory-backend=mem") for word in words),
        passes_through=any(word.startswith("vfio-pci,") for word in words),
    )


async def look(qemu: "QMPClient", serials: list[str], cards: tuple[tuple[str, int], ...]) -> Found:
    """Asks what there is. ``serials``: the disks that are known of.

    :raise VmError: one of them is not there
    """
    entries: Any = await qemu.execute("qom-list", {"path": "/machine/peripheral"})
    present = {entry["name"] for entry in entries if entry["type"].startswith("child<")}
    nodes: Any = await qemu.execute("query-named-block-nodes", {"flat": True})
    sets: Any = await qemu.execute("query-fdsets")
    cpus: Any = await qemu.execute("query-cpus-fast")
    descriptors = {fd["opaque"]: fd["fd"] for fdset in sets for fd in fdset["fds"] if "opaque" in fd}
    disks = []
    for serial in serials:
        node = next((node for node in nodes if node["node-name"] == serial), None)
        if node is None or serial not in present or serial not in descriptors:
            raise VmError(f"the machine has no disk {serial}")
        lun: Any = await qemu.execute("qom-get", {"path": f"/machine/peripheral/{serial}", "property": "lun"})
        disks.append(DiskFound(serial, lun, descriptors[serial], node["drv"], bool(node["ro"])))
    return Found(
        vcpus=len(cpus),
        controller=str(CONTROLLER["id"]) in present,
        disks=tuple(disks),
        other=tuple(sorted(name for name in present if not _known(name, serials, cards))),
    )


def _known(name: str, serials: list[str], cards: tuple[tuple[str, int], ...]) -> bool:
    from_the_start = {CONTROLLER["id"], MEMORY_PORT, PORT.partition("id=")[2].partition(",")[0], *(card_name(card) for card, _ in cards)}
    return name in from_the_start or name in serials or re.fullmatch(f"{PORT_PREFIX}[0-9]+", name) is not None
