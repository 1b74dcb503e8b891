"""``python -m tests.conformance``: run the validation programs and print what passes. See docs/conformance.md."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.conformance import tap
from tests.conformance.errors import ConformanceError
from tests.conformance.expected import BEYOND_THE_MACHINE, expectation
from tests.conformance.runtimes import Runtime, installed
from tests.conformance.suite import Suite, provide

SUBJECT = "runv"
OTHERS = ("runc", "crun")


@dataclass(frozen=True)
class Outcome:
    """What one program said about one runtime."""

    program: str
    runtime: str
    passed: bool
    report: tap.Report
    status: int | None

    def __str__(self) -> str:
        if self.status is None:
            return "timed out"
        total = self.report.passed + self.report.skipped + len(self.report.failed)
        return f"{'pass' if self.passed else 'FAIL'} {total - len(self.report.failed)}/{total}"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Run the OCI's validation programs with the runv in PATH, and with runc and crun where they are installed. "
        "Ends with 1 when runv fails a program that it is expected to pass.",
    )
    cache = Path(os.environ.get("RUNV_CACHE") or Path.home() / ".cache/runv")
    parser.add_argument("--cache", type=Path, default=cache, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--only", action="append", metavar="RUNTIME", help="run this runtime; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="programs at a time, default: %(default)s")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="for each program, default: %(default)s s")
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="default: all")
    return parser.parse_args(argv)


def run_program(suite: Suite, program: str, runtime: Runtime, log: Path, timeout_s: float) -> Outcome:
    """Runs one program with one runtime; what it says goes to ``log`` as well."""
    with tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        script = runtime.script(scratch)
        env = os.environ | {"RUNTIME": str(script), "TMPDIR": name}
        child = subprocess.Popen(
            [*runtime.prefix, suite.folder / program],
            cwd=suite.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        status: int | None
        try:
            said, _ = child.communicate(timeout=timeout_s)
            status = child.returncode
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            said, _ = child.communicate()
            status = None
        runtime.clean(script)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(said)
    report = tap.parse(said)
    return Outcome(program, runtime.name, status is not None and tap.passes(report, status), report, status)


def run_all(options: argparse.Namespace, suite: Suite, programs: list[str], runtimes: list[Runtime]) -> list[Outcome]:
    """Every program with every runtime, the runtimes of one program right after each other."""
    logs = options.cache / "conformance" / "logs"

    def run(program: str) -> list[Outcome]:
        outcomes = []
        for runtime in runtimes:
            began = time.monotonic()
            outcome = run_program(suite, program, runtime, logs / runtime.name / f"{program}.tap", options.timeout)
            print(f"{program}: {runtime.name} {outcome} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
            outcomes.append(outcome)
        return outcomes

    with ThreadPoolExecutor(options.jobs) as pool:
        return [outcome for outcomes in pool.map(run, programs) for outcome in outcomes]


def table(programs: list[str], runtimes: list[Runtime], outcomes: list[Outcome]) -> Table:
    """Programs down, runtimes across."""
    found = {(outcome.program, outcome.runtime): outcome for outcome in outcomes}
    made = Table("program", *(runtime.name for runtime in runtimes), "runv is expected to")
    for program in programs:
        made.add_row(program, *(str(found[program, runtime.name]) for runtime in runtimes), expectation(program))
    made.add_section()
    for title, counted in (
        (f"all {len(programs)}", programs),
        ("those that mean a machine", [program for program in programs if program not in BEYOND_THE_MACHINE]),
    ):
        sums = (sum(found[program, runtime.name].passed for program in counted) for runtime in runtimes)
        made.add_row(title, *(f"{passed} of {len(counted)}" for passed in sums), "")
    return made


def judge(outcomes: list[Outcome]) -> int:
    """The exit status: 1 when runv failed where it should not. What passes unexpectedly is only told."""
    mine = [outcome for outcome in outcomes if outcome.runtime == SUBJECT]
    failed = [outcome for outcome in mine if expectation(outcome.program) == "pass" and not outcome.passed]
    for outcome in failed:
        print(f"{outcome.program} failed: {'; '.join(outcome.report.failed or outcome.report.errors) or outcome.status}")
    for outcome in mine:
        if outcome.passed and expectation(outcome.program) == "fail":
            print(f"{outcome.program} passes: add it to tests/conformance/expected.py")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = parse_arguments(argv)
    try:
        suite = provide(options.cache)
        runtimes = installed(options.only or [SUBJECT, *OTHERS])
        if SUBJECT not in (runtime.name for runtime in runtimes) and not options.only:
            raise ConformanceError(f"there is no {SUBJECT} in PATH")
        known = suite.programs()
        programs = options.programs or known
        if unknown := sorted(set(programs) - set(known)):
            raise ConformanceError(f"unknown programs: {' '.join(unknown)}")
        outcomes = run_all(options, suite, programs, runtimes)
    except ConformanceError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    Console(width=None if sys.stdout.isatty() else 100).print(table(programs, runtimes, outcomes))
    return judge(outcomes)


if __name__ == "__main__":
    sys.exit(main())
