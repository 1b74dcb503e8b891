# SPDX-License-Identifier: Apache-2.0
"""Many pods at once: how fast they start, what they cost, and whether all of them answer."""

import time
from collections.abc import Callable
from pathlib import Path

from bench.runtimes import Runtime
from bench.timing import BenchError, Figure

_SETTLE_S = 2.0


def measure(runv: Runtime, bundle: Path, count: int, tick: Callable[[], None]) -> list[Figure]:
    """Starts ``count`` pods, asks each, and takes them away again."""
    pods: list[str] = []
    took: list[float] = []
    try:
        for _ in range(count):
            begin = time.monotonic()
            pods.append(runv.start(bundle))
            took.append((time.monotonic() - begin) * 1000)
            tick()
        time.sleep(_SETTLE_S)
        parts = _memory(runv, pods)
        for pod in pods:
            runv.run("exec", pod, "true")
    finally:
        for pod in pods:
            runv.delete(pod)
    edge = max(1, min(10, count // 4))
    return [
        Figure(f"start of the first {edge} of {count} pods", "ms", tuple(took[:edge])),
        Figure(f"start of the last {edge} of {count} pods", "ms", tuple(took[-edge:]), f"start of the first {edge} of {count} pods"),
        *(Figure(f"PSS of {what}, {count} pods", "KB", tuple(values)) for what, values in parts.items()),
    ]  # fmt: skip


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
