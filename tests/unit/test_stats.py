"""Files of cgroup v2 as runc's statistics; and durations."""

import pytest

from runv.cli.durations import seconds
from runv.errors import UsageError
from runv.sandbox.stats import statistics

FILES = {
    "cpu.stat": "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 3\nnr_throttled 1\nthrottled_usec 7\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=42\n",
    "cpuset.cpus.effective": "0-1,3\n",
    "memory.current": "1000\n",
    "memory.max": "5000\n",
    "memory.peak": "2000\n",
    "memory.swap.current": "10\n",
    "memory.swap.max": "max\n",
    "memory.stat": "anon 300\nfile 200\nkernel 50\n",
    "memory.events": "low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\n",
    "pids.current": "3\n",
    "pids.max": "40\n",
    "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n254:16 rbytes=9 cost.usage=1\n",
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.events": "max 6\n",
}


def test_everything() -> None:
    data = statistics(FILES)
    assert data["cpu"] == {
        "usage": {"total": 1_500_000, "user": 1_000_000, "kernel": 500_000},
        "throttling": {"periods": 3, "throttledPeriods": 1, "throttledTime": 7000},
        "psi": {"some": {"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 42}},
    }
    assert data["cpuset"]["cpus"] == [0, 1, 3] and "mems" not in data["cpuset"]
    memory = data["memory"]
    assert memory["cache"] == 200 and memory["raw"] == {"anon": 300, "file": 200, "kernel": 50}
    assert memory["usage"] == {"limit": 5000, "usage": 1000, "max": 2000, "failcnt": 4}
    assert memory["swap"] == {"limit": 2**64 - 1, "usage": 1010, "failcnt": 0}
    assert memory["kernel"] == {"limit": 0, "usage": 50, "failcnt": 0}
    assert data["pids"] == {"current": 3, "limit": 40}
    assert data["blkio"]["ioServiceBytesRecursive"][:2] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 1},
        {"major": 8, "minor": 0, "op": "Write", "value": 2},
    ]
    assert data["blkio"]["ioServiceBytesRecursive"][3] == {"major": 254, "minor": 16, "op": "Read", "value": 9}
    assert [entry["value"] for entry in data["blkio"]["ioServicedRecursive"]] == [3, 4, 0]
    assert data["hugetlb"] == {"2MB": {"usage": 2097152, "failcnt": 6}}


def test_nothing_is_there() -> None:
    data = statistics({})
    assert data["cpu"] == {"usage": {"total": 0, "user": 0, "kernel": 0}, "throttling": {}}
    assert (data["pids"], data["blkio"], data["hugetlb"]) == ({}, {}, {})
    assert data["memory"]["usage"] == {"limit": 0, "failcnt": 0}


def test_no_limit() -> None:
    data = statistics({"memory.max": "max\n", "pids.max": "max\n", "pids.current": "1\n"})
    assert data["memory"]["usage"]["limit"] == data["memory"]["swap"]["limit"] == 2**64 - 1
    assert data["pids"] == {"current": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5s", 5), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), ("0", 0), ("0s", 0), (".5s", 0.5), ("2us", 2e-6)],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5x", "1s2"])
def test_durations_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^invalid duration"):
        seconds(text)
