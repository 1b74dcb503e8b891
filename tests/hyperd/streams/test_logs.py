"""Logs read: both formats, chosen parts, rotated files, followed while they are written and rotated."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hyperd.errors import InvalidError
from hyperd.streams import logs, monitor
from hyperd.streams.chain import LogFile, open_all
from hyperd.streams.logs import LogLine
from hyperd.streams.records import LogSettings

from .world import World, run, shell


def stamp(second: int) -> str:
    return f"2026-01-01T00:00:{second:02d}.000000000Z"


def when(second: int) -> datetime.datetime:
    return datetime.datetime(2026, 1, 1, 0, 0, second, tzinfo=datetime.UTC)


def json_entry(second: int, text: str, stream: str = "stdout") -> str:
    return json.dumps({"log": text, "stream": stream, "time": stamp(second)}) + "\n"


def cri_entry(second: int, text: str, stream: str = "stdout") -> str:
    return f"{stamp(second)} {stream} {'F' if text.endswith(chr(10)) else 'P'} {text.rstrip(chr(10))}\n"


async def texts(path: Path, **options: Any) -> list[str]:
    return [line.text async for line in logs.read(path, **options)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.mark.parametrize("entry", [json_entry, cri_entry])
def test_choices(log: Path, entry: Any) -> None:
    """In three files, with a line in two parts and one of the other stream between."""
    (log.parent / "log.2").write_text(entry(1, "one\n") + entry(2, "two\n"))
    (log.parent / "log.1").write_text(entry(3, "three ") + entry(4, "err\n", "stderr") + entry(5, "and more\n"))
    log.write_text(entry(6, "six\n") + entry(7, "open"))

    async def work() -> None:
        every = ["one\n", "two\n", "three ", "err\n", "and more\n", "six\n", "open"]
        assert await texts(log) == every
        assert await texts(log, streams=["stderr"]) == ["err\n"]
        assert await texts(log, since=when(4)) == every[3:]
        assert await texts(log, until=when(4)) == every[:4]
        assert await texts(log, since=when(2), until=when(3)) == ["two\n", "three "]
        for count, first in ((0, 7), (1, 6), (2, 5), (4, 2), (5, 1), (6, 0), (100, 0)):
            assert await texts(log, tail=count) == every[first:], count
        assert await texts(log, tail=1, streams=["stderr"]) == ["err\n"]
        assert await texts(log, tail=1, until=when(6)) == ["six\n"]
        assert await texts(log, tail=100, since=when(6)) == ["six\n", "open"]
        found = [line async for line in logs.read(log, tail=2)]
        assert found[0] == LogLine(stamp(6), "stdout", "six\n")

    run(work())


def test_what_is_no_entry(log: Path) -> None:
    good = json_entry(1, "good\n")
    log.write_bytes(b"\n{}\n{\"log\":\nplain text\n\xff\xfe\n" + good.encode() + b'{"log":"torn' + b"\n" + good.encode() + b'{"log":"half')

    async def work() -> None:
        assert await texts(log) == ["good\n"] * 2
        assert await texts(log, tail=1) == ["good\n"]
        assert await texts(log.parent / "missing") == []
        assert await texts(log.parent / "missing", tail=3) == []
        assert await texts(log.parent / "missing/log") == []
        for bad in ({"since": datetime.datetime(2026, 1, 1)}, {"tail": -1}):
            with pytest.raises(InvalidError):
                await texts(log, **bad)

    run(work())


def test_bytes_that_are_no_text(log: Path) -> None:
    log.write_bytes(stamp(1).encode() + b" stdout F \xff\0 x\n")
    assert run(texts(log)) == ["\ufffd\0 x\n"]


@pytest.mark.parametrize("size", [0, 1, 10, 65535, 65536, 65537, 200_000])
def test_backwards(log: Path, size: int) -> None:
    """Whatever lies on the border of a block."""
    entries = [b"x" * (index % 7) + b"%d" % index for index in range(size // 6)] + [b"", b"y" * (size // 3)]
    whole = b"".join(entry + b"\n" for entry in entries)
    log.write_bytes(whole + b"unfinished")
    file = LogFile(os.open(log, os.O_RDONLY))
    found = list(file.backwards(file.size()))
    file.close()
    assert found[0] == (len(whole), b"")
    assert [entry for _, entry in reversed(found[1:])] == entries
    for offset, entry in found:
        assert whole[offset : offset + len(entry)] == entry


async def take(lines: AsyncIterator[LogLine], count: int) -> list[str]:
    return [(await anext(lines)).text for _ in range(count)]


def test_follow(log: Path) -> None:
    """Appended to, in halves of entries, renamed, cut, and removed."""

    async def work() -> None:
        ended = asyncio.Event()
        lines = logs.read(log, follow=True, ended=ended)
        first = asyncio.create_task(take(lines, 1))
        await asyncio.sleep(0.02)
        with open(log, "a", buffering=1) as file:
            file.write(json_entry(1, "one\n"))
        assert await first == ["one\n"]
        with open(log, "a") as file:
            entry = json_entry(2, "two\n")
            file.write(entry[:20])
            file.flush()
            second = asyncio.create_task(take(lines, 1))
            await asyncio.sleep(0.02)
            assert not second.done()
            file.write(entry[20:])
            file.flush()
            assert await second == ["two\n"]
            # To the old file after it was renamed, as long as there is no new one.
            log.rename(log.parent / "log.1")
            file.write(json_entry(3, "three\n"))
        assert await take(lines, 1) == ["three\n"]
        log.write_text(json_entry(4, "four\n"))
        assert await take(lines, 1) == ["four\n"]
        with open(log, "a") as file:
            os.ftruncate(file.fileno(), 0)
            file.write(json_entry(5, "5\n"))
        assert await take(lines, 1) == ["5\n"]
        log.unlink()
        log.write_text(json_entry(6, "six\n") + json_entry(7, "seven\n"))
        assert await take(lines, 1) == ["six\n"]
        ended.set()
        assert [line.text async for line in lines] == ["seven\n"]

    run(work())


def test_follow_wakes_for_nothing_else(log: Path) -> None:
    """It does not poll: without a change the loop sleeps."""
    log.write_text(json_entry(1, "one\n"))

    async def work() -> None:
        lines = logs.read(log, follow=True)
        assert await take(lines, 1) == ["one\n"]
        waiting = asyncio.create_task(take(lines, 1))
        await asyncio.sleep(0.05)
        before = os.times()
        await asyncio.sleep(0.5)
        after = os.times()
        assert after.user + after.system - before.user - before.system < 0.1
        (log.parent / "another").write_text("not ours")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(work())


def test_follow_until(log: Path) -> None:
    async def work() -> None:
        now = datetime.datetime.now(datetime.UTC)
        log.write_text(json_entry(1, "one\n"))
        assert await texts(log, follow=True, until=now + datetime.timedelta(seconds=0.2)) == ["one\n"]
        assert await texts(log, follow=True, until=now - datetime.timedelta(seconds=5)) == ["one\n"]
        log.write_text(json_entry(1, "one\n") + json_entry(3, "three\n"))
        assert await texts(log, follow=True, until=when(2)) == ["one\n"]

    run(work())


def test_follow_the_tail(log: Path) -> None:
    log.write_text("".join(json_entry(1, f"{number}\n") for number in range(10)))

    async def work() -> None:
        ended = asyncio.Event()
        lines = logs.read(log, follow=True, ended=ended, tail=2)
        assert await take(lines, 2) == ["8\n", "9\n"]
        with open(log, "a") as file:
            file.write(json_entry(2, "10\n"))
        assert await take(lines, 1) == ["10\n"]
        await lines.aclose()

    run(work())


@pytest.mark.parametrize("driver", ["json-file", "cri"])
def test_follow_a_monitor_that_rotates(world: World, driver: Any) -> None:
    """Every line once and in order, for readers that began before, between and after, while files are renamed all the time."""
    count = 30_000

    async def work() -> None:
        log = LogSettings(driver, world.root / "log", 50_000, 1000)
        script = f"read line; seq 1 {count // 2}; sleep 0.05; seq {count // 2 + 1} {count}"
        folder, _ = await world.start(*shell(script), stdin_open=True, log=log)
        ended = asyncio.Event()

        async def follow() -> list[int]:
            assert log.path
            return [int(line.text) async for line in logs.read(log.path, follow=True, ended=ended)]

        readers = [asyncio.create_task(follow()) for _ in range(2)]
        async with await monitor.attach(folder, stdin=True, stdout=False, stderr=False) as attachment:
            await attachment.send(b"\n")
            await asyncio.sleep(0.03)
            readers += [asyncio.create_task(follow()) for _ in range(2)]
            assert log.path
            # Read to where it was when it was opened.
            so_far = [int(line.text) async for line in logs.read(log.path)]
            assert so_far == list(range(1, len(so_far) + 1))
            await monitor.wait(folder)
        ended.set()
        for found in await asyncio.gather(*readers):
            assert found == list(range(1, count + 1))
        assert len(open_and_close(log.path)) > 10

    run(work())


def open_and_close(path: Path) -> list[LogFile]:
    files = open_all(path)
    for file in files:
        file.close()
    return files
