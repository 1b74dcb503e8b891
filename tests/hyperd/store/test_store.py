"""The database: what was written is read again, by this version and after a crash; older files are brought up to date."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from hyperd import spec
from hyperd.errors import ConflictError, UnavailableError
from hyperd.store import ContainerRecord, Event, ExecRecord, PodRecord, Store
from hyperd.store.schema import MIGRATIONS

Result = TypeVar("Result")


def pod(number: int = 1, name: str = "") -> PodRecord:
    text = name or f"pod{number}"
    return PodRecord(id=f"{number:016x}", name=text, spec=spec.Pod(name=text, labels={"a": "b"}), created=1.5)


def container(of: PodRecord, name: str = "c") -> ContainerRecord:
    return ContainerRecord(id=f"c{of.id[1:]}", pod=of.id, name=name, kind="main", position=0, created=2.0)


def used(path: Path, work: Callable[[Store], Awaitable[Result]], kept_events: int = 100) -> Result:
    async def run() -> Result:
        store = Store(path, kept_events)
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def contents(path: Path) -> tuple[list[PodRecord], list[ContainerRecord], list[ExecRecord]]:
    async def run() -> tuple[list[PodRecord], list[ContainerRecord], list[ExecRecord]]:
        store = Store(path)
        read = await store.open()
        await store.close()
        return read.pods, read.containers, read.execs

    return asyncio.run(run())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hyperd.db"


def test_what_was_written_is_read_again(path: Path) -> None:
    one = pod()
    process = ExecRecord(id="e1", container=container(one).id, pod=one.id, args=("sh",), created=3.0, tty=True)

    async def work(store: Store) -> None:
        await store.add_pod(one, [container(one)])
        await store.put_exec(process)

    used(path, work)
    assert contents(path) == ([one], [container(one)], [process])


def test_a_name_is_taken_once(path: Path) -> None:
    async def work(store: Store) -> None:
        await store.add_pod(pod(1, "same"), [])
        with pytest.raises(ConflictError, match="pod same exists already"):
            await store.add_pod(pod(2, "same"), [container(pod(2, "same"))])

    used(path, work)
    assert contents(path) == ([pod(1, "same")], [], [])


def test_what_belongs_to_a_pod_goes_with_it(path: Path) -> None:
    one, two = pod(1), pod(2)

    async def work(store: Store) -> None:
        for each in (one, two):
            await store.add_pod(each, [container(each)])
            await store.put_exec(ExecRecord(id=f"e{each.id}", container=container(each).id, pod=each.id, args=("x",), created=1.0))
        await store.remove_pod(one.id)

    used(path, work)
    pods, containers, execs = contents(path)
    assert (pods, containers) == ([two], [container(two)])
    assert [each.pod for each in execs] == [two.id]


def test_events_are_numbered_and_the_oldest_go(path: Path) -> None:
    async def work(store: Store) -> list[Event]:
        for number in range(600):
            written = await store.add_event(Event(time=float(number), kind="pod", action="start", id="1", name=str(number)))
            assert written.sequence == number + 1
        return await store.events(0, 1e9)

    events = used(path, work, kept_events=100)
    assert events[-1].name == "599" and events[0].sequence > 300
    assert [event.sequence for event in events] == list(range(events[0].sequence, 601))


def test_events_of_a_time(path: Path) -> None:
    async def work(store: Store) -> list[str]:
        for number in range(10):
            await store.add_event(Event(time=float(number), kind="pod", action="start", id="1", name=str(number)))
        first = await store.events(2.0, 6.0, limit=2)
        return [event.name for event in [*first, *await store.events(2.0, 6.0, after=first[-1].sequence)]]

    assert used(path, work) == ["2", "3", "4", "5", "6"]


def test_a_later_version_is_refused(path: Path) -> None:
    used(path, lambda store: store.add_pod(pod(), []))
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(UnavailableError, match="this hyperd knows"):
        contents(path)


def test_something_else_is_no_database(path: Path) -> None:
    path.write_bytes(b"what is this" * 1000)
    with pytest.raises(UnavailableError, match=r"hyperd\.db: file is not a database"):
        contents(path)


def test_only_its_owner_reads_it(path: Path) -> None:
    used(path, lambda store: store.add_pod(pod(), []))
    assert path.stat().st_mode & 0o777 == 0o600


_WRITER = """
import asyncio, sys
from pathlib import Path
from hyperd import spec
from hyperd.store import PodRecord, Store

async def main():
    store = Store(Path(sys.argv[1]))
    await store.open()
    for number in range(10000):
        await store.add_pod(PodRecord(id=f"{number:016x}", name=f"p{number}", spec=spec.Pod(name=f"p{number}"), created=1.0), [])
        print(number, flush=True)

asyncio.run(main())
"""


def test_what_was_answered_survives_sigkill(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert process.stdout is not None
    last = 0
    for line in process.stdout:
        last = int(line)
        if last == 20:
            os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(contents(path)[0]) in (last + 1, last + 2)
