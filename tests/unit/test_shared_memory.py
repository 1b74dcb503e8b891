"""Which bind mounts stand for shared memory."""

import re
from pathlib import Path

import pytest

from runv.errors import ConfigError
from runv.spec.config import Mount
from runv.storage.memory import SharedMemory, is_shared_memory, named_memory, share_of, shared_memory
from runv.storage.words import check_words

_MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 0:26 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw
41 22 0:50 / /var/lib/engine/shm rw,nosuid,nodev,noexec,relatime shared:7 - tmpfs shm rw,size=65536k
42 22 0:51 / /covered rw - tmpfs shm rw
43 22 8:2 / /covered rw - ext4 /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("path", "shared"),
    [("/var/lib/engine/shm", True), ("/dev/shm", False), ("/var/lib/engine", False), ("/covered", False), ("/", False)],
)
def test_a_tmpfs_that_an_engine_made(path: str, shared: bool) -> None:
    assert is_shared_memory(_MOUNTS, path) is shared


def test_any_other_folder_stays_what_it_is(tmp_path: Path) -> None:
    assert shared_memory("/dev/shm", str(tmp_path)) is None
    assert shared_memory("/data", "/dev/shm") is None
    assert shared_memory("/dev/shm/../shm", "/dev/shm") is None


def test_the_same_folder_is_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runv.storage.memory.is_shared_memory", lambda mountinfo, path: True)
    one, two = shared_memory("/dev/shm/", "/run"), shared_memory("/dev/shm", "/run")
    assert one == two and one is not None
    assert one != shared_memory("/dev/shm", "/tmp")
    share = share_of(one)
    assert share["target"] == "/run/runv/shm/run"
    assert share["options"] == list(one.options) and one.options[1].startswith("size=")


def mount(kind: str, *options: str) -> Mount:
    return Mount(destination="/m", type=kind, source="x", options=list(options))


def test_a_tmpfs_with_a_name() -> None:
    found = named_memory(mount("tmpfs", "ro", "size=1m", "x-runv.shared=a", "nosuid", "x-runv.subpath=b/c", "gid=5"))
    assert found is not None
    assert found.memory == SharedMemory("/run/runv/tmpfs/a", ("mode=1777", "size=1m", "gid=5"))
    assert found.options == ["rbind", "ro", "nosuid", "x-runv.subpath=b/c"]
    other = named_memory(mount("tmpfs", "mode=700", "x-runv.shared=b"))
    assert other is not None and other.memory == SharedMemory("/run/runv/tmpfs/b", ("mode=700",))
    assert named_memory(mount("tmpfs", "size=1m")) is None


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("tmpfs", ["x-runv.shared=../x"], "unknown word 'x-runv.shared=../x'"),
        ("tmpfs", ["x-runv.shared"], "unknown word 'x-runv.shared'"),
        ("bind", ["bind", "x-runv.shared=a"], "x-runv.shared is for tmpfs, not for bind"),
        ("ext4", ["x-runv.shared=a"], "x-runv.shared is for tmpfs, not for ext4"),
        ("tmpfs", ["x-runv.subpath=a"], "x-runv.subpath is for file systems on disks, bind mounts and shared tmpfs, not for tmpfs"),
        ("tmpfs", ["x-runv.copyup"], "x-runv.copyup is for file systems on disks, not for tmpfs"),
        ("bind", ["x-runv.copyup"], "x-runv.copyup is for file systems on disks, not for bind"),
        ("proc", ["x-runv.subpath=a"], "not for proc"),
    ],
)
def test_words_have_their_place(kind: str, options: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_words(mount(kind, *options), "options")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("ext4", ["x-runv.copyup", "x-runv.subpath=a"]), ("bind", ["x-runv.subpath=a"]), ("tmpfs", ["x-runv.subpath=a", "x-runv.shared=n"])],
)
def test_words_in_their_place(kind: str, options: list[str]) -> None:
    check_words(mount(kind, *options), "options")
