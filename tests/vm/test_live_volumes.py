"""Disks that come to a running container, go, grow and are copied."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Bundle, Created, Runtime, refusal
from .test_disks import MIB, command, ext4, file_on

pytestmark = pytest.mark.vm


@pytest.fixture
def container(runv: Runtime, bundle: Bundle, folder: Path) -> Iterator[Created]:
    """One with a volume of its own at /own."""
    ext4(folder / "own.img", mib=32)
    bundle.mount("/own", str(folder / "own.img"), "ext4")
    (bundle.rootfs / "filled").mkdir()
    (bundle.rootfs / "filled/file").write_text("of the image")
    created = runv.start(bundle.args("sleep", "1000"))
    yield created
    created.delete()


def volume(runv: Runtime, action: str, container: Created, *args: object) -> None:
    runv.run("volume", action, container.id, *[str(arg) for arg in args]).ok()


def test_a_volume_comes_and_goes(runv: Runtime, container: Created, folder: Path) -> None:
    image = ext4(folder / "volume.img")
    volume(runv, "attach", container, image, "/new/place", "-o", "nosuid,noatime")
    assert "ext4 rw,nosuid,noatime" in container.exec("grep", "/new/place", "/proc/mounts").ok().out
    volume(runv, "attach", container, image, "/filled", "-o", "x-runv.subpath=a/b", "-o", "x-runv.copyup,ro", "-t", "ext4")
    assert container.exec("cat", "/new/place/a/b/file", "/filled/file").ok().out == "of the image" * 2
    assert "Read-only file system" in container.exec("touch", "/filled/x").err
    assert json.loads(runv.run("volume", "list", container.id, "-f", "json").ok().out) == [
        {"destination": "/new/place", "path": str(image)},
        {"destination": "/filled", "path": str(image)},
    ]
    assert f"{image} is attached there" in refusal(runv.run("volume", "attach", container.id, str(image), "/filled"))
    container.exec("sh", "-c", "cd /new/place; sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >/pid; echo kept >/new/place/kept").ok()
    assert "cannot unmount /new/place: device or resource busy" in refusal(runv.run("volume", "detach", container.id, "/new/place"))
    container.exec("sh", "-c", "kill $(cat /pid); until grep -q ' Z ' /proc/$(cat /pid)/stat; do :; done").ok()
    volume(runv, "detach", container, "/filled")
    assert len(container.exec("ls", "/sys/block").ok().lines) == 2
    volume(runv, "detach", container, "/new/place")
    assert container.exec("ls", "/sys/block").ok().lines == ["sda"] and container.status() == "running"
    assert file_on(image, "kept") == "kept\n"
    assert "no volume is attached at /filled" in refusal(runv.run("volume", "detach", container.id, "/filled"))
    # Who attaches one may be killed, before it is mounted or after.
    volume(runv, "attach", container, image, "/cut")
    about = runv.root / container.id / "volumes.json"
    about.write_text(about.read_text().replace('"complete": true', '"complete": false'))
    assert runv.run("volume", "list", container.id, "-f", "json").ok().out == "[]\n"
    volume(runv, "attach", container, image, "/cut", "-o", "nosuid")
    assert container.exec("grep", "-c", " /cut ", "/proc/mounts").ok().out == "1\n"
    volume(runv, "detach", container, "/cut")
    # The disk was among its own before, and stays.
    volume(runv, "attach", container, folder / "own.img", "/again")
    volume(runv, "detach", container, "/again")
    assert container.exec("touch", "/own/file").ok().code == 0
    volume(runv, "detach", container, "/own")
    assert container.exec("ls", "/sys/block").ok().out == ""
    assert "no volume is attached at /own" in refusal(runv.run("volume", "detach", container.id, "/own"))


def test_what_cannot_be_attached(runv: Runtime, container: Created, folder: Path) -> None:
    image = ext4(folder / "volume.img")
    (folder / "text").write_text("no file system\n" * 1000)
    for path, destination, words, message in (
        (folder / "absent", "/x", "", "no such file or directory"),
        (folder / "text", "/x", "", "no file system is known on it"),
        (image, "x", "", "at an absolute path"),
        (image, "/x", "bind", "at an absolute path"),
        (image, "/x", "x-runv.copy", "unknown word 'x-runv.copy'"),
        (image, "/x", "nonesuch=1", "invalid argument"),
        (image, "/", "", "cannot mount at /: it is the root"),
    ):
        assert message in refusal(runv.run("volume", "attach", container.id, str(path), destination, "-o", words))
        assert container.exec("ls", "/sys/block").ok().lines == ["sda"]
    for path, message in ((image, "has no disk"), (folder / "absent", "no such file or directory")):
        assert message in refusal(runv.run("volume", "resize", container.id, str(path), "64M"))
        assert message in refusal(runv.run("volume", "snapshot", container.id, str(path), str(folder / "copy")))
    assert not (folder / "copy").exists()


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_volume_grows(runv: Runtime, container: Created, folder: Path, kind: str) -> None:
    """While it is mounted; and, with the word for it, when it is mounted and its file has become larger."""
    image = folder / "volume.img"
    image.touch()
    os.truncate(image, 320 * MIB)
    command(f"mkfs.{kind}", "-q", image)
    volume(runv, "attach", container, image, "/data")

    def size() -> int:
        return int(container.exec("stat", "-f", "-c", "%b", "/data").ok().out) * 4096 // MIB

    before = size()
    volume(runv, "resize", container, image, "480M")
    assert size() - before > 120 and image.stat().st_size == 480 * MIB
    assert "cannot become smaller" in refusal(runv.run("volume", "resize", container.id, str(image), "100M"))
    volume(runv, "detach", container, "/data")
    os.truncate(image, 640 * MIB)
    volume(runv, "attach", container, image, "/data", "-o", "x-runv.grow")
    assert size() - before > 250
    volume(runv, "detach", container, "/data")


def test_a_snapshot_is_of_the_moment(runv: Runtime, container: Created, folder: Path) -> None:
    """What was written before is in it, though nobody had synced; it is in order, sparse, and a machine's own."""
    container.exec("sh", "-c", "echo before >/own/file; head -c 3m /dev/urandom >/own/data").ok()
    volume(runv, "snapshot", container, folder / "own.img", folder / "copy.img")
    container.exec("sh", "-c", "echo after >/own/file; sync").ok()
    copy = folder / "copy.img"
    assert copy.stat().st_size == 32 * MIB and copy.stat().st_blocks * 512 < 16 * MIB
    assert subprocess.run(["e2fsck", "-fp", copy], capture_output=True, timeout=60).returncode in (0, 1)  # 1: the journal was replayed
    assert file_on(copy, "file") == "before\n"
    again = runv.run("volume", "snapshot", container.id, str(folder / "own.img"), str(copy))
    assert "file exists" in refusal(again) and copy.exists()
    volume(runv, "attach", container, copy, "/copy")
    assert container.exec("cat", "/copy/file", "/own/file").ok().out == "before\nafter\n"
