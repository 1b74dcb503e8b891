"""What of a bundle is shared with the machine."""

import os
from pathlib import Path
from typing import Any

import pytest

from runv.errors import ConfigError
from runv.spec.config import Config, Mount, Root
from runv.storage import plan as storage
from runv.storage.images import Wish
from runv.storage.plan import GuestDisk


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def plan(bundle: Path, mounts: list[dict[str, Any]] | None = None, root: str = "rootfs") -> storage.StoragePlan:
    typed = [Mount(**mount) for mount in mounts] if mounts else None
    config = Config(oci_version="1.0.0", root=Root(path=root, readonly=True), mounts=typed)
    return storage.plan("one", str(bundle), config, {"mounts": mounts})


def test_root(bundle: Path) -> None:
    found = plan(bundle)
    assert found.rootfs == str(bundle / "rootfs")
    assert found.shared == (storage.Shared(str(bundle / "rootfs"), "one/rootfs", True),)
    assert found.root == {"path": "/run/runv/share/one/rootfs", "readonly": True}
    assert found.mounts == []


def test_root_is_absolute_and_without_links(bundle: Path) -> None:
    os.symlink("rootfs", bundle / "link")
    assert plan(bundle, root="link").rootfs == str(bundle / "rootfs")
    assert plan(bundle, root=str(bundle / "rootfs")).rootfs == str(bundle / "rootfs")


def test_binds_are_shared_and_others_are_the_guests(bundle: Path) -> None:
    proc = {"destination": "/proc", "type": "proc", "source": "proc"}
    found = plan(
        bundle,
        [
            proc,
            {"destination": "/a", "type": "none", "source": "file", "options": ["bind", "ro"]},
            {"destination": "/b", "source": "rootfs", "options": ["rbind"]},
        ],
    )
    assert found.shared[1:] == (
        storage.Shared(str(bundle / "file"), "one/1/file", False),
        storage.Shared(str(bundle / "rootfs"), "one/2/rootfs", True),
    )
    assert found.mounts[0] == proc
    assert [mount["source"] for mount in found.mounts[1:]] == ["/run/runv/share/one/1/file", "/run/runv/share/one/2/rootfs"]
    assert found.mounts[1]["options"] == ["bind", "ro"]


def test_what_is_a_bind(bundle: Path) -> None:
    """A type alone makes one, as some callers write it; a remount changes what is there already, and shares nothing."""
    remount = {"destination": "/a", "type": "bind", "options": ["remount", "bind", "ro"]}
    found = plan(bundle, [{"destination": "/a", "type": "bind", "source": "file"}, remount])
    assert found.shared[1:] == (storage.Shared(str(bundle / "file"), "one/0/file", False),)
    assert found.mounts[1] == remount


@pytest.mark.parametrize(
    ("root", "message"),
    [("absent", "no such file or directory"), ("pipe", "not a directory"), ("file/x", "not a directory")],
)
def test_bad_roots(bundle: Path, root: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^cannot use rootfs {bundle}/{root}: {message}$"):
        plan(bundle, root=root)


def test_a_bind_of_nothing(bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot mount absent: no such file or directory$"):
        plan(bundle, [{"destination": "/a", "source": "absent", "options": ["bind"]}])


def test_a_root_on_a_disk(bundle: Path) -> None:
    found = plan(bundle, root="file")
    serial = found.disks[0].serial
    assert found.rootfs == str(bundle / "file")
    assert found.shared == ()
    assert found.disks == (Wish(serial, str(bundle / "file"), True),)
    disk = GuestDisk("/dev/sdc", 8, 32, "xfs")
    assert storage.placed_root(found, {serial: disk}) == {"path": "/dev/sdc", "type": "xfs", "readonly": True}
    with pytest.raises(ConfigError, match=f"^cannot use rootfs {bundle}/file: no file system is known on it$"):
        storage.placed_root(found, {serial: disk._replace(fstype="")})


def test_disks_among_mounts(bundle: Path) -> None:
    os.link(bundle / "file", bundle / "same")
    found = plan(
        bundle,
        [
            {"destination": "/a", "type": "ext4", "source": "file", "options": ["ro", "noatime"]},
            {"destination": "/b", "type": "ext4", "source": "same"},
            {"destination": "/c", "type": "bind", "source": "file", "options": ["bind"]},
        ],
    )
    serial = found.disks[0].serial
    assert found.disks == (Wish(serial, str(bundle / "file"), False),)
    assert [entry.name for entry in found.shared] == ["one/rootfs", "one/2/file"]
    mounts = storage.placed_mounts(found.mounts, {serial: GuestDisk("/dev/sda", 8, 0, "ext4")})
    assert [mount["source"] for mount in mounts] == ["/dev/sda", "/dev/sda", "/run/runv/share/one/2/file"]
    assert mounts[0]["options"] == ["ro", "noatime"] and all("disk" not in mount for mount in mounts)


@pytest.mark.parametrize(
    ("options", "expected"), [(None, False), (["ro"], True), (["ro", "nosuid", "rw"], False), (["rw", "ro"], True)]
)
def test_the_last_word_decides(options: list[str] | None, expected: bool) -> None:
    assert storage.read_only(options) is expected
