# SPDX-License-Identifier: Apache-2.0
"""What the processes that belong to pods take of the host: memory and time of the processor."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

from bench.timing import BenchError

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def pids(root: Path, pod: str) -> dict[str, int]:
    """The processes of a pod by what they are: the machine's and the first process's stand-in."""
    sandbox = next(iter(root.glob(f"@sandboxes/*/members/{pod}")), None)
    if sandbox is None:
        raise BenchError(f"pod {pod} has no machine")
    files = {"stand-in": root / pod / "init.pid"} | {file.stem: file for file in sandbox.parents[1].glob("*.pid")}
    return {what: int(file.read_text().split()[0]) for what, file in files.items()}


def pss_kb(pid: int) -> dict[str, float]:
    """The proportional set size of a process in KB, by what it is."""
    try:
        return pss_parts(Path(f"/proc/{pid}/smaps").read_text())
    except OSError as error:
        raise BenchError(f"process {pid} has no memory: {error}") from error


def pss_parts(smaps: str) -> dict[str, float]:
    """The same from the text of smaps (proc(5)): pure."""
    parts: dict[str, float] = {}
    kind = ""
    for line in smaps.splitlines():
        fields = line.split(maxsplit=5)
        if "-" in fields[0] and not fields[0].endswith(":"):
            kind = _kind(fields[1], fields[5] if len(fields) > 5 else "")
        elif fields[0] == "Pss:":
            parts[kind] = parts.get(kind, 0) + float(fields[1])
    return parts


def _kind(permissions: str, name: str) -> str:
    if "w" in permissions and "x" in permissions:
        return "translated code"
    # Of a guest that has booted, and of a clone of a template of ours.
    if name.startswith(("/memfd:", "/dev/shm/")):
        return "guest memory"
    if name == "[heap]":
        return "heap"
    if not name or name.startswith("["):
        return "anonymous"
    return "programs and libraries"


def cpu_ms(pid: int) -> float:
    """The time that a process's threads have run, in ms; counted in ticks of the kernel's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_MS


def with_cpu(processes: list[int], work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What ``work`` reports, and as ``cpu`` how long these processes have run meanwhile, in ms. On a busy host it says more than any rate."""
    before = sum(map(cpu_ms, processes))
    found = work()
    return found | {"cpu": sum(map(cpu_ms, processes)) - before}


def cpu_of_commands_ms() -> float:
    """The time that all commands which have ended took, in ms."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000
