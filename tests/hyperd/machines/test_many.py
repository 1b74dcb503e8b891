"""Many pods at once, and very many that are only recorded."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .harness import Daemon, until

pytestmark = [pytest.mark.vm, pytest.mark.soak]

MIB = 1 << 20


def memory_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def test_fifty_pods_of_three_containers(daemon: Daemon) -> None:
    def start(number: int) -> int:
        containers = [{"name": f"c{one}", "image": "busybox", "args": ["sleep", "100000"]} for one in range(3)]
        return daemon.ask("POST", "/pods?start=1", {"spec": {"name": f"p{number}", "memory_mib": 96, "containers": containers}}).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(start, range(50))) == {201}
    assert memory_of(daemon.pid) <= 120 * MIB
    daemon.kill()
    daemon.start()
    pods = daemon.expect(200, "GET", "/pods")
    assert len(pods) == 50
    until(lambda: all(daemon.state(pod["name"]) == "running" for pod in pods), "all were taken over")
    containers = [one for pod in daemon.expect(200, "GET", "/pods") for one in pod["containers"]]
    assert [one["state"] for one in containers] == ["running"] * 150
    assert memory_of(daemon.pid) <= 120 * MIB


def test_a_thousand_recorded_pods_are_listed_fast(daemon: Daemon) -> None:
    for number in range(1000):
        daemon.expect(201, "POST", "/pods", {"spec": {"name": f"p{number}", "containers": [{"name": "c", "image": "busybox"}]}})

    def seconds(*words: str) -> float:
        began = time.monotonic()
        assert daemon.ctl(*words).returncode == 0
        return time.monotonic() - began

    times = [(seconds("version"), seconds("list", "-a", "-q")) for _ in range(11)]
    version, listing = (statistics.median(column) for column in zip(*times, strict=True))
    assert listing <= 2 * version, f"list takes {listing:.3f} s, version {version:.3f} s"
