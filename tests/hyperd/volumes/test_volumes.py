"""Volumes on a folder, with the real mkfs."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError, UnavailableError
from hyperd.volumes import Volumes, disks, sparse

MIB, GIB = 1 << 20, 1 << 30
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path / "volumes")


def is_clean(path: str | Path) -> bool:
    return subprocess.run(["e2fsck", "-fn", path], capture_output=True, check=False).returncode == 0


def debugfs(path: str | Path, request: str) -> str:
    return subprocess.run(["debugfs", "-R", request, path], capture_output=True, text=True, check=True).stdout


def test_a_volume_is_a_sparse_file_with_a_file_system(volumes: Volumes) -> None:
    made = run(volumes.create("data", 10 * GIB, labels={"a": "b"}))
    assert (made.name, made.fstype, made.size, made.labels) == ("data", "ext4", 10 * GIB, {"a": "b"})
    assert made.used < 16 * MIB and is_clean(made.path)
    assert os.stat(made.path).st_mode & 0o777 == 0o600
    assert volumes.find("data") == made == volumes.list()[0]
    # The guest must have nothing left to write zeros to.
    groups = subprocess.run(["dumpe2fs", made.path], capture_output=True, text=True, check=True).stdout
    assert groups.count("INODE_UNINIT") == groups.count("INODE_UNINIT, BLOCK_UNINIT, ITABLE_ZEROED") + groups.count(
        "INODE_UNINIT, ITABLE_ZEROED"
    )


def test_xfs(volumes: Volumes, tmp_path: Path) -> None:
    made = run(volumes.create("data", 300 * MIB, "xfs"))
    with open(made.path, "rb") as file:
        assert file.read(4) == b"XFSB"
    run(volumes.make_disk(tmp_path / "disk", 300 * MIB, fstype="xfs", mode=0o2770, gid=7))
    root = subprocess.run(
        ["xfs_db", "-r", "-c", "inode 128", "-c", "print core.mode core.gid", tmp_path / "disk"], capture_output=True, text=True, check=True
    ).stdout
    assert root.split() == ["core.mode", "=", "042770", "core.gid", "=", "7"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", ".hidden", "a b", "a\n", "ä", "a" * 129])
def test_names(volumes: Volumes, name: str) -> None:
    with pytest.raises(InvalidError):
        run(volumes.create(name, MIB))
    for missing in (lambda: volumes.find(name), lambda: run(volumes.remove(name)), lambda: volumes.resize(name, GIB)):
        with pytest.raises(MissingError):
            missing()


@pytest.mark.parametrize(
    ("size", "fstype", "message"),
    [
        (0, "ext4", "between 1 byte and 16 TiB, not 0"),
        (-1, "ext4", "between 1 byte"),
        (17 << 40, "ext4", "between 1 byte"),
        (100 * MIB, "xfs", "XFS needs at least 300 MiB"),
        (MIB, "btrfs", "unknown file system 'btrfs'"),
    ],
)
def test_what_cannot_be(volumes: Volumes, tmp_path: Path, size: int, fstype: str, message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        run(volumes.create("data", size, fstype))
    assert list((tmp_path / "volumes").iterdir()) == []


def test_a_name_is_given_once(volumes: Volumes) -> None:
    async def both() -> tuple[Any, Any]:
        return await asyncio.gather(volumes.create("data", MIB), volumes.create("data", MIB), return_exceptions=True)

    found = run(both())
    assert sorted(type(one).__name__ for one in found) == ["ConflictError", "Volume"]
    with pytest.raises(ConflictError, match="volume data exists already"):
        run(volumes.create("data", MIB))
    assert [each.name for each in volumes.list()] == ["data"]


def test_sizes_are_whole_and_only_grow(volumes: Volumes) -> None:
    assert run(volumes.create("data", 1)).size == 4 * MIB
    assert volumes.resize("data", 9 * MIB + 1).size == 10 * MIB
    with pytest.raises(InvalidError, match="cannot become smaller"):
        volumes.resize("data", 9 * MIB)
    assert is_clean(volumes.find("data").path)


def test_removing(volumes: Volumes, tmp_path: Path) -> None:
    made = run(volumes.create("data", 16 * MIB))
    assert run(volumes.remove("data")) == made.used
    with pytest.raises(MissingError, match="no such volume: data"):
        run(volumes.remove("data"))
    assert list((tmp_path / "volumes").iterdir()) == []


def test_a_snapshot_is_a_volume_of_its_own(volumes: Volumes) -> None:
    made = run(volumes.create("data", GIB, labels={"a": "b"}))
    subprocess.run(["debugfs", "-w", "-R", "write /etc/passwd file", made.path], capture_output=True, check=True)
    taken = run(volumes.snapshot("data", "copy"))
    assert (taken.size, taken.labels) == (GIB, {"a": "b"}) and taken.used < 48 * MIB
    run(volumes.remove("data"))
    assert is_clean(taken.path) and debugfs(taken.path, "cat file") == Path("/etc/passwd").read_text()
    with pytest.raises(MissingError):
        run(volumes.snapshot("data", "other"))
    with pytest.raises(ConflictError):
        run(volumes.snapshot("copy", "copy"))


def test_what_a_machine_writes_to_is_left_alone(volumes: Volumes) -> None:
    """QEMU marks a file that it writes to by a lock on a byte of it."""
    made = run(volumes.create("data", MIB))

    async def copy(source: str, target: str) -> None:
        assert source == made.path
        sparse.copy(source, target)

    with open(made.path, "rb") as file:
        fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 101, 1, 0))
        for refused in (
            lambda: volumes.resize("data", GIB),
            lambda: run(volumes.remove("data")),
            lambda: run(volumes.snapshot("data", "copy")),
        ):
            with pytest.raises(ConflictError, match="volume data is in use"):
                refused()
        assert run(volumes.snapshot("data", "copy", copy=copy)).size == made.size
    run(volumes.remove("data"))


def test_what_was_left_half_way(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    run(volumes.create("data", MIB))
    for left in (".new-1", ".gone-1"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "disk.img").touch()
    (tmp_path / "broken").mkdir()
    assert [each.name for each in Volumes(tmp_path).list()] == ["data"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "data"]


def test_a_copy_that_fails_leaves_nothing(volumes: Volumes, tmp_path: Path) -> None:
    async def copy(source: str, target: str) -> None:
        Path(target).touch()
        raise UnavailableError("no space")

    run(volumes.create("data", MIB))
    with pytest.raises(UnavailableError, match="no space"):
        run(volumes.snapshot("data", "copy", copy=copy))
    assert sorted(path.name for path in (tmp_path / "volumes").iterdir()) == ["data"]


def test_disks(volumes: Volumes, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    run(volumes.make_disk(path, 64 * MIB, mode=0o2777, gid=1000))
    assert is_clean(path)
    assert "lost+found" not in debugfs(path, "ls /"), "what is new is empty"
    root = debugfs(path, "stat <2>")
    assert "Mode:  02777" in root and "Group:  1000" in root and "User:     0" in root
    with pytest.raises(ConflictError, match="file exists"):
        run(volumes.make_disk(path, MIB))
    with pytest.raises(InvalidError, match="mode 200000"):
        run(volumes.make_disk(tmp_path / "other", MIB, mode=0o200000))
    with pytest.raises(UnavailableError, match="cannot make disk"):
        run(volumes.make_disk(tmp_path / "absent/disk", MIB))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["disk", "volumes"]


def test_mkfs_that_fails_leaves_nothing(volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HyperError, match=r"mkfs\.ext4 is not installed"):
        run(volumes.make_disk(tmp_path / "disk", MIB))
    assert not (tmp_path / "disk").exists()


def test_a_sparse_copy_has_the_holes_of_its_source(tmp_path: Path) -> None:
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    with open(source, "wb") as file:
        for position in (0, 10 * MIB, 30 * MIB):
            file.seek(position)
            file.write(b"data" * 1000)
        file.truncate(64 * MIB)
    sparse.copy(source, target)
    assert os.stat(target).st_size == 64 * MIB and os.stat(target).st_blocks <= os.stat(source).st_blocks
    subprocess.run(["cmp", source, target], check=True)
    with pytest.raises(FileExistsError):
        sparse.copy(source, target)


def test_settling_is_pure() -> None:
    assert disks.settle(disks.Kind("xfs", 300 * MIB + 1)).size == 301 * MIB
