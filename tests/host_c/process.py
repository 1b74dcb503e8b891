"""What the tests of both programs ask of a running process."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def assert_idle(pid: int, seconds: float = 0.3) -> None:
    """It waits in the kernel: what has hung up does not make it spin."""
    time.sleep(0.05)
    before = cpu_seconds(pid)
    time.sleep(seconds)
    assert cpu_seconds(pid) - before <= seconds / 4


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def open_files(pid: int) -> dict[int, str]:
    files = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            files[int(entry.name)] = os.readlink(entry)
    return files
