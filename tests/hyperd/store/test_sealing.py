"""What of the database is sealed: nothing of a pod's secrets is in any file of it, also where an earlier hyperd had written them."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import msgspec
import pytest

from hyperd import spec
from hyperd.errors import UnavailableError
from hyperd.sealing import Seal
from hyperd.store import ExecRecord, PodRecord, Store
from hyperd.store.schema import MIGRATIONS

SECRET = "correct horse battery staple"  # noqa: S105
POD = PodRecord(
    id="1" * 16,
    name="p",
    spec=spec.Pod(name="p", containers=(spec.Container(name="c", image="i", environment=(("PASSWORD", SECRET),)),)),
    created=1.0,
)
EXEC = ExecRecord(id="e", container="c", pod=POD.id, args=("mysql", f"-p{SECRET}"), created=1.0)


def contents(path: Path, seal: Seal | None = None) -> tuple[list[PodRecord], list[ExecRecord]]:
    async def work() -> tuple[list[PodRecord], list[ExecRecord]]:
        store = Store(path, seal=seal)
        try:
            read = await store.open()
        finally:
            await store.close()
        return read.pods, read.execs

    return asyncio.run(work())


def write(path: Path) -> None:
    async def work() -> None:
        store = Store(path)
        await store.open()
        await store.add_pod(POD, [])
        await store.put_exec(EXEC)
        await store.put_pod(msgspec.structs.replace(POD, phase="running"))
        files = list(path.parent.glob("hyperd.db*"))
        assert len(files) == 3 and all(SECRET.encode() not in file.read_bytes() for file in files)
        assert {file.stat().st_mode & 0o777 for file in [*files, path.with_name("secrets.key")]} == {0o600}
        await store.close()

    asyncio.run(work())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hyperd.db"


def test_nothing_is_readable_and_all_is_read_again(path: Path) -> None:
    write(path)
    assert contents(path) == ([msgspec.structs.replace(POD, phase="running")], [EXEC])


def test_what_was_written_in_clear_is_sealed(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL; {MIGRATIONS[0]}; PRAGMA user_version = 1;")
        connection.execute("INSERT INTO pods VALUES (?, ?, ?)", (POD.id, POD.name, msgspec.json.encode(POD)))
        connection.execute("INSERT INTO execs VALUES (?, ?, ?, ?)", (EXEC.id, EXEC.pod, EXEC.container, msgspec.json.encode(EXEC)))
    connection.close()
    assert SECRET.encode() in path.read_bytes()
    assert contents(path) == ([POD], [EXEC])
    assert all(SECRET.encode() not in file.read_bytes() for file in path.parent.glob("hyperd.db*"))
    assert contents(path) == ([POD], [EXEC])


def test_the_key_may_lie_elsewhere(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "credential"
    elsewhere.write_text("5a" * 32 + "\n")
    elsewhere.chmod(0o400)
    assert contents(path, Seal(elsewhere)) == ([], [])
    assert not path.with_name("secrets.key").exists()


def test_a_key_that_is_lost_is_not_made_anew(path: Path) -> None:
    write(path)
    key = path.with_name("secrets.key")
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(UnavailableError, match=r"cannot read .*secrets\.key: No such file") as caught:
        contents(path)
    assert "secrets_key" in caught.value.hint and not key.exists()
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    with pytest.raises(UnavailableError, match="is not its key"):
        contents(path)
    key.write_bytes(kept)
    assert contents(path)[0]


@pytest.mark.parametrize(("data", "mode", "message"), [(b"short", 0o600, "it is no key"), (bytes(33), 0o600, "it is no key"), (bytes(32), 0o644, "others may read it")])
def test_bad_keys(path: Path, data: bytes, mode: int, message: str) -> None:
    write(path)
    key = path.with_name("secrets.key")
    key.write_bytes(data)
    key.chmod(mode)
    with pytest.raises(UnavailableError, match=message):
        contents(path)


def test_rows_cannot_be_exchanged(path: Path) -> None:
    write(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE pods SET id = ?", ("2" * 16,))
    connection.close()
    with pytest.raises(UnavailableError, match="it was changed"):
        contents(path)
