"""Disks of a machine: LUNs of one virtio-scsi controller, plugged over QMP, from descriptors that QEMU is handed.

Whether a machine boots or is a clone, and whether its first container brings a disk or one that joins: always the same way. The controller is plugged with
the first disk, into a PCI Express port that every machine has for it: an empty port costs a guest 64 KiB and no time, a controller 0.6 MiB and its scan.
"""

import os

from runv.errors import VmError
from runv.quick import Any
from runv.vm.machine import Disk

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from qemu.qmp import QMPClient

_PORT = "disks-port"
_CONTROLLER = "disks"
# hotplug: off. The guest looks for disks, and lets go of them, when its agent is told (guest/init/storage/scsi.h).
CONTROLLER = {"driver": "virtio-scsi-pci", "id": _CONTROLLER, "bus": _PORT, "num_queues": 1, "hotplug": False}
_UNPLUG_TIMEOUT_S = 3.0
_POLL_S = 0.01

# For the command line.
PORT = f"pcie-root-port,id={_PORT},chassis=64,slot=64"


def blockdev(disk: Disk, fdset: int) -> dict[str, Any]:
    """The block node of a disk whose descriptor is in QEMU's ``fdset``.

    The format is always said, never probed by QEMU: a guest writes what it likes to a raw disk. Writes go through the host's page cache, and the
    guest's flushes are passed on.
    """
    file = {
        "driver": "host_device" if disk.block_device else "file",
        "filename": f"/dev/fdset/{fdset}",
        "aio": "threads",
        "read-only": disk.read_only,
        "discard": "unmap",
    }
    node = {"driver": disk.format, "node-name": disk.serial, "read-only": disk.read_only, "discard": "unmap", "file": file}
    # No name inside an image is ever followed.
    return node | ({"backing": None} if disk.format == "qcow2" else {})


def device(disk: Disk) -> dict[str, Any]:
    """The disk itself. Rotation rate 1 says that it does not rotate. All are at one target, each at the first place that is free."""
    return {
        "driver": "scsi-hd",
        "id": disk.serial,
        "scsi-id": 0,
        "bus": f"{_CONTROLLER}.0",
        "drive": disk.serial,
        "serial": disk.serial,
        "rotation_rate": 1,
    }


async def plug(qemu: "QMPClient", disks: list[Disk]) -> None:
    """Attaches disks to a running machine. What fails half-way is for ``unplug`` to take back."""
    present = await _devices(qemu)
    if _CONTROLLER not in present:
        await qemu.execute("device_add", CONTROLLER)
    for disk in disks:
        qemu.send_fd_scm(disk.fd)
        added: Any = await qemu.execute("add-fd", {"opaque": disk.serial})
        await qemu.execute("blockdev-add", blockdev(disk, added["fdset-id"]))
        await qemu.execute("device_add", device(disk))


async def unplug(qemu: "QMPClient", serials: list[str]) -> None:
    """Takes disks away, as far as they are there; the guest has let go of them before."""
    wanted = set(serials)
    # Asked once for all: with many disks each answer is long.
    present, sets = await _devices(qemu), await _fdsets(qemu)
    for serial in serials:
        if _copy_name(serial) in sets:
            await end_copy(qemu, serial)
    nodes: Any = await qemu.execute("query-named-block-nodes", {"flat": True})
    await _remove_devices(qemu, [serial for serial in serials if serial in present])
    for node in nodes:
        if node["node-name"] in wanted:
            await qemu.execute("blockdev-del", {"node-name": node["node-name"]})
    for serial in serials:
        for fdset in sets.get(serial, ()):
            await qemu.execute("remove-fd", {"fdset-id": fdset})


async def _fdsets(qemu: "QMPClient") -> dict[str, list[int]]:
    """What QEMU has descriptors of, disks and copies by name, and in which sets they are."""
    sets: Any = await qemu.execute("query-fdsets")
    found: dict[str, list[int]] = {}
    for fdset in sets:
        for fd in fdset["fds"]:
            found.setdefault(fd.get("opaque", ""), []).append(fdset["fdset-id"])
    return found


async def _devices(qemu: "QMPClient") -> set[str]:
    """The ids of the devices that there are."""
    entries: Any = await qemu.execute("qom-list", {"path": "/machine/peripheral"})
    return {entry["name"] for entry in entries}


async def _remove_devices(qemu: "QMPClient", serials: list[str]) -> None:
    """All at once: each takes QEMU some 60 ms, in which it does nothing."""
    import asyncio  # the command line needs this module as well, at every start

    left = set(serials)

    async def wait(deleted: Any) -> None:
        while left:
            event = await deleted.get()
            left.discard(event["data"].get("device"))

    with qemu.listener("DEVICE_DELETED") as deleted:
        for serial in serials:
            await qemu.execute("device_del", {"id": serial})
        try:
            await asyncio.wait_for(wait(deleted), _UNPLUG_TIMEOUT_S)
        except TimeoutError:
            raise VmError(f"cannot detach disk {min(left)}: the machine holds on to it") from None


async def is_there(qemu: "QMPClient", serial: str) -> bool:
    """Whether the machine has the disk."""
    return serial in await _devices(qemu)


async def size_of(qemu: "QMPClient", serial: str) -> int:
    """How many bytes the guest sees of a disk.

    :raise VmError: there is no such disk
    """
    nodes: Any = await qemu.execute("query-named-block-nodes", {"flat": True})
    for node in nodes:
        if node["node-name"] == serial:
            return int(node["image"]["virtual-size"])
    raise VmError(f"the machine has no disk {serial}")


async def resize(qemu: "QMPClient", serial: str, size: int) -> None:
    """Lets a disk have ``size`` bytes, and its image on the host as well. The guest has yet to look.

    :raise VmError: it would become smaller
    """
    if size < (present := await size_of(qemu, serial)):
        raise VmError(f"the disk has {present} bytes, and cannot become smaller")
    await qemu.execute("block_resize", {"node-name": serial, "size": size})


def _copy_name(serial: str) -> str:
    return f"to-{serial}"


async def begin_copy(qemu: "QMPClient", serial: str, fd: int) -> None:
    """Begins to copy a disk to an empty file; holes stay holes. Until ``finish_copy`` what the guest writes goes to both."""
    name = _copy_name(serial)
    await end_copy(qemu, serial)  # one whose maker was killed
    os.truncate(fd, await size_of(qemu, serial))
    qemu.send_fd_scm(fd)
    added: Any = await qemu.execute("add-fd", {"opaque": name})
    file = {"driver": "file", "filename": f"/dev/fdset/{added['fdset-id']}", "aio": "threads", "discard": "unmap"}
    await qemu.execute("blockdev-add", {"driver": "raw", "node-name": name, "discard": "unmap", "file": file})
    # Not blockdev-backup, which would take the moment of its beginning: it fills the holes of the target.
    job = {"job-id": name, "device": serial, "target": name, "sync": "full", "copy-mode": "write-blocking", "auto-dismiss": False}
    await qemu.execute("blockdev-mirror", job)


async def copied(qemu: "QMPClient", serial: str) -> bool:
    """Whether all is copied, so that the copy can be finished.

    :raise VmError: it failed, or there is none any more
    """
    return await _copy_status(qemu, serial) == "ready"


async def _copy_status(qemu: "QMPClient", serial: str) -> str:
    jobs: Any = await qemu.execute("query-jobs")
    job = next((job for job in jobs if job["id"] == _copy_name(serial)), None)
    if job is None or job.get("error"):
        raise VmError(job["error"] if job else "the disk was taken away")
    return str(job["status"])


async def finish_copy(qemu: "QMPClient", serial: str) -> None:
    """The copy is what the disk is at this moment; QEMU lets go of it.

    :raise VmError: it failed
    """
    import asyncio

    # That is how a mirror that is complete is ended without taking the place of its source.
    await qemu.execute("block-job-cancel", {"device": _copy_name(serial)})
    while await _copy_status(qemu, serial) != "concluded":
        await asyncio.sleep(_POLL_S)
    await end_copy(qemu, serial)


async def end_copy(qemu: "QMPClient", serial: str) -> None:
    """Lets go of a copy and its file, complete or not; that there is none is fine."""
    import asyncio

    name = _copy_name(serial)
    jobs: Any = await qemu.execute("query-jobs")
    status = next((job["status"] for job in jobs if job["id"] == name), "")
    if status and status != "concluded":
        await qemu.execute("block-job-cancel", {"device": name, "force": True})
    while status and status != "concluded":  # the session has a deadline
        await asyncio.sleep(_POLL_S)
        jobs = await qemu.execute("query-jobs")
        status = next((job["status"] for job in jobs if job["id"] == name), "")
    if status:
        await qemu.execute("job-dismiss", {"id": name})
    nodes: Any = await qemu.execute("query-named-block-nodes", {"flat": True})
    if any(node["node-name"] == name for node in nodes):
        await qemu.execute("blockdev-del", {"node-name": name})
    for fdset in (await _fdsets(qemu)).get(name, ()):
        await qemu.execute("remove-fd", {"fdset-id": fdset})
