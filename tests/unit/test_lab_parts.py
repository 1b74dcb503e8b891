"""The parts of the KVM lab that are text and bytes; tests/lab/test_lab.py runs the lab itself."""

import subprocess
from pathlib import Path

import pytest

from tests.lab.__main__ import outermost
from tests.lab.errors import LabError
from tests.lab.initrd import Archive, Job, job_script, mount_calls
from tests.lab.kernel import Kernel, unpacked_kernel
from tests.lab.machine import Report


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1.0-1-cloud-amd64").touch()
    modules = tmp_path / "lib/modules/6.1.0-1-cloud-amd64"
    modules.mkdir(parents=True)
    # depmod lists the closure of each module with what is needed by all others at the end.
    (modules / "modules.dep").write_text("ring.ko:\nvirtio.ko: ring.ko\nfs/virtio-fs.ko: virtio.ko ring.ko\nkvm.ko:\n")
    return unpacked_kernel(tmp_path)


def test_modules_come_after_what_they_need_and_once(kernel: Kernel) -> None:
    names = [path.name for path in kernel.needed_by(("virtio_fs", "virtio", "absent"))]
    assert names == ["ring.ko", "virtio.ko", "virtio-fs.ko"]


def test_a_folder_without_a_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="there is no boot/vmlinuz"):
        unpacked_kernel(tmp_path)


def test_cpio_reads_the_archive(tmp_path: Path) -> None:
    archive = Archive()
    archive.folder("dev")
    archive.add("dev/console", b"", 0o020600, (5, 1))
    archive.file("init", b"#!/bin/sh\n")
    listing = subprocess.run(["cpio", "-itv", "--quiet"], input=archive.finish(), capture_output=True, check=True)
    lines = [line.split() for line in listing.stdout.decode().splitlines()]
    assert [(line[0], line[-1]) for line in lines] == [
        ("drwxr-xr-x", "dev"),
        ("crw-------", "dev/console"),
        ("-rwxr-xr-x", "init"),
    ]
    assert lines[1][4:6] == ["5,", "1"]


def test_what_a_tmpfs_hides_is_put_aside_and_brought_back(kernel: Kernel, tmp_path: Path) -> None:
    job = Job(("true",), Path("/"), {}, tmpfs=(tmp_path / "a",), shown=(tmp_path / "a/b c", tmp_path / "d"))
    assert list(mount_calls(kernel, job)) == [
        f"put_aside 0 '{tmp_path}/a/b c'",
        f"add_tmpfs {tmp_path}/a",
        f"bring_back 0 '{tmp_path}/a/b c' file",
        f"add_modules {kernel.modules} {kernel.release}",
    ]


def test_words_survive_the_shell(tmp_path: Path) -> None:
    words = ("printf", "%s|", "a b", "it's", "$HOME", "", "*")
    script = tmp_path / "job.sh"
    script.write_text(job_script(Job(words, tmp_path, {"NAME": "x; y"})))
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "a b|it's|$HOME||*|"


def test_a_program_brings_its_prefix(tmp_path: Path) -> None:
    (tmp_path / "venv/bin").mkdir(parents=True)
    program = tmp_path / "venv/bin/pytest"
    program.touch()
    assert outermost([program, tmp_path / "venv/lib", tmp_path / "gone"]) == [tmp_path / "venv"]


@pytest.mark.parametrize(
    ("control", "ready", "status"),
    [(b"", False, None), (b"ready\n", True, None), (b"ready\nexit 4", True, None), (b"ready\nexit 42\n", True, 42)],
)
def test_a_status_counts_when_its_line_is_complete(control: bytes, ready: bool, status: int | None) -> None:  # noqa: FBT001
    report = Report(control=bytearray(control))
    assert (report.ready, report.status) == (ready, status)
