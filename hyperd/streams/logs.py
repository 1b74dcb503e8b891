"""Logs read across their rotations, from either end, and followed."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

from hyperd.errors import InvalidError
from hyperd.streams.cursor import Cursor
from hyperd.streams.entries import LogLine, Wanted, parse, stamp
from hyperd.streams.inotify import Watcher

__all__ = ["LogLine", "read"]

BOTH = ("stdout", "stderr")


async def read(
    path: Path,
    *,
    follow: bool = False,
    ended: asyncio.Event | None = None,
    since: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
    tail: int | None = None,
    streams: Sequence[str] = BOTH,
) -> AsyncGenerator[LogLine, None]:
    """The entries of a log, each once and in order, through all of its files. A missing log is an empty one.

    :param follow: waits for more, until ``ended`` is set (what was written before that still comes) or ``until`` is past
    :param since: no older ones; with its zone, as ``until``: no newer ones
    :param tail: the last so many lines of those that count otherwise; None: all
    :raise InvalidError: a time without a zone, or less than no lines
    :raise OSError: the log cannot be read
    """
    if any(when is not None and when.tzinfo is None for when in (since, until)):
        raise InvalidError("cannot read the log: a time needs a zone")
    if tail is not None and tail < 0:
        raise InvalidError("cannot read the log: the number of lines is negative")
    wanted = Wanted(tuple(streams), stamp(since) if since else "", stamp(until) if until else "")
    with contextlib.ExitStack() as stack:
        watcher = stack.enter_context(Watcher()) if follow else None
        if watcher is not None:
            watcher.folder(str(path.parent))
        cursor = stack.enter_context(Cursor(path))
        if tail is not None:
            cursor.seek_tail(tail, wanted)
        if watcher is None:
            lines = _all(cursor, wanted)
        else:
            lines = _followed(cursor, wanted, watcher, ended or asyncio.Event(), until)
        async with contextlib.aclosing(lines):
            async for line in lines:
                yield line


def _parsed(entries: list[bytes]) -> Iterator[LogLine]:
    return (line for entry in entries if (line := parse(entry)) is not None)


async def _all(cursor: Cursor, wanted: Wanted) -> AsyncGenerator[LogLine, None]:
    while (entries := cursor.entries_at_first()) is not None:
        for line in _parsed(entries):
            if wanted.is_over(line):
                return
            if wanted.takes(line):
                yield line
        await asyncio.sleep(0)


async def _followed(
    cursor: Cursor, wanted: Wanted, watcher: Watcher, ended: asyncio.Event, until: datetime.datetime | None
) -> AsyncGenerator[LogLine, None]:
    is_last = False
    while True:
        # Watched before it is read: what comes in between wakes us.
        if cursor.newest is not None:
            watcher.file(cursor.newest)
        while (entries := cursor.entries()) is not None:
            for line in _parsed(entries):
                if wanted.is_over(line):
                    return
                if wanted.takes(line):
                    yield line
            await asyncio.sleep(0)
        if cursor.refresh():
            continue
        if is_last:
            return
        # What was written before the end, or before the time was up, is read once more.
        is_last = await _woken(watcher, ended, until)
        watcher.changed.clear()


async def _woken(watcher: Watcher, ended: asyncio.Event, until: datetime.datetime | None) -> bool:
    """Waits for a change. True: there is nothing more to wait for."""
    left = None if until is None else (until - datetime.datetime.now(datetime.UTC)).total_seconds()
    if ended.is_set() or (left is not None and left <= 0):
        return True
    waits = [asyncio.ensure_future(watcher.changed.wait()), asyncio.ensure_future(ended.wait())]
    try:
        done, _ = await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
    return not done or ended.is_set()
