"""Entries of logs, json-file or CRI, as bytes of a file. Pure."""

import datetime
from typing import NamedTuple

import msgspec


class LogLine(NamedTuple):
    """One entry: a line with its newline, or a part of one without. ``time`` is RFC 3339, as it was written."""

    time: str
    stream: str
    text: str


class Wanted(NamedTuple):
    """Which entries count. Times as ``stamp`` makes them, empty: unbounded."""

    streams: tuple[str, ...]
    since: str
    until: str

    def takes(self, line: LogLine) -> bool:
        return line.stream in self.streams and line.time >= self.since and not self.is_over(line)

    def is_over(self, line: LogLine) -> bool:
        """Neither this nor any that follows counts."""
        return bool(self.until) and line.time > self.until


class _Json(msgspec.Struct):
    log: str
    stream: str
    time: str


_decode = msgspec.json.Decoder(_Json).decode
_CRI_FIELDS = 4


def parse(entry: bytes) -> LogLine | None:
    """One entry without its newline; None for what is none, such as one that was torn by a crash."""
    if entry.startswith(b"{"):
        return _parse_json(entry)
    fields = entry.split(b" ", _CRI_FIELDS - 1)
    if len(fields) < _CRI_FIELDS or fields[2] not in (b"F", b"P"):
        return None
    text = fields[3].decode(errors="replace")
    return LogLine(fields[0].decode(errors="replace"), fields[1].decode(errors="replace"), text + "\n" * (fields[2] == b"F"))


def _parse_json(entry: bytes) -> LogLine | None:
    try:
        found = _decode(entry)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return LogLine(found.time, found.stream, found.log)


def stamp(when: datetime.datetime) -> str:
    """As a monitor writes it, so that texts compare as times do. ``when`` must know its zone."""
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
