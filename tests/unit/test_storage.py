"""What of a bundle is shared with the machine."""

import os
from pathlib import Path
from typing import Any

import pytest

from runv import storage
from runv.errors import ConfigError
from runv.spec.config import Config, Mount, Root


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "file").touch()
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


@pytest.mark.parametrize(
    ("root", "message"),
    [("absent", "no such file or directory"), ("file", "not a directory"), ("file/x", "not a directory")],
)
def test_bad_roots(bundle: Path, root: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^cannot use rootfs {bundle}/{root}: {message}$"):
        plan(bundle, root=root)


def test_a_bind_of_nothing(bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot mount absent: no such file or directory$"):
        plan(bundle, [{"destination": "/a", "source": "absent", "options": ["bind"]}])
