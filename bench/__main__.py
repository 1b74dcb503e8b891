# SPDX-License-Identifier: Apache-2.0
"""``make bench``: runv against floors and peers, in turns, on one machine and in one run. Every figure stands beside what it is a ratio of."""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench import imports, pods, report, streams
from bench.bare import Bare
from bench.runtimes import Runtime, bundle, new_id
from bench.timing import BenchError, Figure, Subject, in_turns
from runv import settings
from runv.errors import RunvError
from runv.vm import choice

PARTS = ("start", "commands", "pods", "streams", "images", "engines")
_PYTHON = "python3 -I -c pass"


class Bench:
    """What all parts need: runtimes, bundles and the bare machine, below one folder."""

    def __init__(self, options: argparse.Namespace, folder: Path, tick: Console) -> None:
        templates = {"RUNV_TEMPLATE_FOLDER": str(folder / "templates")}
        self.options = options
        self.runv = Runtime("runv", options.runv, folder, templates)
        self.cold = Runtime("runv, cold", options.runv, folder, {"RUNV_TEMPLATE": "off"})
        self.peers = [Runtime(name, found, folder) for name in ("runc", "crun") if (found := shutil.which(name))]
        if not self.peers:
            raise BenchError("neither runc nor crun is installed")
        spec = next((peer.program for peer in self.peers if peer.name == "runc"), options.runv)
        self.true = bundle(spec, folder / "true", "true")
        self.sleep = bundle(spec, folder / "sleep", "sleep", "100000")
        self.cat = bundle(spec, folder / "cat", "cat")
        self.settings = settings.load()
        self.bare = Bare(self.settings, folder / "bare")
        self._console = tick

    def tick(self) -> None:
        """A sample was taken."""
        if self._console.is_terminal:
            self._console.print(".", end="")


def start(bench: Bench) -> list[Figure]:
    """From nothing to the end of ``true``."""
    bench.bare.make_template()
    subjects = [
        Subject("bare boot, first answer", bench.bare.boot),
        Subject("runv run true, cold", lambda: _run(bench.cold, bench.true), "bare boot, first answer"),
        Subject("bare clone, first answer", bench.bare.clone),
        Subject("runv run true, from a template", lambda: _run(bench.runv, bench.true), "bare clone, first answer"),
    ]
    subjects += [Subject(f"{peer.name} run true", _runner(peer, bench.true)) for peer in bench.peers if _works(peer, bench.true)]
    return in_turns(subjects, bench.options.count, bench.tick)


def _runner(runtime: Runtime, folder: Path) -> Callable[[], None]:
    return lambda: _run(runtime, folder)


def _run(runtime: Runtime, folder: Path) -> None:
    runtime.run("run", "--bundle", str(folder), new_id())


def _works(runtime: Runtime, folder: Path) -> bool:
    try:
        _run(runtime, folder)
    except BenchError as error:
        print(f"bench: left out: {error}", file=sys.stderr)
        return False
    return True


class Commands:
    """The commands of one runtime, each on a container that is in the right state for it."""

    def __init__(self, runtime: Runtime, bench: Bench) -> None:
        self.runtime = runtime
        self.bundle = bench.sleep
        self.id = ""

    def create(self) -> None:
        """A created container."""
        self.id = new_id()
        self.runtime.run("create", "--bundle", str(self.bundle), self.id, stderr=subprocess.DEVNULL)

    def begin(self) -> None:
        """A running container."""
        self.id = self.runtime.start(self.bundle)

    def call(self, *args: str) -> None:
        """A command with the container's id as its first argument."""
        self.runtime.run(args[0], self.id, *args[1:])

    def end(self) -> None:
        """Takes the container away."""
        self.runtime.delete(self.id)

    def subjects(self, floors: dict[str, str]) -> list[Subject]:
        """One for each command; ``floors`` by command."""
        name = self.runtime.name
        rows = [
            Subject(f"{name} exec true", lambda: self.call("exec", "true"), floors.get("exec", ""), self.begin, self.end),
            Subject(f"{name} state", lambda: self.call("state"), floors.get("state", ""), self.begin, self.end),
            Subject(f"{name} start", lambda: self.call("start"), floors.get("start", ""), self.create, self.end),
            Subject(f"{name} kill", lambda: self.call("kill", "KILL"), floors.get("kill", ""), self.begin, self.end),
            Subject(f"{name} delete --force", lambda: self.end(), "", self.begin, self.end),
        ]
        return rows


def commands(bench: Bench) -> list[Figure]:
    """What engines call on containers that exist."""
    floors = dict.fromkeys(("state", "start", "kill"), _PYTHON) | {"exec": f"{bench.peers[0].name} exec true"}
    python = Subject(_PYTHON, _python)
    rows = [python, *Commands(bench.runv, bench).subjects(floors)]
    for peer in bench.peers:
        if _works(peer, bench.true):
            rows += Commands(peer, bench).subjects({})
    return in_turns(rows, bench.options.count, bench.tick)


def _python() -> None:
    subprocess.run(["/usr/bin/python3", "-I", "-c", "pass"], check=True)


def many(bench: Bench) -> list[Figure]:
    """Pods at once, from a template."""
    bench.runv.run("factory", "init")
    return pods.measure(bench.runv, bench.sleep, bench.options.pods, bench.tick)


def throughput(bench: Bench) -> list[Figure]:
    """Bytes through a container."""
    working = [peer for peer in bench.peers[:1] if _works(peer, bench.true)]
    count = max(1, bench.options.count // 3)
    return streams.measure(bench.bare, [bench.runv, *working], bench.cat, bench.options.megabytes, count)


def images(bench: Bench) -> list[Figure]:
    """From an archive to layers that containers start from, on a disk."""
    program = shutil.which(bench.options.runv)
    if program is None:
        raise BenchError(f"there is no {bench.options.runv}")
    with tempfile.TemporaryDirectory(prefix="rvbench") as folder:
        return imports.measure(Path(program).resolve().parents[1] / "lib/runv", Path(folder), 300, max(1, bench.options.count // 3), bench.tick)


def daily(bench: Bench) -> list[Figure]:
    """What users type."""
    from bench import engines

    return engines.measure(bench.options.count, bench.tick)


_WORK = {"start": start, "commands": commands, "pods": many, "streams": throughput, "images": images, "engines": daily}


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Time runv against floors and peers.")
    parser.add_argument("--runv", default="runv", help="the runv to measure; default: the one in PATH")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may be repeated; default: all")
    parser.add_argument("--count", type=int, default=9, metavar="N", help="samples of each; default: %(default)s")
    parser.add_argument("--pods", type=int, default=20, metavar="N", help="pods at once; default: %(default)s")
    parser.add_argument("--megabytes", type=int, default=64, metavar="N", help="through a container; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the times (PNG; needs matplotlib)")
    options = parser.parse_args(argv)
    if min(options.count, options.pods, options.megabytes) < 1:
        parser.error("numbers must be at least 1")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = parse_arguments(argv)
    figures: list[Figure] = []
    console = Console(stderr=True)
    try:
        with tempfile.TemporaryDirectory(prefix="rvbench", dir="/dev/shm") as folder:
            bench = Bench(options, Path(folder), console)
            about = {"accelerator": choice.accelerator(bench.settings).value}
            for part in options.only or PARTS:
                console.print(f"\n{part} ", end="")
                figures += _WORK[part](bench)
    except (BenchError, RunvError, OSError, subprocess.SubprocessError) as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    console.print()
    report.show(figures)
    if options.json:
        report.write_json(figures, options.json, about)
    if options.chart:
        report.write_chart(figures, options.chart)
    return 0


if __name__ == "__main__":
    sys.exit(main())
