# SPDX-License-Identifier: Apache-2.0
"""Many pods at once: how fast they start, what they cost, whether all of them answer, and whether all of them go."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import census
from bench.runtimes import ID_PREFIX, Runtime
from bench.timing import BenchError, Figure

_SETTLE_S = 2.0
_SHOWN = 5
# Starts, execs and deletes.
STEPS = 3


def measure(runv: Runtime, bundle: Path, count: int, tick: Callable[[], None]) -> Iterator[Figure]:
    """Starts ``count`` pods, asks each, takes them away again, and looks what is left. ``tick`` is called ``STEPS`` times for each.

    :raise BenchError: a pod did not start or answer, or something was left behind
    """
    before = census.take(ID_PREFIX, runv.root)
    pods: list[str] = []
    gone: list[float] = []
    try:
        took = [_timed(tick, lambda: pods.append(runv.start(bundle))) for _ in range(count)]
        yield from starts(took)
        time.sleep(_SETTLE_S)
        yield from (Figure(f"PSS of {what}, {count} pods", "KB", tuple(values)) for what, values in _memory(runv, pods).items())
        answers = [_timed(tick, lambda pod=pod: runv.run("exec", pod, "true")) for pod in pods]  # type: ignore[misc]
        yield Figure(f"exec true in each of {count} pods", "ms", tuple(answers))
    finally:
        gone += [_timed(tick, lambda pod=pod: runv.delete(pod)) for pod in pods]  # type: ignore[misc]
    yield Figure(f"delete of each of {count} pods", "ms", tuple(gone))
    left = census.left_behind(before, ID_PREFIX, runv.root)
    if left:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        raise BenchError(f"{count} pods left behind {', '.join(left[:_SHOWN])}{more}")


def starts(took: list[float]) -> list[Figure]:
    """What is said of starts one after the other, in ms: pure."""
    count = len(took)
    edge = max(1, min(10, count // 4))
    first = f"start of the first {edge} of {count} pods"
    return [
        Figure(first, "ms", tuple(took[:edge])),
        Figure(f"start of the last {edge} of {count} pods", "ms", tuple(took[-edge:]), first),
        Figure(f"pods a minute, {count} pods", "/min", (60_000 * count / sum(took),)),
    ]


def _timed(tick: Callable[[], None], work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    took = (time.monotonic() - begin) * 1000
    tick()
    return took


def _memory(runv: Runtime, pods: list[str]) -> dict[str, list[float]]:
    """PSS in KB of all processes that belong to a pod, by kind."""
    files = [*runv.root.glob("@sandboxes/*/*.pid"), *(runv.root / pod / "init.pid" for pod in pods)]
    parts: dict[str, list[float]] = {}
    for file in files:
        parts.setdefault(file.stem.replace("init", "stand-in"), []).append(_pss(int(file.read_text().split()[0])))
    parts["a pod"] = [sum(sum(values) for values in parts.values()) / len(pods)]
    return parts


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1])
    raise BenchError(f"process {pid} has no memory")
