"""Copies of disks: what is the same, what is damage, and what is there again when it was not to be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runv.errors import ConfigError
from runv.sandbox.saved.image import SavedDisk
from runv.sandbox.saved.placing import Placing
from runv.storage import copies
from runv.storage.rootcopy import copied_root

MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """16 MiB, of which little is there."""
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(16 * MIB + 5)
        for position in (0, 3 * MIB - 7, 16 * MIB):
            file.seek(position)
            file.write(b"x" * 4)
    return path


def opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY)


def test_a_copy_is_the_same_and_as_sparse(image: Path, tmp_path: Path) -> None:
    fd = opened(image)
    made = copies.copy(fd, str(tmp_path / "copy"))
    os.close(fd)
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()
    assert made == copies.content_at(str(image)) == copies.content_at(str(tmp_path / "copy"))
    assert (tmp_path / "copy").stat().st_blocks * 512 < 2 * MIB


def test_holes_do_not_count_and_all_else_does(image: Path, tmp_path: Path) -> None:
    whole = image.read_bytes()
    before = copies.content_at(str(image))
    image.write_bytes(whole)  # no holes any more
    assert copies.content_at(str(image)) == before
    moved = whole[:100] + b"x" + whole[101:]
    for other in (whole + b"\0", whole[:-1], moved, b"y" + whole[1:], bytes(MIB) + whole[: 3 * MIB] + whole[4 * MIB :]):
        image.write_bytes(other)
        assert copies.content_at(str(image)) != before


def test_a_likeness_sees_another_image(image: Path) -> None:
    fd = opened(image)
    before = copies.likeness(fd)
    assert copies.likeness(fd) == before
    with image.open("r+b") as file:
        file.write(b"another")
    assert copies.likeness(fd) != before
    os.close(fd)


def saved(folder: Path, image: Path, serial: str) -> SavedDisk:
    (folder / "disks").mkdir(exist_ok=True)
    fd = opened(image)
    content = copies.copy(fd, str(folder / "disks" / serial))
    os.close(fd)
    return SavedDisk(serial, 0, "raw", str(image), False, True, content)


def test_disks_are_placed_and_taken_back(image: Path, tmp_path: Path) -> None:
    """What was at a path is there again unless the new one is kept; a disk without a name leaves none."""
    folder, there = tmp_path / "checkpoint", tmp_path / "there"
    folder.mkdir()
    there.mkdir()
    disks = [saved(folder, image, "f1.1"), saved(folder, image, "f1.2"), saved(folder, image, "f1.3")]
    (there / "old").write_text("old")
    (there / "old").chmod(0o640)
    paths = {"f1.1": str(there / "old"), "f1.2": str(there / "new"), "f1.3": f"{there}/"}
    for keep in (False, True):
        placing = Placing(str(folder), disks, paths)
        assert {"new", "old"} <= set(os.listdir(there))
        assert [os.pread(plugged.disk.fd, 4, 0) for plugged in placing.plugged] == [b"xxxx"] * 3
        if keep:
            placing.keep()
        placing.close()
        assert sorted(os.listdir(there)) == (["new", "old"] if keep else ["old"])
        assert (there / "old").read_bytes() == (image.read_bytes() if keep else b"old")
        assert (there / "old").stat().st_mode & 0o777 == 0o640


def test_damaged_disks_are_refused(image: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    disks = [saved(tmp_path, image, "f1.1"), saved(tmp_path, image, "f1.2")]
    (tmp_path / "there" / "a").write_text("old")
    with (tmp_path / "disks" / "f1.2").open("r+b") as file:
        file.write(b"y")
    paths = {"f1.1": str(tmp_path / "there" / "a"), "f1.2": str(tmp_path / "there" / "b")}
    with pytest.raises(ConfigError, match=r"disks/f1\.2 is damaged"):
        Placing(str(tmp_path), disks, paths)
    assert os.listdir(tmp_path / "there") == ["a"] and (tmp_path / "there" / "a").read_text() == "old"
    with pytest.raises(ConfigError, match="two of its disks would be at"):
        Placing(str(tmp_path), disks[:1] * 2, paths)


def test_a_root_is_copied_with_all_that_it_has(tmp_path: Path) -> None:
    root = tmp_path / "rootfs"
    (root / "etc").mkdir(parents=True)
    (root / "etc/word").write_text("word")
    os.chown(root / "etc/word", 12, 13)
    (root / "link").symlink_to("etc/word")
    fd = copied_root(str(root))
    path = f"/proc/self/fd/{fd}"
    show = ["debugfs", "-R", "stat /etc/word", path]
    text = subprocess.run(show, pass_fds=[fd], capture_output=True, text=True, check=True).stdout
    assert "User:    12   Group:    13" in text
    assert subprocess.run(["debugfs", "-R", "cat /etc/word", path], pass_fds=[fd], capture_output=True, check=True).stdout == b"word"
    os.close(fd)
    assert os.listdir(tmp_path) == ["rootfs"]


def test_a_root_that_cannot_be_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rootfs").mkdir()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"mkfs\.ext4: no such program"):
        copied_root(str(tmp_path / "rootfs"))
    assert os.listdir(tmp_path) == ["rootfs"]
