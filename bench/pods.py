# SPDX-License-Identifier: Apache-2.0
"""Many pods at once: how fast they start, what they cost, whether all of them answer, and whether all of them go."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import census, usage
from bench.runtimes import ID_PREFIX, Runtime
from bench.timing import BenchError, Figure

# runv's own QEMU gives translated code back when its guest has slept for some seconds (tcg_release_s).
_SETTLE_S = 10.0
_IDLE_S = 5.0
_SHOWN = 5
# Starts, execs and deletes.
STEPS = 3


def measure(runv: Runtime, bundle: Path, count: int, tick: Callable[[], None]) -> Iterator[Figure]:
    """Starts ``count`` pods, asks each, takes them away again, and looks what is left. ``tick`` is called ``STEPS`` times for each.

    :raise BenchError: a pod did not start or answer, or something was left behind
    """
    before = census.take(ID_PREFIX, runv.root)
    pods: list[str] = []
    took: list[float] = []
    worked: list[float] = []
    gone: list[float] = []
    try:
        for _ in range(count):
            commands = usage.cpu_of_commands_ms()
            took.append(_timed(tick, lambda: pods.append(runv.start(bundle))))
            machine = sum(map(usage.cpu_ms, usage.pids(runv.root, pods[-1]).values()))
            worked.append(usage.cpu_of_commands_ms() - commands + machine)
        yield from starts(took, worked)
        yield from _rest(runv, pods)
        answers = [_timed(tick, lambda pod=pod: runv.run("exec", pod, "true")) for pod in pods]  # type: ignore[misc]
        yield Figure(f"exec true in each of {count} pods", "ms", tuple(answers))
    finally:
        gone += [_timed(tick, lambda pod=pod: runv.delete(pod)) for pod in pods]  # type: ignore[misc]
    yield Figure(f"delete of each of {count} pods", "ms", tuple(gone))
    left = census.left_behind(before, ID_PREFIX, runv.root)
    if left:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        raise BenchError(f"{count} pods left behind {', '.join(left[:_SHOWN])}{more}")


def starts(took: list[float], worked: list[float]) -> list[Figure]:
    """What is said of starts one after the other, in ms each, and of the processor's time for them: pure."""
    count = len(took)
    edge = max(1, min(10, count // 4))
    rate = Figure(f"pods a minute, {count} pods", "/min", (60_000 * count / sum(took),))
    # The processor's time is nearly the same whatever else the host does; what grows with pods shows there first.
    return [*_edges("start", took, edge), *_edges("CPU time for the start", worked, edge), rate]


def _edges(what: str, samples: list[float], edge: int) -> list[Figure]:
    first, last = (f"{what} of the {which} {edge} of {len(samples)} pods" for which in ("first", "last"))
    return [Figure(first, "ms", tuple(samples[:edge])), Figure(last, "ms", tuple(samples[-edge:]), first)]


def _timed(tick: Callable[[], None], work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    took = (time.monotonic() - begin) * 1000
    tick()
    return took


def memory(processes: list[tuple[str, dict[str, float]]], pods: int) -> list[Figure]:
    """What is said of the PSS, in KB by kind, of all processes of ``pods`` pods: pure."""
    parts: dict[str, list[float]] = {}
    for process, kinds in processes:
        parts.setdefault(process, []).append(sum(kinds.values()))
        if process == "qemu":
            for kind, size in kinds.items():
                parts.setdefault(f"qemu: {kind}", []).append(size)
    parts["a pod"] = [sum(sum(kinds.values()) for _, kinds in processes) / pods]
    return [Figure(f"PSS of {what}, {pods} pods", "KB", tuple(sizes)) for what, sizes in sorted(parts.items())]


def _rest(runv: Runtime, pods: list[str]) -> Iterator[Figure]:
    """Memory and the processor's time of pods that do nothing, by kind of process."""
    time.sleep(_SETTLE_S)
    processes = [(what, pid) for pod in pods for what, pid in usage.pids(runv.root, pod).items()]
    yield from memory([(what, usage.pss_kb(pid)) for what, pid in processes], len(pods))
    begin = time.monotonic()
    used = -sum(usage.cpu_ms(pid) for _, pid in processes)
    time.sleep(_IDLE_S)
    used += sum(usage.cpu_ms(pid) for _, pid in processes)
    idle = used / len(pods) / (time.monotonic() - begin)
    yield Figure(f"CPU time of a pod that does nothing, {len(pods)} pods", "ms/s", (idle,))
