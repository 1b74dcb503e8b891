"""linux.resources of config.json as files of the host's cgroups, v1 and v2. Pure; ``runv.cgroups`` writes them.

On the host a cgroup holds the machine as well: QEMU, with the guest's kernel and caches, and the stand-ins. So limits are widened by what that may
take (``Extra``), and what keeps a container itself to its limit is the guest's cgroup. Where the guest knows nothing of what is named, the host's CPUs, NUMA nodes
and disks, the host's cgroup alone does it (``needed``), and the guest is not told (``for_guest``).
"""

import math

from runv.quick import Any, NamedTuple
from runv.spec.version import since

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.config import BlockIO, Cpu, Memory, Resources

_MIB = 1 << 20
# QEMU without the guest's memory: 60 MiB of its own under TCG, 32 of them translated code; worker threads, page tables and sockets on top.
_QEMU_BYTES = 128 * _MIB
# Of one that records its translations: more room for code, tables about it, and the file, whose pages are those of who writes it.
_RECORD_BYTES = 160 * _MIB
_PAGE_TABLES_SHIFT = 6  # 1/64 of the guest's memory: 8 bytes for each page, twice over, and the rest to spare
_GUEST_KERNEL_BYTES = 64 * _MIB
_STANDIN_BYTES = 32 * _MIB
# QEMU's worker threads (its pool has up to 64), its own, and the bridge.
_QEMU_TASKS = 96
# Each process of a container has one stand-in; what comes and goes in between.
_STANDIN_TASKS = 32

_V1 = 1
_V2 = 2


class Extra(NamedTuple):
    """What a cgroup on the host has to hold beside the container: bytes that come on top of a limit, the least that a limit is widened from, and tasks."""

    memory: int
    least_memory: int
    tasks: int


class Setting(NamedTuple):
    """One thing to write. ``what``: its name in config.json. ``choices``: files with their texts, of which the first that exists is
    written. ``needed``: nobody but this host's cgroup can do it. ``late``: not before the machine is up, whose boot is not the container's work."""

    what: str
    version: int
    controller: str
    choices: tuple[tuple[str, str], ...]
    needed: bool = False
    late: bool = False


def of_machine(memory_mib: int, vcpus: int, *, cloned_mib: int = 0, records: bool = False) -> Extra:
    """For the cgroup of the container that a machine was made for: all of the guest's memory may come to be used, by whatever container of the pod.
    What came from a template, ``cloned_mib``, may be counted twice: who is the first to look at a page of it that was never written brings that in as well.
    ``records``: what it translates is to be kept."""
    memory = (memory_mib + cloned_mib) * _MIB
    own = _QEMU_BYTES + (_RECORD_BYTES if records else 0)
    return Extra(own + (memory >> _PAGE_TABLES_SHIFT), memory, _QEMU_TASKS + vcpus + _STANDIN_TASKS)


def of_standin() -> Extra:
    """For the cgroup of a container that joined a machine: only stand-ins are in it."""
    return Extra(_STANDIN_BYTES, 0, _STANDIN_TASKS)


def settings(resources: "Resources | None", extra: Extra) -> list[Setting]:
    """Everything to write, for hosts of either version."""
    if resources is None:
        return []
    found: list[Setting] = []
    if resources.memory:
        found += _memory(resources.memory, extra)
    if resources.cpu:
        found += _cpu(resources.cpu)
    if resources.pids and resources.pids.limit:
        limit = resources.pids.limit
        text = str(limit + extra.tasks) if limit > 0 else "max"
        found += [Setting("pids.limit", version, "pids", (("pids.max", text),)) for version in (_V1, _V2)]
    if resources.block_io:
        found += _block_io(resources.block_io)
    return found


def _memory(memory: "Memory", extra: Extra) -> list[Setting]:
    found: list[Setting] = []

    def add(what: str, v1: str, v2: str, value: int) -> None:
        if v1:
            found.append(Setting(f"memory.{what}", _V1, "memory", ((v1, str(value) if value >= 0 else "-1"),)))
        if v2:
            found.append(Setting(f"memory.{what}", _V2, "memory", ((v2, str(value) if value >= 0 else "max"),)))

    limit, swap, reservation = memory.limit or 0, memory.swap or 0, memory.reservation or 0
    widened = max(limit, extra.least_memory) + extra.memory if limit > 0 else -1
    if limit:
        add("limit", "memory.limit_in_bytes", "memory.max", widened)
    # OCI's swap is memory and swap together, as v1's; v2 counts swap alone. Without a limit of memory it means nothing.
    if swap < 0 or (limit < 0 and not swap):
        add("swap", "memory.memsw.limit_in_bytes", "memory.swap.max", -1)
    elif swap and limit > 0:
        add("swap", "memory.memsw.limit_in_bytes", "", widened + max(0, swap - limit))
        add("swap", "", "memory.swap.max", max(0, swap - limit))
    if reservation:
        low = reservation + _GUEST_KERNEL_BYTES + extra.memory if reservation > 0 else -1
        add("reservation", "memory.soft_limit_in_bytes", "memory.low", min(low, widened) if widened > 0 else low)
    if memory.swappiness is not None:
        add("swappiness", "memory.swappiness", "", memory.swappiness)
    return found


def _cpu(cpu: "Cpu") -> list[Setting]:
    found: list[Setting] = []

    def add(what: str, version: int, file: str, text: str, *, late: bool = False) -> None:
        found.append(Setting(f"cpu.{what}", version, "cpu", ((file, text),), late=late))

    if cpu.shares:
        add("shares", _V1, "cpu.shares", str(cpu.shares))
        add("shares", _V2, "cpu.weight", str(cpu_weight(cpu.shares)))
    if cpu.idle is not None:
        add("idle", _V1, "cpu.idle", str(cpu.idle))
        add("idle", _V2, "cpu.idle", str(cpu.idle))
    if cpu.period:
        add("period", _V1, "cpu.cfs_period_us", str(cpu.period), late=True)
    if cpu.quota:
        add("quota", _V1, "cpu.cfs_quota_us", str(max(cpu.quota, -1)), late=True)
    if cpu.quota or cpu.period:
        quota = str(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
        add("quota", _V2, "cpu.max", f"{quota} {cpu.period}" if cpu.period else quota, late=True)
    if cpu.burst is not None:
        add("burst", _V1, "cpu.cfs_burst_us", str(cpu.burst), late=True)
        add("burst", _V2, "cpu.max.burst", str(cpu.burst), late=True)
    for name, value in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if value:
            file = ((f"cpuset.{name}", value),)
            found += [Setting(f"cpu.{name}", version, "cpuset", file, needed=True) for version in (_V1, _V2)]
    return found


def without_quota() -> list[Setting]:
    """Lifts a quota. A machine of several containers is nobody's own: the guest divides it among them."""
    return [
        Setting("cpu.quota", _V1, "cpu", (("cpu.cfs_quota_us", "-1"),)),
        Setting("cpu.quota", _V2, "cpu", (("cpu.max", "max"),)),
    ]


def cpu_weight(shares: int) -> int:
    """v1's 2..262144 as v2's 1..10000, such that the default of 1024 becomes the default of 100, as runc converts them."""
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def _io_weight(weight: int) -> int:
    """10..1000 as 1..10000."""
    return 1 + (weight - 10) * 9999 // 990


_THROTTLES = (
    ("throttle_read_bps_device", "throttleReadBpsDevice", "read_bps", "rbps"),
    ("throttle_write_bps_device", "throttleWriteBpsDevice", "write_bps", "wbps"),
    ("throttle_read_iops_device", "throttleReadIOPSDevice", "read_iops", "riops"),
    ("throttle_write_iops_device", "throttleWriteIOPSDevice", "write_iops", "wiops"),
)


def _block_io(io: "BlockIO") -> list[Setting]:
    found: list[Setting] = []

    def add(what: str, v1: tuple[tuple[str, str], ...], v2: tuple[tuple[str, str], ...]) -> None:
        found.append(Setting(f"blockIO.{what}", _V1, "blkio", v1, needed=True))
        found.append(Setting(f"blockIO.{what}", _V2, "io", v2, needed=True))

    if io.weight:
        own = str(io.weight)
        add(
            "weight",
            (("blkio.weight", own), ("blkio.bfq.weight", own)),
            (("io.bfq.weight", own), ("io.weight", f"default {_io_weight(io.weight)}")),
        )
    for device in io.weight_device or []:
        if device.weight:
            own = f"{device.major}:{device.minor} {device.weight}"
            add(
                "weightDevice",
                (("blkio.weight_device", own), ("blkio.bfq.weight_device", own)),
                (
                    ("io.bfq.weight", own),
                    ("io.weight", f"{device.major}:{device.minor} {_io_weight(device.weight)}"),
                ),
            )
    for attribute, member, v1, v2 in _THROTTLES:
        for throttle in getattr(io, attribute) or []:
            number = f"{throttle.major}:{throttle.minor}"
            add(
                member,
                ((f"blkio.throttle.{v1}_device", f"{number} {throttle.rate}"),),
                (("io.max", f"{number} {v2}={throttle.rate or 'max'}"),),
            )
    return found


def for_guest(resources: dict[str, Any], version: str) -> dict[str, Any]:
    """Resources as the guest is to get them: without what names CPUs, NUMA nodes and disks of the host. ``version`` is the configuration's:
    before 1.3, a pids limit of 0 was how callers wrote none."""
    kept = {name: value for name, value in resources.items() if name != "blockIO"}
    if isinstance(kept.get("pids"), dict) and kept["pids"].get("limit") == 0 and not since(version, 3):
        del kept["pids"]
    if isinstance(kept.get("cpu"), dict):
        kept["cpu"] = {name: value for name, value in kept["cpu"].items() if name not in ("cpus", "mems")}
    return kept
