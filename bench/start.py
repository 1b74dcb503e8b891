# SPDX-License-Identifier: Apache-2.0
"""From nothing to the end of ``true``: runv, cold and from a template, beside the same kernel with nothing around it, and beside other runtimes."""

from collections.abc import Callable
from pathlib import Path

from bench.bare import Bare
from bench.runtimes import Runtime
from bench.timing import Figure, Subject, in_turns


def measure(
    bare: Bare, runv: Runtime, cold: Runtime, peers: list[Runtime], bundle: Path, count: int, tick: Callable[[], None]
) -> list[Figure]:
    """Times ``run`` of a bundle whose process is ``true``."""
    bare.make_template()
    subjects = [
        Subject("bare boot, first answer", bare.boot),
        Subject("runv run true, cold", lambda: cold.run_once(bundle), "bare boot, first answer"),
        Subject("bare clone, first answer", bare.clone),
        Subject("runv run true, from a template", lambda: runv.run_once(bundle), "bare clone, first answer"),
        *(Subject(f"{peer.name} run true", _runner(peer, bundle)) for peer in peers),
    ]
    return in_turns(subjects, count, tick)


def _runner(runtime: Runtime, bundle: Path) -> Callable[[], None]:
    return lambda: runtime.run_once(bundle)
