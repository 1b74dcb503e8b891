"""The files of a container's cgroup v2 as the statistics that ``runc events`` prints. Pure: texts in, JSON out.

Members that runc leaves out when they are nothing are left out here, too.
"""

from typing import Any

Json = dict[str, Any]
Files = dict[str, str]

_UNLIMITED = 2**64 - 1
# io.stat's keys: which of runc's lists they go to, and under which operation.
_IO = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "dbytes": ("ioServiceBytesRecursive", "Discard"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
    "dios": ("ioServicedRecursive", "Discard"),
}


def statistics(files: Files) -> Json:
    """The ``data`` of an event of type ``stats``; nanoseconds and bytes."""
    return {
        "cpu": _cpu(files),
        "cpuset": _cpuset(files),
        "memory": _memory(files),
        "pids": _pids(files),
        "blkio": _block_io(files),
        "hugetlb": _huge_pages(files),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _keyed(text: str) -> dict[str, int]:
    """``name number`` in each line."""
    pairs = (line.partition(" ") for line in text.splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdecimal()}


def _number(text: str) -> int:
    """A number; ``max`` and nothing at all are told apart from it."""
    word = text.strip()
    return _UNLIMITED if word == "max" else int(word) if word.isdecimal() else 0


def _present(values: Json) -> Json:
    return {name: value for name, value in values.items() if value}


def _cpu(files: Files) -> Json:
    stat = _keyed(files.get("cpu.stat", ""))
    usage = {
        "total": stat.get("usage_usec", 0) * 1000,
        "kernel": stat.get("system_usec", 0) * 1000,
        "user": stat.get("user_usec", 0) * 1000,
    }
    throttling = {
        "periods": stat.get("nr_periods", 0),
        "throttledPeriods": stat.get("nr_throttled", 0),
        "throttledTime": stat.get("throttled_usec", 0) * 1000,
    }
    return {"usage": usage, "throttling": _present(throttling)} | _pressure(files, "cpu")


def _pressure(files: Files, controller: str) -> Json:
    """PSI, where the guest's kernel has it: ``some avg10=0.00 avg60=0.00 avg300=0.00 total=0``."""
    found: Json = {}
    for line in files.get(f"{controller}.pressure", "").splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        found[kind] = {name: int(text) if name == "total" else float(text) for name, text in values.items()}
    return {"psi": found} if found else {}


def _cpuset(files: Files) -> Json:
    zeroes = (
        "cpu_exclusive mem_hardwall mem_exclusive memory_migrate memory_spread_page memory_spread_slab memory_pressure "
        "sched_load_balance sched_relax_domain_level"
    ).split()
    lists = {name: _list(files.get(f"cpuset.{name}.effective", "")) for name in ("cpus", "mems")}
    return _present(lists) | dict.fromkeys(zeroes, 0)


def _list(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.strip().split(",") if text.strip() else []:
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _memory(files: Files) -> Json:
    raw = _keyed(files.get("memory.stat", ""))
    usage, limit = _number(files.get("memory.current", "")), _number(files.get("memory.max", ""))
    swap, swap_limit = _number(files.get("memory.swap.current", "")), _number(files.get("memory.swap.max", ""))
    failures = _keyed(files.get("memory.events", "")).get("max", 0)
    return {
        **_present({"cache": raw.get("file", 0)}),
        "usage": _usage(limit, usage, _number(files.get("memory.peak", "")), failures),
        # runc's word means memory and swap together, as with cgroups of version 1.
        "swap": _usage(min(limit + swap_limit, _UNLIMITED), usage + swap, 0, 0),
        "kernel": {"limit": 0, **_present({"usage": raw.get("kernel", 0)}), "failcnt": 0},
        "kernelTCP": {"limit": 0, **_present({"usage": raw.get("sock", 0)}), "failcnt": 0},
        "raw": raw,
    } | _pressure(files, "memory")


def _usage(limit: int, usage: int, peak: int, failures: int) -> Json:
    return {"limit": limit, **_present({"usage": usage, "max": peak}), "failcnt": failures}


def _pids(files: Files) -> Json:
    limit = _number(files.get("pids.max", ""))
    return _present({"current": _number(files.get("pids.current", "")), "limit": 0 if limit == _UNLIMITED else limit})


def _block_io(files: Files) -> Json:
    found: Json = {}
    for line in files.get("io.stat", "").splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in _IO:
                name, operation = _IO[key]
                entry = {"major": int(major), "minor": int(minor), "op": operation, "value": int(value)}
                found.setdefault(name, []).append(entry)
    return found | _pressure(files, "io")


def _huge_pages(files: Files) -> Json:
    found: Json = {}
    for name, text in files.items():
        if name.startswith("hugetlb.") and name.endswith(".current"):
            size = name.removeprefix("hugetlb.").removesuffix(".current")
            failures = _keyed(files.get(f"hugetlb.{size}.events", "")).get("max", 0)
            found[size] = {**_present({"usage": _number(text)}), "failcnt": failures}
    return found
