"""Monitors: started, asked, attached to and waited for. Everything but ``create`` needs only the folder, so it works for monitors of an earlier daemon."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from hyperd.errors import MissingError, UnavailableError
from hyperd.streams import connection
from hyperd.streams.connection import Connection, connect
from hyperd.streams.records import (
    Chunk,
    CommandError,
    Created,
    Exit,
    LogSettings,
    Outcome,
    State,
    Status,
    Stream,
    parse_exit,
    parse_status,
    unknown_exit,
)
from runv.processes import Identity, read_identity

# PREFIX/libexec/runv beside this very installation (PREFIX/lib/runv/hyperd/streams/monitor.py)
PROGRAM = Path(__file__).resolve().parents[4] / "libexec/runv/runv-monitor"

_ABANDON_PAUSE_S = 0.05
_WAIT_PAUSE_S = 0.02
_GRACE_STEP_S = 0.05
_GRACE_STEPS = 60
_KILL_TIMEOUT_S = 10.0
_MESSAGE = re.compile(r'level=error msg="((?:[^"\\]|\\.)*)"')


async def create(
    folder: Path,
    command: Sequence[str],
    *,
    program: Path = PROGRAM,
    terminal: bool = False,
    stdin_open: bool = False,
    stdin_once: bool = False,
    hold: bool = False,
    log: LogSettings | None = None,
    groups: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout_s: float = 300.0,
) -> Created:
    """Runs ``runv ... create ... ID`` or ``runv ... exec --process FILE ID`` under a new monitor, and returns when it has worked.

    :param folder: an existing folder, absolute, of this process alone; what an ended monitor left in it is removed
    :param command: absolute paths; ``--pid-file``, ``--detach`` and ``--console-socket`` are added to it here
    :param stdin_open: a pipe or the terminal takes input from who attaches; otherwise it is /dev/null
    :param stdin_once: it ends with the client that attached it (Docker's -i)
    :param hold: of an exec: output waits for the first client, who so sees all of it
    :param groups: folders of cgroups that the monitor, and nothing else, is to be in; those that do not take it are passed over
    :raise CommandError: the command failed
    :raise UnavailableError: there is no monitor, or it could not do its part, or ``timeout_s`` is over; what the
        command may have made is still there
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    options = _options(folder, command, write, terminal, stdin_open, stdin_once, hold, log or LogSettings())
    argv = [*_entering(groups), str(program), *options, "--", *_completed(command, folder, terminal)]
    with os.fdopen(read, "rb", buffering=0) as report, os.fdopen(write, "wb", buffering=0) as write_end:
        try:
            async with asyncio.timeout(timeout_s):
                await _start(program, argv, env, write_end.fileno())
                write_end.close()
                outcome = _outcome(await _read_all(report.fileno()), command)
        except BaseException as error:
            write_end.close()
            await asyncio.shield(_abandon(folder, report.fileno()))
            if isinstance(error, TimeoutError):
                raise UnavailableError(f"cannot run {command[0]}: it took longer than {timeout_s:g} s") from None
            raise
    if outcome.error:
        raise UnavailableError(f"cannot monitor {folder}: {outcome.error}")
    if outcome.code:
        raise CommandError(_message(command, outcome), outcome.code, outcome.stderr)
    return Created(outcome.pid, outcome.stderr)


def _options(
    folder: Path, command: Sequence[str], status_fd: int, terminal: bool, stdin_open: bool, stdin_once: bool, hold: bool, log: LogSettings
) -> list[str]:
    flags = {
        "--terminal": terminal,
        "--stdin": stdin_open,
        "--stdin-once": stdin_open and stdin_once,
        "--exec": _subcommand(command) == "exec",
        "--hold": hold,
    }
    options = ["--status-fd", str(status_fd), "--dir", str(folder), *(flag for flag, is_set in flags.items() if is_set)]
    if log.driver != "none":
        options += ["--log-format", log.driver, "--log-path", str(log.path)]
        options += ["--log-max-size", str(log.max_size), "--log-max-files", str(log.max_files)]
    return options


def _subcommand(command: Sequence[str]) -> str:
    return next(word for word in command[1:] if word in ("create", "exec"))


def _completed(command: Sequence[str], folder: Path, terminal: bool) -> list[str]:
    """With what the monitor needs, behind the word ``create`` or ``exec``."""
    word = _subcommand(command)
    more = ["--pid-file", str(folder / "pid")]
    if word == "exec":
        more.append("--detach")
    if terminal:
        more += ["--console-socket", str(folder / "console.sock")]
        more += ["--tty"] if word == "exec" and "--process" not in command else []
    at = list(command).index(word, 1) + 1
    return [*command[:at], *more, *command[at:]]


def _entering(groups: Sequence[str]) -> list[str]:
    """What runs the rest of a command line in cgroups."""
    if not groups:
        return []
    return ["/bin/sh", "-c", 'for one in $0; do echo 0 >"$one/cgroup.procs"; done 2>/dev/null; exec "$@"', " ".join(groups)]


async def _start(program: Path, argv: list[str], env: Mapping[str, str] | None, report_fd: int) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=env,
            pass_fds=[report_fd],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise UnavailableError(f"cannot start {program}: {error.strerror}") from error
    _, said = await process.communicate()
    if process.returncode != 0:
        raise UnavailableError(f"cannot start {program}: {said.decode(errors='replace').strip()}")


async def _abandon(folder: Path, report_fd: int) -> None:
    """Whatever the monitor is just about: it has not begun, it waits for its command, or it has ended. It closes the pipe when it knows."""
    end_of_patience = asyncio.get_running_loop().time() + _KILL_TIMEOUT_S
    while asyncio.get_running_loop().time() < end_of_patience:
        await end(folder)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ABANDON_PAUSE_S):
                await _read_all(report_fd)
                return


def _outcome(text: bytes, command: Sequence[str]) -> Outcome:
    try:
        return msgspec.json.decode(text, type=Outcome)
    except msgspec.MsgspecError:
        raise UnavailableError(f"cannot run {command[0]}: its monitor ended without a word") from None


async def _read_all(fd: int) -> bytes:
    os.set_blocking(fd, False)
    data = b""
    while True:
        await _readable(fd)
        more = os.read(fd, 1 << 16)
        if not more:
            return data
        data += more


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


def _message(command: Sequence[str], outcome: Outcome) -> str:
    found = _MESSAGE.findall(outcome.stderr)
    if found:
        return re.sub(r"\\(.)", r"\1", found[-1])
    last = outcome.stderr.strip().rpartition("\n")[2]
    return last or f"cannot run {command[0]}: it ended with code {outcome.code}"


def exit_status(folder: Path) -> Exit | None:
    """What the monitor has left; None as long as there is nothing."""
    try:
        return parse_exit((folder / "exit").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.MsgspecError:
        return unknown_exit()


def _alive(folder: Path, name: str) -> Identity | None:
    found = read_identity(str(folder / name))
    return found if found is not None and found.alive() else None


def state(folder: Path) -> State:
    """``running`` until its output is written; also without a monitor, if that was killed."""
    if (folder / "exit").exists():
        return "exited"
    monitor = _alive(folder, "monitor.pid")
    if (folder / "process.pid").exists():
        # The exit may have come while we looked.
        return "running" if monitor or _alive(folder, "process.pid") else "exited"
    return "creating" if monitor else "none"


async def end(folder: Path) -> None:
    """Ends a creation that is under way, or a monitor whose process runs, which is let go of. Does nothing where there is none.

    A monitor whose process has ended is left to pass on what clients have not read; the folder is no longer its.

    :raise UnavailableError: something could not be killed
    """
    found = state(folder)
    if found == "exited":
        return
    if found == "creating":
        monitor = _alive(folder, "monitor.pid")
        _kill([monitor], signal.SIGTERM)
        for _ in range(_GRACE_STEPS):
            if await _gone([monitor], _GRACE_STEP_S):
                return
            if state(folder) != "creating":  # it was quicker than we
                break
    remaining = [_alive(folder, "command.pid"), _alive(folder, "monitor.pid")]
    _kill(remaining, signal.SIGKILL)
    if not await _gone(remaining, _KILL_TIMEOUT_S):
        raise UnavailableError(f"cannot end the monitor of {folder}: it does not die")


def _kill(identities: Iterable[Identity | None], number: int) -> None:
    for identity in identities:
        if identity is not None and identity.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity.pid, number)


async def _gone(identities: Iterable[Identity | None], timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            for identity in identities:
                if identity is not None:
                    await _process_end(identity)
    except TimeoutError:
        return False
    return True


async def _process_end(identity: Identity) -> None:
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    try:
        if identity.alive():  # the one that the descriptor is of: a pid is not used again while one is looked at
            await _readable(fd)
    finally:
        os.close(fd)


async def wait(folder: Path) -> Exit:
    """Waits until the process has ended and its output was written.

    :raise MissingError: there is no process, and there never was one
    """
    while True:
        found = exit_status(folder)
        if found is not None:
            return found
        try:
            link = await connect(folder)
        except OSError:
            found = await _wait_without(folder)
            if found is not None:
                return found
            continue
        try:
            await link.send(connection.ATTACH, b"\0")
            while (frame := await link.receive()) is not None:
                if frame[0] == connection.EXIT:
                    return parse_exit(frame[1])
            # It ends at this moment, or has too many clients.
            await asyncio.sleep(_WAIT_PAUSE_S)
        except ConnectionError:
            pass  # it has ended meanwhile: the file, or its absence, tells
        finally:
            link.close()


async def _wait_without(folder: Path) -> Exit | None:
    """Nobody listens: the monitor has just ended, or was killed. None: look again."""
    monitor = _alive(folder, "monitor.pid")
    if monitor is not None:
        await _process_end(monitor)
        return None
    process = read_identity(str(folder / "process.pid"))
    if process is None:
        if (found := exit_status(folder)) is None:
            raise MissingError(f"cannot wait for {folder}: there is no process")
        return found
    await _process_end(process)
    return exit_status(folder) or unknown_exit()


class Attachment:
    """A client of a process: what it says comes by ``async for``, which ends with the process (``exit``) or its monitor (``exit`` stays None)."""

    def __init__(self, link: Connection | None, offers: int, ended: Exit | None) -> None:
        self._link = link
        self.stdin_open = bool(offers & 1)
        self.terminal = bool(offers & 16)
        self.exit = ended
        self._lost = {connection.STDOUT: 0, connection.STDERR: 0}

    def __aiter__(self) -> "Attachment":
        return self

    async def __anext__(self) -> Chunk:
        while self._link is not None and self.exit is None:
            frame = await self._link.receive()
            if frame is None:
                break
            kind, data = frame
            if kind == connection.EXIT:
                self.exit = parse_exit(data)
            elif kind == connection.LOST:
                self._lost[data[0]] += int.from_bytes(data[1:], "big")
            elif kind == connection.ERROR:
                raise UnavailableError(f"the monitor refuses: {data.decode(errors='replace')}")
            elif kind in self._lost:
                lost, self._lost[kind] = self._lost[kind], 0
                return Chunk(_stream(kind), data, lost)
        return self._last()

    def _last(self) -> Chunk:
        """What was lost at the very end has no output after it."""
        for kind, lost in self._lost.items():
            if lost:
                self._lost[kind] = 0
                return Chunk(_stream(kind), b"", lost)
        raise StopAsyncIteration

    async def send(self, data: bytes) -> None:
        """Input; it waits while the process does not take it. Input for a process that has ended is dropped."""
        for at in range(0, len(data), connection.INPUT_MAX):
            await self._send(connection.STDIN, data[at : at + connection.INPUT_MAX])

    async def send_eof(self) -> None:
        """No more input. It ends the process's own only with ``stdin_once``."""
        await self._send(connection.STDIN)

    async def resize(self, rows: int, columns: int) -> None:
        """The terminal's size; without a terminal nothing."""
        await self._send(connection.RESIZE, _size(rows, columns))

    async def _send(self, kind: int, data: bytes = b"") -> None:
        if self._link is not None and self.exit is None:
            with contextlib.suppress(ConnectionError):  # reading tells of the end
                await self._link.send(kind, data)

    def close(self) -> None:
        """Hangs up. May be repeated."""
        if self._link is not None:
            self._link.close()
            self._link = None

    async def __aenter__(self) -> "Attachment":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _stream(kind: int) -> Stream:
    return "stdout" if kind == connection.STDOUT else "stderr"


def _size(rows: int, columns: int) -> bytes:
    return min(rows, 0xFFFF).to_bytes(2, "big") + min(columns, 0xFFFF).to_bytes(2, "big")


async def attach(
    folder: Path, *, stdin: bool = False, stdout: bool = True, stderr: bool = True, hold: bool = False
) -> Attachment:
    """Returns when all that is said from now on will come.

    :param hold: the process waits when we do not read. Without it we lose what is said meanwhile, and are told how much
    :raise MissingError: there is no monitor, and no exit status either
    :raise UnavailableError: it has too many clients
    """
    try:
        link = await connect(folder)
    except OSError:
        return _attached_too_late(folder)
    wanted = {1: stdin, 2: stdout, 4: stderr, 8: hold}
    try:
        with contextlib.suppress(ConnectionError):  # it may have said why not, and hung up
            await link.send(connection.ATTACH, bytes([sum(flag for flag, is_set in wanted.items() if is_set)]))
        frame = await link.receive()
    except BaseException:
        link.close()
        raise
    if frame is None or frame[0] != connection.ATTACHED:
        link.close()
        if frame is not None:
            raise UnavailableError(f"cannot attach: {frame[1].decode(errors='replace')}")
        return _attached_too_late(folder)
    return Attachment(link, frame[1][0], None)


def _attached_too_late(folder: Path) -> Attachment:
    found = exit_status(folder)
    if found is None:
        raise MissingError(f"cannot attach to {folder}: it has no monitor")
    return Attachment(None, 0, found)


async def _ask(folder: Path, kind: int, answer: int) -> bytes:
    try:
        link = await connect(folder)
    except OSError as error:
        raise MissingError(f"cannot ask the monitor of {folder}: {error.strerror}") from None
    try:
        return await link.ask(kind, answer)
    except ConnectionError:
        raise MissingError(f"cannot ask the monitor of {folder}: it has ended") from None
    finally:
        link.close()


async def status(folder: Path) -> Status:
    """:raise MissingError: there is no monitor"""
    return parse_status(await _ask(folder, connection.STATUS, connection.STATE))


async def reopen_log(folder: Path) -> None:
    """The monitor goes on in the file that is at the log's path now, or makes one.

    :raise MissingError: there is no monitor
    :raise UnavailableError: it cannot; it goes on in the old one
    """
    error = await _ask(folder, connection.REOPEN, connection.DONE)
    if error:
        raise UnavailableError(f"cannot reopen the log: {error.decode(errors='replace')}")


async def resize(folder: Path, rows: int, columns: int) -> None:
    """The terminal's size, by a connection of its own: it comes through even if input waits.

    :raise MissingError: there is no monitor
    """
    try:
        link = await connect(folder)
    except OSError as error:
        raise MissingError(f"cannot resize {folder}: {error.strerror}") from None
    try:
        await link.send(connection.RESIZE, _size(rows, columns))
        # Answered when the other was done.
        await link.ask(connection.STATUS, connection.STATE)
    except (ConnectionError, UnavailableError):
        raise MissingError(f"cannot resize {folder}: its process has ended") from None
    finally:
        link.close()
