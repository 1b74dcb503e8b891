"""Disks that come to a running container, go, grow and are copied."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runv.sandbox.layout import sandboxes
from runv.sandbox.storage.copies import abandoned_below
from runv.vm import qmp

from .harness import Bundle, Created, Done, Runtime, refusal, runv_program
from .test_disks import MIB, command, ext4, file_on

pytestmark = pytest.mark.vm


@contextlib.contextmanager
def started(runv: Runtime, bundle: Bundle, folder: Path) -> Iterator[Created]:
    """One with a volume of its own at /own."""
    ext4(folder / "own.img", mib=32)
    bundle.mount("/own", str(folder / "own.img"), "ext4")
    (bundle.rootfs / "filled").mkdir()
    (bundle.rootfs / "filled/file").write_text("of the image")
    created = runv.start(bundle.args("sleep", "1000"))
    try:
        yield created
    finally:
        created.delete()


@pytest.fixture(scope="module")
def shared(subreaper: None) -> Iterator[tuple[Created, Path]]:
    """One for all tests that leave it as it was, and the folder with own.img."""
    with tempfile.TemporaryDirectory(prefix="rv") as path:
        folder = Path(path)
        for name in ("runv", "bundle"):
            (folder / name).mkdir(mode=0o700)
        with started(Runtime("runv", runv_program(), folder / "runv"), Bundle(folder / "bundle"), folder) as created:
            yield created, folder


@pytest.fixture
def container(shared: tuple[Created, Path]) -> Created:
    return shared[0]


@pytest.fixture
def own_image(shared: tuple[Created, Path]) -> Path:
    return shared[1] / "own.img"


def volume(container: Created, action: str, *args: object) -> Done:
    return container.runtime.run("volume", action, container.id, *[str(arg) for arg in args])


def test_a_volume_comes_and_goes(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    with started(runv, bundle, folder) as container:
        _comes_and_goes(container, folder)


def _comes_and_goes(container: Created, folder: Path) -> None:
    image = ext4(folder / "volume.img")
    volume(container, "attach", image, "/new/place", "-o", "nosuid,noatime").ok()
    assert "ext4 rw,nosuid,noatime" in container.exec("grep", "/new/place", "/proc/mounts").ok().out
    volume(container, "attach", image, "/filled", "-o", "x-runv.subpath=a/b", "-o", "x-runv.copyup,ro", "-t", "ext4").ok()
    assert container.exec("cat", "/new/place/a/b/file", "/filled/file").ok().out == "of the image" * 2
    assert "Read-only file system" in container.exec("touch", "/filled/x").err
    assert json.loads(volume(container, "list", "-f", "json").ok().out) == [
        {"destination": "/new/place", "path": str(image)},
        {"destination": "/filled", "path": str(image)},
    ]
    assert f"{image} is attached there" in refusal(volume(container, "attach", str(image), "/filled"))
    container.exec("sh", "-c", "cd /new/place; sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >/pid; echo kept >/new/place/kept").ok()
    assert "cannot unmount /new/place: device or resource busy" in refusal(volume(container, "detach", "/new/place"))
    container.exec("sh", "-c", "kill $(cat /pid); until grep -q ' Z ' /proc/$(cat /pid)/stat; do :; done").ok()
    volume(container, "detach", "/filled").ok()
    assert len(container.exec("ls", "/sys/block").ok().lines) == 2
    volume(container, "detach", "/new/place").ok()
    assert container.exec("ls", "/sys/block").ok().lines == ["sda"] and container.status() == "running"
    assert file_on(image, "kept") == "kept\n"
    assert "no volume is attached at /filled" in refusal(volume(container, "detach", "/filled"))
    # Who attaches one may be killed, before it is mounted or after.
    volume(container, "attach", image, "/cut").ok()
    about = container.runtime.root / container.id / "volumes.json"
    about.write_text(about.read_text().replace('"complete": true', '"complete": false'))
    assert volume(container, "list", "-f", "json").ok().out == "[]\n"
    volume(container, "attach", image, "/cut", "-o", "nosuid").ok()
    assert container.exec("grep", "-c", " /cut ", "/proc/mounts").ok().out == "1\n"
    volume(container, "detach", "/cut").ok()
    # The disk was among its own before, and stays.
    volume(container, "attach", folder / "own.img", "/again").ok()
    volume(container, "detach", "/again").ok()
    assert container.exec("touch", "/own/file").ok().code == 0
    volume(container, "detach", "/own").ok()
    assert container.exec("ls", "/sys/block").ok().out == ""
    assert "no volume is attached at /own" in refusal(volume(container, "detach", "/own"))


def test_what_cannot_be_attached(container: Created, folder: Path) -> None:
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
        assert message in refusal(volume(container, "attach", str(path), destination, "-o", words))
        assert container.exec("ls", "/sys/block").ok().lines == ["sda"]
    for path, message in ((image, "has no disk"), (folder / "absent", "no such file or directory")):
        assert message in refusal(volume(container, "resize", str(path), "64M"))
        assert message in refusal(volume(container, "snapshot", str(path), str(folder / "copy")))
    assert not (folder / "copy").exists()


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_volume_grows(container: Created, folder: Path, kind: str) -> None:
    """While it is mounted; and, with the word for it, when it is mounted and its file has become larger."""
    image = folder / "volume.img"
    image.touch()
    os.truncate(image, 320 * MIB)
    command(f"mkfs.{kind}", "-q", image)
    volume(container, "attach", image, "/data").ok()

    def size() -> int:
        return int(container.exec("stat", "-f", "-c", "%b", "/data").ok().out) * 4096 // MIB

    before = size()
    volume(container, "resize", image, "480M").ok()
    assert size() - before > 120 and image.stat().st_size == 480 * MIB
    assert "cannot become smaller" in refusal(volume(container, "resize", str(image), "100M"))
    volume(container, "detach", "/data").ok()
    os.truncate(image, 640 * MIB)
    volume(container, "attach", image, "/data", "-o", "x-runv.grow").ok()
    assert size() - before > 250
    volume(container, "detach", "/data").ok()


def test_a_snapshot_is_of_the_moment(container: Created, own_image: Path, folder: Path) -> None:
    """What was written before is in it, though nobody had synced; it is in order, sparse, and a machine's own."""
    container.exec("sh", "-c", "echo before >/own/file; head -c 3m /dev/urandom >/own/data").ok()
    volume(container, "snapshot", own_image, folder / "copy.img").ok()
    container.exec("sh", "-c", "echo after >/own/file; sync").ok()
    copy = folder / "copy.img"
    assert copy.stat().st_size == 32 * MIB and copy.stat().st_blocks * 512 < 16 * MIB
    assert subprocess.run(["e2fsck", "-fp", copy], capture_output=True, timeout=60).returncode in (0, 1)  # 1: the journal was replayed
    assert file_on(copy, "file") == "before\n"
    again = volume(container, "snapshot", str(own_image), str(copy))
    assert "file exists" in refusal(again) and copy.exists()
    volume(container, "attach", copy, "/copy").ok()
    assert container.exec("cat", "/copy/file", "/own/file").ok().out == "before\nafter\n"
    volume(container, "detach", "/copy").ok()


CUT_OFF = """
import os, sys
from runv.sandbox.storage import copies
from runv.sandbox.layout import sandboxes
from runv.storage.images import wish
from runv.vm import disks, qmp
root, container, image, target = sys.argv[1:]
[sandbox] = [one for one in sandboxes(root) if container in one.members()]
fd = os.open(target, os.O_RDWR | os.O_CREAT)
serial = wish(image, read_only=True).serial
copies.note(sandbox, serial, container)
qmp.session(sandbox.path("qmp.sock"), "copy", lambda qemu: disks.begin_copy(qemu, serial, fd))
"""


def test_a_copy_that_was_cut_off_is_ended(container: Created, own_image: Path, folder: Path) -> None:
    """Its maker is dead: QEMU goes on copying until somebody looks."""
    root = container.runtime.root
    subprocess.run([sys.executable, "-c", CUT_OFF, root, container.id, own_image, folder / "cut.img"], cwd=Path(__file__).parents[2], check=True, timeout=60)
    assert abandoned_below(str(root)) == [container.id]
    [sandbox] = [one for one in sandboxes(str(root)) if container.id in one.members()]
    assert qmp.command(sandbox.path("qmp.sock"), "query-jobs")
    volume(container, "tidy").ok()
    assert qmp.command(sandbox.path("qmp.sock"), "query-jobs") == [] and abandoned_below(str(root)) == []
    volume(container, "tidy").ok()
    (folder / "cut.img").unlink()
