# SPDX-License-Identifier: Apache-2.0
"""What on the host belongs to this run's containers, by kind. Others may use the host meanwhile: what is ours has our ids or lies below our folder."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CGROUPS = Path("/sys/fs/cgroup")
_WAIT_S = 10.0
_POLL_S = 0.1


class Census(NamedTuple):
    """Names of what there is."""

    processes: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]


def take(prefix: str, root: Path) -> Census:
    """Looks at the host. ``prefix`` is what our ids begin with, ``root`` where the runtime keeps its state."""
    marks = (prefix.encode(), f"{root}/".encode())
    mounts = (line.split(" ", 5)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    folders = (os.path.join(top, name) for top, names, _ in os.walk(_CGROUPS) for name in names if name.startswith(prefix))
    return Census(
        processes=frozenset(_processes(marks)),
        mounts=frozenset(path for path in mounts if path.startswith(f"{root}/")),
        cgroups=frozenset(folders),
        # The folder of all machines stays.
        files=frozenset(str(path) for path in root.rglob("*") if path != root / "@sandboxes"),
    )


def _processes(marks: tuple[bytes, ...]) -> Iterator[str]:
    """Those that are in a cgroup of ours, or have a path or an id of ours among their arguments."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            about = (entry / "cmdline").read_bytes() + b"\0" + (entry / "cgroup").read_bytes()
        except OSError:
            continue  # it has ended
        if any(mark in about for mark in marks):
            yield f"{entry.name} {about.split(bytes(1))[0].decode(errors='replace')}"


def left_behind(before: Census, prefix: str, root: Path) -> list[str]:
    """What is there that was not before, in words; what is about to end gets the time to."""
    end = time.monotonic() + _WAIT_S
    while (left := difference(before, take(prefix, root))) and time.monotonic() < end:
        time.sleep(_POLL_S)
    return left


def difference(before: Census, after: Census) -> list[str]:
    """Pure: what ``after`` has and ``before`` has not."""
    pairs = zip(Census._fields, before, after, strict=True)
    return [f"{kind}: {name}" for kind, old, new in pairs for name in sorted(new - old)]
