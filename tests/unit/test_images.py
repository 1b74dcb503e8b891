"""Which files and block devices become disks, and how QEMU is told."""

import fcntl
import os
import struct
from pathlib import Path

import pytest

from runv.errors import ConfigError
from runv.storage.images import is_locked, merge, open_image, wish
from runv.vm.disks import blockdev, device
from runv.vm.machine import Disk

F_OFD_SETLK = 37
DISK = Disk("f1.2", 9, "raw", read_only=True, block_device=False)


def qcow2(version: int = 3, backing: int = 0, features: int = 0) -> bytes:
    return struct.pack(">4sIQ56xQ", b"QFI\xfb", version, backing, features) + bytes(512)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4096))
    return path


@pytest.mark.parametrize("read_only", [True, False])
def test_a_raw_image(image: Path, read_only: bool) -> None:
    opened = open_image(wish(str(image), read_only=read_only))
    mode = fcntl.fcntl(opened.fd, fcntl.F_GETFL) & os.O_ACCMODE
    os.close(opened.fd)
    assert (opened.format, opened.read_only, opened.block_device) == ("raw", read_only, False)
    assert mode == (os.O_RDONLY if read_only else os.O_RDWR)


def test_the_same_file_is_the_same_disk(image: Path) -> None:
    other = image.with_name("other")
    other.hardlink_to(image)
    reader, writer = wish(str(image), read_only=True), wish(str(other), read_only=False)
    assert reader.serial == writer.serial
    assert merge([reader, writer]) == (reader._replace(read_only=False),)
    assert merge([reader, reader]) == (reader,)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.qcow2", qcow2(backing=512), "it has a backing file"),
        ("a.qcow2", qcow2(features=1 << 2), "its data is in another file"),
        ("a.qcow2", qcow2(version=4), "qcow2 of version 4 is not supported"),
        ("a.qcow2", qcow2()[:40], "the qcow2 header is cut off"),
        ("a.qcow2", bytes(4096), "not a qcow2 image"),
        ("a.img", qcow2(), "it begins like a qcow2 image, but is not called so"),
        ("a.img", b"", "it is empty"),
    ],
)
def test_images_that_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError, match=f"^cannot attach disk {path}: {message}$"):
        open_image(wish(str(path), read_only=False))
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_qcow2(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(qcow2())
    opened = open_image(wish(str(path), read_only=True))
    os.close(opened.fd)
    assert opened.format == "qcow2"


@pytest.mark.parametrize(
    ("byte", "reader", "writer"),
    [(100, False, False), (101, True, True), (200, True, True), (201, False, True), (203, False, False)],
    ids=["reads", "writes", "lets nobody read", "lets nobody write", "lets nobody resize"],
)
def test_locks_of_another_qemu(image: Path, byte: int, reader: bool, writer: bool) -> None:
    """The bytes of block/file-posix.c; QEMU's own locks are shared ones."""
    with image.open("rb") as theirs, image.open("r+b") as ours:
        fcntl.fcntl(theirs.fileno(), F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
        assert is_locked(ours.fileno(), read_only=True) is reader
        assert is_locked(ours.fileno(), read_only=False) is writer
        assert not is_locked(theirs.fileno(), read_only=False), "what we hold ourselves is in nobody's way"


def test_the_format_is_always_said() -> None:
    node = blockdev(DISK, 4)
    assert (node["driver"], node["node-name"], node["read-only"]) == ("raw", "f1.2", True)
    assert node["file"]["driver"] == "file" and node["file"]["filename"] == "/dev/fdset/4"
    assert "backing" not in node


def test_no_name_in_an_image_is_followed() -> None:
    node = blockdev(DISK._replace(format="qcow2"), 4)
    assert node["driver"] == "qcow2" and node["backing"] is None


def test_block_devices() -> None:
    assert blockdev(DISK._replace(block_device=True), 4)["file"]["driver"] == "host_device"


def test_the_guest_knows_a_disk_by_its_serial() -> None:
    assert device(DISK)["serial"] == "f1.2"
