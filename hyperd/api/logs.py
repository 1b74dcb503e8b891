"""Logs of containers."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from hyperd.api.call import Call, Params, Route
from hyperd.api.containers import container_of, ended_for_good
from hyperd.api.streams import Lines, until_closing
from hyperd.errors import ConflictError, InvalidError
from hyperd.pods.pod import Pod

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class LogParams(Params, frozen=True):
    """``since``, ``until``: a time (RFC 3339 or seconds since the epoch), or how long ago (10m). ``tail``: how many lines, -1 for all."""

    follow: bool = False
    since: str = ""
    until: str = ""
    tail: int = -1
    timestamps: bool = False
    stdout: bool = True
    stderr: bool = True


class LogLine(msgspec.Struct, frozen=True):
    """``text`` ends with its newline, unless it is a part of a line (``partial``). Bytes that are not UTF-8 are replaced."""

    time: str
    stream: str
    text: str
    partial: bool = False


async def logs(call: Call) -> Any:
    """Lines of its log."""
    pod, record = container_of(call)
    wanted = pod.book.specification(record)
    driver = (wanted.log or pod.book.pod.spec.log).driver
    if driver == "none":
        raise ConflictError(f"container {record.name} keeps no log", hint="its log driver is none")
    ended = asyncio.Event()
    source = call.services.logs(
        call.services.tools.log(record.pod, record.id),
        follow=call.params.follow,
        ended=ended,
        since=moment(call.params.since, 0.0),
        until=moment(call.params.until, float("inf")),
        tail=call.params.tail,
        streams=frozenset(name for name in ("stdout", "stderr") if getattr(call.params, name)),
    )
    async with Lines(call) as lines, _setting(ended, pod, record.id):
        async for when, stream, text in until_closing(call, source):
            if lines.closed:
                break
            await lines.send(LogLine(when, stream, text, not text.endswith("\n")))
    return lines.response


@contextlib.asynccontextmanager
async def _setting(ended: asyncio.Event, pod: Pod, container: str) -> AsyncIterator[None]:
    """Sets ``ended`` when nothing more will be logged."""

    async def wait() -> None:
        await pod.book.until(lambda: ended_for_good(pod, container))
        ended.set()

    task = asyncio.create_task(wait())
    try:
        yield
    finally:
        task.cancel()


def moment(text: str, default: float) -> float:
    """Seconds since the epoch.

    :raise InvalidError: it is neither a time nor how long ago
    """
    if not text:
        return default
    if match := _DURATION.fullmatch(text):
        return time.time() - float(match[1]) * _UNITS[match[2]]
    try:
        return float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) else _rfc3339(text)
    except (ValueError, OverflowError):
        raise InvalidError(f"not a time: {text[:40]!r}", hint="give 2026-01-31T12:00:00Z, seconds since 1970, or 10m for ten minutes ago") from None


def _rfc3339(text: str) -> float:
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


ROUTES = (
    Route("GET", "/containers/{name}/logs", logs, "Read the log of a container", LogParams, answer=LogLine, kind="ndjson"),
)
