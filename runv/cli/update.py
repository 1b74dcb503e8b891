"""What ``update`` is to change: a file of linux.resources, or flags."""

import re
import sys
from typing import Any

from runv.cli.exec import read_file
from runv.cli.parse import Parsed
from runv.errors import ConfigError, UsageError
from runv.sandbox.machine.size import Size
from runv.spec.config import parse_resources

# Which member of linux.resources a flag means. The first ones are sizes, as 512M; the others are numbers.
_MIB = 1 << 20
_SIZES = {"memory": "limit", "memory-reservation": "reservation", "memory-swap": "swap"}
_CPU = {
    "cpu-period": "period",
    "cpu-quota": "quota",
    "cpu-share": "shares",
    "cpu-rt-period": "realtimePeriod",
    "cpu-rt-runtime": "realtimeRuntime",
}
_CPU_SETS = {"cpuset-cpus": "cpus", "cpuset-mems": "mems"}
_UNSUPPORTED = ("l3-cache-schema", "mem-bw-schema")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS = ("", "k", "m", "g", "t", "p")


def resources_of(parsed: Parsed) -> dict[str, Any]:
    """linux.resources, any part of it.

    :raise ConfigError: the file is missing or wrong
    :raise UsageError: a flag's value is wrong
    """
    if parsed.text("vcpus"):
        raise UsageError("--vcpus is the machine's: it goes with --vm", command="update")
    path = parsed.text("resources")
    if path:
        data = sys.stdin.buffer.read() if path == "-" else read_file(path)
        return parse_resources(data, "resources")[1]
    for name in _UNSUPPORTED:
        if parsed.text(name):
            raise ConfigError(f"cannot set --{name}: Intel RDT cannot be used for a virtual machine's container")
    return {
        "memory": {member: _size_flag(name, parsed.text(name)) for name, member in _SIZES.items()},
        "cpu": {member: _number(name, parsed.text(name)) for name, member in _CPU.items()}
        | {member: parsed.text(name) for name, member in _CPU_SETS.items()},
        "pids": {"limit": _number("pids-limit", parsed.text("pids-limit"))},
        "blockIO": {"weight": _number("blkio-weight", parsed.text("blkio-weight"))},
    }


def size_of(parsed: Parsed) -> Size:
    """With ``--vm``: the size that the machine is to have; 0 for what stays.

    :raise UsageError: a value is wrong, or a flag that is about containers
    """
    others = [name for name, value in parsed.flags.items() if value and name not in ("vm", "memory", "vcpus")]
    if others:
        raise UsageError(f"--vm changes the machine, and --{others[0]} a container", command="update", hint="update them one after the other")
    size = Size(_number("vcpus", parsed.text("vcpus")), -(-_size_flag("memory", parsed.text("memory")) // _MIB))
    if size == Size(0, 0) or min(size) < 0:
        raise UsageError("--vm needs --memory, --vcpus or both, and neither can be without a limit", command="update")
    return size


def _size_flag(name: str, text: str) -> int:
    """A size, or -1. 0 when nothing was given."""
    if text in ("", "-1"):
        return -1 if text else 0
    return parse_size("update", name, text)


def parse_size(command: str, name: str, text: str) -> int:
    """A number of bytes, with a unit of 1024 or without: ``64M``, ``1.5g``.

    :raise UsageError: it is none
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UsageError(f"invalid value for {name}: {text!r} is not a size", command=command)
    return int(float(match[1]) * 1024 ** _UNITS.index(match[2].lower()))


def _number(name: str, text: str) -> int:
    if not text:
        return 0
    if not text.isascii() or not text.removeprefix("-").isdigit():
        raise UsageError(f"invalid value for {name}: {text!r} is not a number", command="update")
    return int(text)
