"""Which bind mounts stand for shared memory."""

from pathlib import Path

import pytest

from runv.storage.memory import is_shared_memory, share_of, shared_memory

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
    assert f"size={one.size}" in str(share["options"])
