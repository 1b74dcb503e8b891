"""Access to the database. All of it runs on one thread of its own, so that the event loop never waits for a disk."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from hyperd.errors import ConflictError, UnavailableError
from hyperd.sealing import Seal
from hyperd.store.records import ContainerRecord, Event, ExecRecord, PodRecord
from hyperd.store.schema import migrate
from hyperd.store.sealing import opened, purpose, seal_all

Result = TypeVar("Result")

_POD = msgspec.json.Decoder(PodRecord)
_CONTAINER = msgspec.json.Decoder(ContainerRecord)
_EXEC = msgspec.json.Decoder(ExecRecord)
_EVENT = msgspec.json.Decoder(Event)
_BUSY_TIMEOUT_S = 10.0
_TRIM_EVERY = 256


class Contents(msgspec.Struct, frozen=True):
    """Everything but the events, as it is read at the start."""

    pods: list[PodRecord]
    containers: list[ContainerRecord]
    execs: list[ExecRecord]


class Store:
    """The database. A change that was awaited is on disk, as far as a crash of this process goes.

    Records of pods and further processes have secrets in them, in variables, files and commands: they are sealed.

    :param kept_events: how many of the newest events are kept
    :param seal: its key is made at the first opening; None: the key is beside the database
    """

    def __init__(self, path: Path, kept_events: int = 10000, seal: Seal | None = None) -> None:
        self._path = path
        self._seal = seal or Seal(path.with_name("secrets.key"))
        self._kept_events = kept_events
        self._thread = ThreadPoolExecutor(1, "store")
        self._connection: sqlite3.Connection | None = None
        self._since_trim = 0

    async def open(self) -> Contents:
        """Opens, migrates and reads it.

        :raise UnavailableError: it cannot be opened, is damaged, or of a later version
        """
        return await self._run(self._open)

    async def close(self) -> None:
        """Ends the thread when all that was asked for is written."""
        await self._run(self._close)
        await asyncio.to_thread(self._thread.shutdown)

    async def add_pod(self, pod: PodRecord, containers: list[ContainerRecord]) -> None:
        """Takes the pod's name.

        :raise ConflictError: it is taken
        """

        def write(connection: sqlite3.Connection) -> None:
            try:
                connection.execute("INSERT INTO pods VALUES (?, ?, ?)", (pod.id, pod.name, self._sealed("pods", pod)))
                for container in containers:
                    _put_container(connection, container)
            except sqlite3.IntegrityError:
                raise ConflictError(f"pod {pod.name} exists already", hint="choose another name, or remove it") from None

        await self._write(write)

    async def put_pod(self, pod: PodRecord, *containers: ContainerRecord) -> None:
        """Writes a pod, and containers of it, in one step."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE pods SET name = ?, record = ? WHERE id = ?", (pod.name, self._sealed("pods", pod), pod.id))
            for container in containers:
                _put_container(connection, container)

        await self._write(write)

    async def put_container(self, container: ContainerRecord) -> None:
        """Adds or changes a container."""
        await self._write(lambda connection: _put_container(connection, container))

    async def remove_pod(self, pod: str) -> None:
        """Forgets a pod with all that is its."""
        await self._write(lambda connection: _ignore(connection.execute("DELETE FROM pods WHERE id = ?", (pod,))))

    async def remove_container(self, pod: PodRecord, container: str) -> None:
        """Forgets a container, and writes what its pod is without it."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM execs WHERE container = ?", (container,))
            connection.execute("DELETE FROM containers WHERE id = ?", (container,))
            connection.execute("UPDATE pods SET record = ? WHERE id = ?", (self._sealed("pods", pod), pod.id))

        await self._write(write)

    async def put_exec(self, record: ExecRecord) -> None:
        """Adds or changes a process."""
        row = (record.id, record.pod, record.container, self._sealed("execs", record))
        sql = "INSERT INTO execs VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record"
        await self._write(lambda connection: _ignore(connection.execute(sql, row)))

    async def remove_execs(self, ids: list[str]) -> None:
        """Forgets processes."""
        rows = [(one,) for one in ids]
        await self._write(lambda connection: _ignore(connection.executemany("DELETE FROM execs WHERE id = ?", rows)))

    async def add_event(self, event: Event) -> Event:
        """Writes an event; the one that is returned has its number."""

        def write(connection: sqlite3.Connection) -> int:
            cursor = connection.execute(
                "INSERT INTO events (time, record) VALUES (?, ?)", (event.time, msgspec.json.encode(event))
            )
            self._trim(connection, cursor.lastrowid or 0)
            return cursor.lastrowid or 0

        return msgspec.structs.replace(event, sequence=await self._write(write))

    async def events(self, since: float, until: float, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events of a time, oldest first: those numbered after ``after``, at most ``limit``."""
        sql = "SELECT sequence, record FROM events WHERE time >= ? AND time <= ? AND sequence > ? ORDER BY sequence LIMIT ?"

        def read() -> list[Event]:
            rows = self._opened().execute(sql, (since, until, after, limit))
            return [msgspec.structs.replace(_EVENT.decode(record), sequence=number) for number, record in rows]

        return await self._run(read)

    async def _write(self, change: Callable[[sqlite3.Connection], Result]) -> Result:
        def transaction() -> Result:
            connection = self._opened()
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                return change(connection)

        return await self._run(transaction)

    async def _run(self, work: Callable[[], Result]) -> Result:
        def guarded() -> Result:
            try:
                return work()
            except (sqlite3.Error, OSError) as error:
                raise UnavailableError(f"cannot use {self._path}: {error}") from error

        # What was begun is finished: an abandoned wait must not leave the caller's memory behind the file.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, guarded))

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise UnavailableError(f"cannot use {self._path}: it is closed")
        return self._connection

    def _open(self) -> Contents:
        # Its log and index have the mode that it has.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._connection = connection
        self._path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        migrate(connection)
        seal_all(connection, self._seal)
        return Contents(
            [_POD.decode(record) for record in opened(connection, self._seal, "pods")],
            [_CONTAINER.decode(row[0]) for row in connection.execute("SELECT record FROM containers")],
            [_EXEC.decode(record) for record in opened(connection, self._seal, "execs")],
        )

    def _sealed(self, table: str, record: PodRecord | ExecRecord) -> bytes:
        return self._seal.close(msgspec.json.encode(record), purpose(table, record.id))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _trim(self, connection: sqlite3.Connection, newest: int) -> None:
        self._since_trim += 1
        if self._since_trim >= _TRIM_EVERY:
            self._since_trim = 0
            connection.execute("DELETE FROM events WHERE sequence <= ?", (newest - self._kept_events,))


def _put_container(connection: sqlite3.Connection, record: ContainerRecord) -> None:
    sql = "INSERT INTO containers VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record"
    try:
        connection.execute(sql, (record.id, record.pod, record.name, msgspec.json.encode(record)))
    except sqlite3.IntegrityError:
        raise ConflictError(f"container {record.name} exists already in its pod") from None


def _ignore(_cursor: sqlite3.Cursor) -> None:
    """For a statement whose outcome is that it did not fail."""
