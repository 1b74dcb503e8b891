# SPDX-License-Identifier: Apache-2.0
"""From nothing to the end of ``true``: runv, cold and from a template, beside the same kernel with nothing around it, and beside other runtimes."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.bare import Bare
from bench.runtimes import Runtime
from bench.timing import Figure, Subject, in_turns


class Bares(NamedTuple):
    """Machines with nothing of runv: on Debian's QEMU, which is the floor, and on the one that runv uses."""

    floor: Bare
    same: Bare


class Runtimes(NamedTuple):
    """runv: from a template, without one, and without translated code that was kept; and its peers."""

    runv: Runtime
    cold: Runtime
    coldest: Runtime
    peers: list[Runtime]


def measure(bares: Bares, runtimes: Runtimes, bundle: Path, count: int, tick: Callable[[], None]) -> list[Figure]:
    """Times ``run`` of a bundle whose process is ``true``."""
    for bare in bares:
        bare.make_template()
    subjects = [
        Subject("bare boot, first answer", bares.floor.boot),
        Subject("bare boot, runv's QEMU", bares.same.boot, "bare boot, first answer"),
        Subject("runv run true, cold", _runner(runtimes.cold, bundle), "bare boot, first answer"),
        Subject("runv run true, cold, nothing kept", _runner(runtimes.coldest, bundle), "bare boot, first answer"),
        Subject("bare clone, first answer", bares.floor.clone),
        Subject("bare clone, runv's QEMU", bares.same.clone, "bare clone, first answer"),
        Subject("runv run true, from a template", _runner(runtimes.runv, bundle), "bare clone, first answer"),
        *(Subject(f"{peer.name} run true", _runner(peer, bundle)) for peer in runtimes.peers),
    ]
    return in_turns(subjects, count, tick)


def _runner(runtime: Runtime, bundle: Path) -> Callable[[], None]:
    return lambda: runtime.run_once(bundle)
