# SPDX-License-Identifier: Apache-2.0
"""``make bench``: how long ``run`` of ``true`` takes, from the start of the command to its end.

runv boots a machine for it, without any template; runc, on the same bundle, starts a process. The two take turns, so
that what else the machine does meets both.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

BUSYBOX = Path("/bin/busybox")


@dataclass(frozen=True)
class Figures:
    """What was measured of one runtime, in milliseconds."""

    samples: list[float]
    median: float
    least: float
    most: float


class BenchError(Exception):
    """Nothing could be measured."""


def make_bundle(runtime: str, folder: Path) -> None:
    """A bundle that runs ``true``, made by the runtime's own ``spec`` and used by both."""
    (folder / "rootfs/bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "rootfs/bin/busybox")
    (folder / "rootfs/bin/true").symlink_to("busybox")
    subprocess.run([runtime, "spec", "--bundle", str(folder)], check=True)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["true"]}
    (folder / "config.json").write_text(json.dumps(config))


def time_run(runtime: str, bundle: Path, identifier: str) -> float:
    """Milliseconds that one ``run`` took."""
    argv = [runtime, "run", "--bundle", str(bundle), identifier]
    start = time.monotonic()
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    took = time.monotonic() - start
    if done.returncode != 0:
        raise BenchError(f"{' '.join(argv)} ended with status {done.returncode}: {done.stderr.strip()}")
    return took * 1000


def measure(runtimes: Mapping[str, str], bundle: Path, count: int) -> dict[str, Figures]:
    """Run them in turn. One round before is not counted: it fills the page cache."""
    samples: dict[str, list[float]] = {name: [] for name in runtimes}
    for number in range(count + 1):
        for name, program in runtimes.items():
            took = time_run(program, bundle, f"bench-{os.getpid()}-{number}")
            if number:
                samples[name].append(took)
    return {name: Figures(took, statistics.median(took), min(took), max(took)) for name, took in samples.items()}


def show(figures: Mapping[str, Figures], count: int) -> None:
    """The table on stdout. The floor is runc."""
    table = Table(title=f"run of true, cold, n={count}")
    table.add_column("runtime")
    for heading in ("median", "least", "most", "ratio"):
        table.add_column(heading, justify="right")
    for name, row in figures.items():
        times = [f"{value:.0f} ms" for value in (row.median, row.least, row.most)]
        table.add_row(name, *times, f"{row.median / figures['runc'].median:.1f}")
    Console().print(table)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.boot", description="Time `runv run` against `runc run`.")
    parser.add_argument("--runv", default="runv", help="the runv to measure; default: the one in PATH")
    parser.add_argument("--runc", default="runc", help="what to compare it with; default: the one in PATH")
    parser.add_argument("--count", type=int, default=5, metavar="N", help="runs of each; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the samples as well, in milliseconds")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = parse_arguments(argv)
    if options.count < 1:
        print("bench: --count must be at least 1", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="runv-bench-") as folder:
            make_bundle(options.runc, Path(folder))
            figures = measure({"runc": options.runc, "runv": options.runv}, Path(folder), options.count)
    except (BenchError, OSError, subprocess.CalledProcessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    show(figures, options.count)
    if options.json:
        document = {name: asdict(row) for name, row in figures.items()}
        options.json.write_text(json.dumps({"unit": "ms", "runs": document}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
