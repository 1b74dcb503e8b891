"""What a process of the host sees that joins the mount namespace of a container's pid, as `podman cp` and `nsenter` do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.rootfs import BUSYBOX

from .harness import Bundle, Created, Runtime

pytestmark = pytest.mark.vm


def _looking_in(container: Created, script: str) -> list[str]:
    command = ["nsenter", f"--mount=/proc/{container.pid}/ns/mnt", "/bin/busybox", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout + done.stderr).splitlines()


def test_the_containers_files_and_not_the_hosts(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "outside").mkdir()
    (folder / "outside/file").write_text("outside\n")
    (bundle.path / "data").mkdir()
    (bundle.path / "data/file").write_text("data\n")
    (bundle.rootfs / "escape").symlink_to(folder / "outside")
    bundle.mount("/new/place", "data", "none", "rbind")
    bundle.mount("/ro", "data", "none", "bind", "ro")
    bundle.mount("/etc/one", "data/file", "none", "bind")
    bundle.mount("/escape/in", "data", "none", "bind")
    bundle.mount("/tmp", "tmpfs", "tmpfs")
    container = runv.start(bundle.args("sleep", "1000"))

    seen = _looking_in(container, "cat /etc/passwd | head -1; cat /new/place/file /ro/file /etc/one; touch /ro/x")
    assert seen[:4] == ["root:x:0:0:root:/root:/bin/sh", "data", "data", "data"]
    assert "Read-only file system" in seen[4]
    _looking_in(container, "echo both > /new/place/made; echo root > /root/made; ls /nonexistent")
    assert container.exec("cat", "/new/place/made", "/root/made").ok().lines == ["both", "root"]
    assert sorted(path.name for path in (folder / "outside").iterdir()) == ["file"]
    assert _looking_in(container, f"cat {folder}/outside/in/file") == ["data"]  # what the link says, below the root
    # The host is not to be seen, and sees nothing of it.
    assert _looking_in(container, f"ls -d {runv.root}") == [f"ls: {runv.root}: No such file or directory"]
    assert os.readlink(f"/proc/{container.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    assert str(bundle.rootfs) not in Path("/proc/self/mountinfo").read_text()
    container.delete()


def test_a_root_that_is_read_only(runv: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = True
    container = runv.start(bundle.args("sleep", "1000"))
    (line,) = _looking_in(container, "touch /x")
    assert "Read-only file system" in line
    assert BUSYBOX.exists()
    container.delete()
