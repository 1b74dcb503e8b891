"""Monitors as the manager of pods uses them."""

import asyncio
import contextlib
import math
import shutil
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hyperd import spec
from hyperd.errors import UnavailableError
from hyperd.pods.ports import Exit, Streams
from hyperd.pods.runv import message_of
from hyperd.streams import logs, monitor
from hyperd.streams.records import CommandError, LogSettings
from hyperd.streams.records import Exit as MonitorExit

# The end of the year 9999.
_LATEST = 253402300799.0
_NUMBERS = {"stdout": 1, "stderr": 2}
_CONTROL = 3


class RunvMonitors:
    """``program``: the path of runv-monitor; empty: the one beside this installation. ``groups``: folders of cgroups that monitors are to be in."""

    def __init__(self, program: str, groups: Sequence[str] = ()) -> None:
        self._program = Path(program) if program else monitor.PROGRAM
        self._groups = groups

    async def create(
        self,
        folder: Path,
        command: list[str],
        *,
        terminal: bool,
        stdin_open: bool,
        stdin_once: bool,
        log: spec.Log,
        log_path: Path | None,
        hold: bool | None,
        timeout_s: float,
    ) -> None:
        """Returns when the command has made the process.

        :raise UnavailableError: it failed, with what it said
        """
        await asyncio.to_thread(_make_folder, folder, log_path)
        settings = LogSettings(log.driver, log_path, log.max_size, log.max_files) if log_path is not None else LogSettings()
        try:
            await monitor.create(
                folder,
                command,
                program=self._program,
                terminal=terminal,
                stdin_open=stdin_open,
                stdin_once=stdin_once,
                hold=bool(hold),
                log=settings,
                groups=self._groups,
                timeout_s=timeout_s,
            )
        except CommandError as error:
            raise UnavailableError(message_of(error.stderr.encode()) or error.message) from error

    def state(self, folder: Path) -> str:
        """``none``, ``creating``, ``running`` or ``exited``."""
        return monitor.state(folder)

    async def wait(self, folder: Path) -> Exit:
        """Waits for the end of the process."""
        return _exit(await monitor.wait(folder))

    async def end(self, folder: Path) -> None:
        """Kills a monitor and the call that it is waiting for, and forgets both; fine when there is none."""
        if await asyncio.to_thread(folder.is_dir):
            # One whose process has ended only lets its clients read the rest, and then ends: it does not need its folder for that.
            if monitor.state(folder) != "exited":
                await monitor.end(folder)
            await asyncio.to_thread(shutil.rmtree, folder, True)

    async def attach(self, folder: Path, *, stdin: bool, stdout: bool, stderr: bool, hold: bool) -> Streams:
        """``hold``: its output waits for a slow reader, instead of being lost to it."""
        return _Attached(await monitor.attach(folder, stdin=stdin, stdout=stdout, stderr=stderr, hold=hold))

    async def resize(self, folder: Path, rows: int, columns: int) -> None:
        """Of its terminal."""
        await monitor.resize(folder, rows, columns)


class _Attached:
    """A monitor's connection as the API carries it."""

    def __init__(self, attachment: monitor.Attachment) -> None:
        self._attachment = attachment
        self._behind: tuple[int, bytes] | None = None

    async def read(self) -> tuple[int, bytes] | None:
        if self._behind is not None:
            behind, self._behind = self._behind, None
            return behind
        try:
            chunk = await anext(self._attachment)
        except StopAsyncIteration:
            return None
        output = _NUMBERS[chunk.stream], chunk.data
        if not chunk.lost:
            return output
        self._behind = output if chunk.data else None
        return _CONTROL, msgspec.json.encode({"lost": {"stream": chunk.stream, "bytes": chunk.lost}})

    async def write(self, data: bytes) -> None:
        await self._attachment.send(data)

    async def end_input(self) -> None:
        await self._attachment.send_eof()

    async def resize(self, rows: int, columns: int) -> None:
        await self._attachment.resize(rows, columns)

    async def close(self) -> None:
        self._attachment.close()


def _exit(found: MonitorExit) -> Exit:
    with contextlib.suppress(ValueError):
        # Nanoseconds are more than Python's clock knows.
        return Exit(found.code, found.signal, finished=datetime.fromisoformat(found.finished[:26] + "+00:00").timestamp())
    return Exit(found.code, found.signal)


def _make_folder(folder: Path, log_path: Path | None) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if log_path is not None:
            log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"cannot make {error.filename}: {error.strerror}") from error


async def read_log(
    path: Path, *, follow: bool, ended: asyncio.Event, since: float, until: float, tail: int, streams: frozenset[str]
) -> AsyncIterator[tuple[str, str, str]]:
    """As ``hyperd.pods.ports.LogReader`` says.

    :raise UnavailableError: the log cannot be read
    """
    try:
        lines = logs.read(
            path,
            follow=follow,
            ended=ended,
            since=_moment(since) if since else None,
            until=_moment(until) if math.isfinite(until) else None,
            tail=None if tail < 0 else tail,
            streams=sorted(streams),
        )
        async with contextlib.aclosing(lines):
            async for line in lines:
                yield line
    except OSError as error:
        raise UnavailableError(f"cannot read {path}: {error.strerror}") from error


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(min(seconds, _LATEST), UTC)
