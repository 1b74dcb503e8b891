"""``python -m tests.lab``: run a command in the KVM lab. See docs/kvm-lab.md."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tests.lab.errors import LabError
from tests.lab.initrd import Job
from tests.lab.kernel import find_kernel
from tests.lab.machine import Size, run_job

# As env(1) and timeout(1) do when they themselves fail.
STATUS_LAB_FAILED = 125

# Variables that go along; others are named with --env.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "RUNV_CACHE", "RUNV_KERNEL_SOURCE", "XDG_CACHE_HOME")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab",
        description="Run a command as root where /dev/kvm, /dev/vhost-vsock and /dev/vhost-net work, on the files of "
        "this host. What it writes is lost, except below --results. Ends with the command's status, 124 after "
        "--timeout, 125 when the lab itself failed.",
    )
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="default: 600 s, boot included")
    parser.add_argument("--env", action="append", default=[], metavar="K=V", help="set a variable for the command")
    parser.add_argument("--results", type=Path, metavar="DIR", help="a directory that the command writes for real")
    tmpfs_help = "empty, and fit for the upper layer of an overlay; /tmp and /run always are"
    parser.add_argument("--tmpfs", action="append", type=Path, default=[], metavar="DIR", help=tmpfs_help)
    show_help = "a path below a tmpfs that stays visible; those in COMMAND do"
    parser.add_argument("--show", action="append", type=Path, default=[], metavar="PATH", help=show_help)
    parser.add_argument("--memory", type=int, default=Size.memory_mib, metavar="MIB", help="default: %(default)s")
    parser.add_argument("--cpus", type=int, default=Size.cpus, metavar="N", help="default: %(default)s")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser.parse_args(argv)


def make_job(options: argparse.Namespace) -> Job:
    """What is to run, with the paths made absolute."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    for setting in options.env:
        name, equals, value = setting.partition("=")
        if not equals or not name.isidentifier():
            raise LabError(f"--env takes NAME=VALUE, not {setting}")
        env[name] = value
    if options.results and not options.results.is_dir():
        raise LabError(f"{options.results} is not a directory")
    program = shutil.which(options.command[0])
    if program is None:
        raise LabError(f"cannot find {options.command[0]}")
    named = [Path(argument) for argument in (program, *options.command) if argument.startswith("/")]
    return Job(
        command=tuple(options.command),
        directory=Path.cwd(),
        env=env | {"RUNV_LAB": "1"},
        tmpfs=(*Job.tmpfs, *(path.absolute() for path in options.tmpfs)),
        shown=tuple(outermost([Path.cwd(), Path(sys.prefix), *named, *(path.absolute() for path in options.show)])),
        results=options.results.absolute() if options.results else None,
    )


def outermost(paths: Sequence[Path]) -> list[Path]:
    """The paths that exist, with what links among them lead to, and lie in no other of them; a program stands for the
    prefix it is installed in."""
    prefixes = {prefix_of(path) for path in paths if path.exists()}
    wanted = prefixes | {prefix.resolve() for prefix in prefixes}
    return sorted(path for path in wanted if not any(parent in wanted for parent in path.parents))


def prefix_of(path: Path) -> Path:
    """/tmp/venv for /tmp/venv/bin/pytest: the program alone would not find its files."""
    return path.parent.parent if path.parent.name == "bin" else path


def stop(signum: int, _frame: FrameType | None) -> None:
    """End through the ``finally`` blocks."""
    raise SystemExit(128 + signum)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = parse_arguments(argv)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(signum, stop)
    try:
        job = make_job(options)
        return run_job(find_kernel(), job, Size(options.memory, options.cpus), options.timeout)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return STATUS_LAB_FAILED


if __name__ == "__main__":
    sys.exit(main())
