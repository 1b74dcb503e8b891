"""A memory cgroup of this host's, v1 or v2, and its out-of-memory events as engines hear of them."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


def is_v1() -> bool:
    return (_V1 / "memory.limit_in_bytes").exists()


@contextmanager
def memory_cgroup(name: str) -> Iterator[Path]:
    folder = (_V1 if is_v1() else _V2) / name
    folder.mkdir()
    try:
        yield folder
    finally:
        end = time.monotonic() + 5
        while folder.exists() and time.monotonic() < end:  # who has just ended may still be in it
            try:
                folder.rmdir()
            except OSError:
                time.sleep(0.01)


def limit_of(folder: Path) -> str:
    return (folder / ("memory.limit_in_bytes" if is_v1() else "memory.max")).read_text().strip()


def oom_kills(folder: Path) -> int:
    lines = (folder / ("memory.oom_control" if is_v1() else "memory.events")).read_text().splitlines()
    return int(dict(line.split() for line in lines)["oom_kill"])


class OomWatch:
    """v1: an eventfd registered for memory.oom_control, as containerd's shim and conmon do it. v2: a change of memory.events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._v1 = is_v1()
        if self._v1:
            self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            control = os.open(folder / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            (folder / "cgroup.event_control").write_text(f"{self._fd} {control}")
            os.close(control)
        else:
            self._fd = os.open(folder / "memory.events", os.O_RDONLY | os.O_CLOEXEC)
            self._kills = oom_kills(folder)
            os.read(self._fd, 4096)

    def heard(self, within_s: float) -> bool:
        """Whether there was an event since the last call."""
        end = time.monotonic() + within_s
        while True:
            left = max(0.0, end - time.monotonic())
            poll = select.poll()
            poll.register(self._fd, select.POLLIN if self._v1 else select.POLLPRI)
            if not poll.poll(left * 1000):
                return False
            if self._v1:
                return os.eventfd_read(self._fd) > 0
            os.pread(self._fd, 4096, 0)
            before, self._kills = self._kills, oom_kills(self.folder)
            if self._kills > before:
                return True

    def close(self) -> None:
        os.close(self._fd)
