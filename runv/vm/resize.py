"""Memory and virtual CPUs that come to a running machine, and memory that goes. QMP's library is imported only when they do."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from runv.errors import VmError
from runv.vm.cmdline import MEMORY_PORT

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

_DEVICE = "more-memory"
_BACKEND = "more-memory-backend"
_MIB = 1 << 20
# What the guest's kernel takes and gives memory by.
STEP_MIB = 4
# How long the guest may take until some of what was asked for has come or gone.
_STILL_S = 5.0
_POLL_S = 0.01
_LIMIT_S = 600.0


def set_memory(path: str, wanted_mib: int, most_mib: int, *, shared: bool) -> int:
    """Has the machine have ``wanted_mib`` beside what it was started with, a multiple of ``STEP_MIB``; returns how much it has when the guest has
    taken or given what it can. ``most_mib``: what it can ever have so. ``shared``: other processes see the machine's memory.

    :raise VmError: QEMU is gone, or refused
    """
    from runv.vm import qmp

    async def work(client: "QMPClient") -> int:
        if not await _memory_device(client):
            if not wanted_mib:
                return 0
            await _plug_memory(client, most_mib, shared=shared)
        device = f"/machine/peripheral/{_DEVICE}"
        await client.execute("qom-set", {"path": device, "property": "requested-size", "value": wanted_mib * _MIB})
        return await _settled(client, wanted_mib * _MIB) // _MIB

    return qmp.session(path, "change the machine's memory", work, _LIMIT_S)


async def _memory_device(client: "QMPClient") -> dict[str, Any] | None:
    found: Any = await client.execute("query-memory-devices")
    return next((entry["data"] for entry in found if entry["data"].get("id") == _DEVICE), None)


async def _plug_memory(client: "QMPClient", most_mib: int, *, shared: bool) -> None:
    from qemu.qmp import ExecuteError

    kind = {"qom-type": "memory-backend-memfd", "share": True} if shared else {"qom-type": "memory-backend-ram"}
    await client.execute("object-add", {**kind, "id": _BACKEND, "size": most_mib * _MIB, "reserve": False})
    device = {"driver": "virtio-mem-pci", "id": _DEVICE, "memdev": _BACKEND, "bus": MEMORY_PORT}
    try:
        await client.execute("device_add", device)
    except ExecuteError:
        await client.execute("object-del", {"id": _BACKEND})
        raise


async def _settled(client: "QMPClient", wanted: int) -> int:
    """Bytes, when there are as many as wanted, or nothing has changed for a while."""
    last, since = -1, time.monotonic()
    while True:
        device = await _memory_device(client)
        if device is None:
            raise VmError("cannot change the machine's memory: QEMU has lost the device")
        size = int(device["size"])
        if size != last:
            last, since = size, time.monotonic()
        if size == wanted or time.monotonic() - since > _STILL_S:
            return size
        await asyncio.sleep(_POLL_S)


def add_vcpus(path: str, count: int) -> None:
    """Plugs in virtual CPUs until the machine has ``count``; nothing where it has as many.

    :raise VmError: QEMU is gone, or refused
    """
    from runv.vm import qmp

    async def work(client: "QMPClient") -> None:
        slots: Any = await client.execute("query-hotpluggable-cpus")
        free = sorted((slot for slot in slots if "qom-path" not in slot), key=lambda slot: _place(slot["props"]))
        there = len(slots) - len(free)
        for number, slot in enumerate(free[: max(0, count - there)], there):
            await client.execute("device_add", {"driver": slot["type"], "id": f"cpu{number}", **slot["props"]})

    qmp.session(path, "plug in virtual CPUs", work)


def _place(props: dict[str, int]) -> list[int]:
    return [props.get(name, 0) for name in ("socket-id", "die-id", "core-id", "thread-id")]
