# SPDX-License-Identifier: Apache-2.0
"""``make bench``: runv against floors and peers, in turns, on one machine and in one run. Every figure stands beside what it is a ratio of."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import report
from bench.parts import PARTS
from bench.timing import BenchError, Figure
from bench.world import Bench
from runv.errors import RunvError
from runv.vm import choice

_EXPECTED = (BenchError, RunvError, OSError, subprocess.SubprocessError)


def _cache() -> Path:
    """runv's cache, as the Makefile finds it."""
    own = os.environ.get("RUNV_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "runv")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parts = "\n".join(f"  {name:10} {part.about}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Time runv against floors and peers.",
        epilog=f"parts:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runv", default="runv", help="the runv to measure; default: the one in PATH")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help="may be repeated; default: all parts")
    parser.add_argument("--without", action="append", choices=PARTS, metavar="PART", default=[], help="may be repeated")
    parser.add_argument("--count", type=int, default=9, metavar="N", help="samples of each; default: %(default)s")
    parser.add_argument("--pods", type=int, default=20, metavar="N", help="pods at once; default: %(default)s")
    parser.add_argument("--many", type=int, default=100, metavar="N", help="pods of the part hundred; default: %(default)s")
    parser.add_argument("--megabytes", type=int, default=64, metavar="N", help="through a container; default: %(default)s")
    parser.add_argument("--cache", type=Path, default=_cache(), metavar="DIR", help="where peers are built; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample, after each part")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the times (PNG; needs matplotlib)")
    options = parser.parse_args(argv)
    if min(options.count, options.pods, options.many, options.megabytes) < 1:
        parser.error("numbers must be at least 1")
    return options


def run_part(name: str, bench: Bench, figures: list[Figure], console: Console) -> str:
    """Adds a part's figures to ``figures``; what went wrong in a line, empty if nothing did."""
    console.print(f"{name} ", end="")
    begin = time.monotonic()
    try:
        for figure in PARTS[name].work(bench):
            figures.append(figure)
    except _EXPECTED as error:
        failure = f"{name}: {error or type(error).__name__}"
    except Exception as error:  # the other parts are still worth their time
        traceback.print_exc()
        failure = f"{name}: {error or type(error).__name__}"
    else:
        failure = ""
    console.print(f"{'failed after ' if failure else ''}{time.monotonic() - begin:.0f} s")
    return failure


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = parse_arguments(argv)
    figures: list[Figure] = []
    failures: list[str] = []
    console = Console(stderr=True, highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="rvbench", dir="/dev/shm") as folder:
            bench = Bench(options, Path(folder), console)
            bench.prepare()
            about = {"accelerator": choice.accelerator(bench.settings).value}
            for part in options.only or PARTS:
                if part not in options.without:
                    failure = run_part(part, bench, figures, console)
                    failures += [failure] if failure else []
                    if options.json:
                        report.write_json(figures, options.json, about)
    except _EXPECTED as error:
        failures.append(str(error))
    report.show(figures)
    if options.chart and figures:
        report.write_chart(figures, options.chart)
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
