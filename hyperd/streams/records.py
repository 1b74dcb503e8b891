"""What is known of a monitor and its process."""

import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from hyperd.errors import UnavailableError

State = Literal["none", "creating", "running", "exited"]
Stream = Literal["stdout", "stderr"]


class LogSettings(NamedTuple):
    """``path``: absolute; it may lie outside the monitor's folder, and is appended to. ``max_size`` in bytes, 0: never rotated.
    ``max_files``: with the current one."""

    driver: Literal["json-file", "cri", "none"] = "none"
    path: Path | None = None
    max_size: int = 0
    max_files: int = 1


class Created(NamedTuple):
    """``pid``: runv's stand-in. ``said``: what the command wrote to stderr, although it worked."""

    pid: int
    said: str


class CommandError(UnavailableError):
    """The command failed: ``code`` is its exit code (128 and the signal, if one ended it), ``stderr`` the end of what it said.

    The message is the last error in runv's own words, where there is one.
    """

    def __init__(self, message: str, code: int, stderr: str) -> None:
        super().__init__(message)
        self.code = code
        self.stderr = stderr


class Exit(NamedTuple):
    """How a process ended. ``code`` is 128 + ``signal`` where a signal ended it (otherwise 0). ``finished``: RFC 3339, UTC.

    ``log_complete``: all output is in the log; ``log_lost`` entries are not, ``log_error`` is why.
    ``known`` false: its monitor was killed, so nobody knows; ``code`` is 255 then.
    """

    code: int
    signal: int
    finished: str
    log_complete: bool = True
    log_lost: int = 0
    log_error: str = ""
    known: bool = True


class Chunk(NamedTuple):
    """Output; ``lost`` bytes before it were not passed on, because we were too slow."""

    stream: Stream
    data: bytes
    lost: int = 0


class _LogState(msgspec.Struct):
    complete: bool
    lost: int
    error: str


class _ExitFile(msgspec.Struct):
    code: int
    signal: int
    finished: str
    log: _LogState


class _StateFrame(msgspec.Struct):
    pid: int
    log: _LogState


class Outcome(msgspec.Struct):
    """What a monitor tells of its command."""

    pid: int = 0
    code: int = 0
    errno: int = 0
    error: str = ""
    stderr: str = ""


class Status(NamedTuple):
    """Of a monitor that is there."""

    pid: int
    log_complete: bool
    log_lost: int
    log_error: str


def parse_exit(text: bytes) -> Exit:
    """:raise msgspec.MsgspecError: it is not what a monitor writes"""
    found = msgspec.json.decode(text, type=_ExitFile)
    return Exit(found.code, found.signal, found.finished, found.log.complete, found.log.lost, found.log.error)


def parse_status(text: bytes) -> Status:
    """:raise msgspec.MsgspecError: it is not what a monitor sends"""
    found = msgspec.json.decode(text, type=_StateFrame)
    return Status(found.pid, found.log.complete, found.log.lost, found.log.error)


def unknown_exit() -> Exit:
    """Of a process that ended when nobody looked."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
    return Exit(255, 0, now, log_complete=False, known=False)
