"""/dev/shm as engines make it: a tmpfs of the host's, bound into every container that shares it, and memory of the guest's for these."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import Bundle, Runtime

pytestmark = pytest.mark.vm


@pytest.fixture
def engines_shm(folder: Path) -> Iterator[Path]:
    path = folder / "shm"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777,size=1m", "shm", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def _with_shm(bundle: Bundle, source: Path) -> Bundle:
    bundle.config["mounts"] = [entry for entry in bundle.config["mounts"] if entry["destination"] != "/dev/shm"]
    bundle.mount("/dev/shm", str(source), "bind", "rbind", "nosuid", "noexec", "nodev")
    return bundle.args("sleep", "1000")


def test_memory_of_the_guest(runv: Runtime, make_bundle: Callable[[], Bundle], engines_shm: Path) -> None:
    first = runv.start(_with_shm(make_bundle(), engines_shm))
    bundle = _with_shm(make_bundle(), engines_shm)
    for namespace in bundle.linux["namespaces"]:
        if namespace["type"] in ("network", "ipc"):
            namespace["path"] = f"/proc/{first.pid}/ns/{namespace['type'].replace('network', 'net')}"
    second = runv.start(bundle.save())
    apart = runv.start(_with_shm(make_bundle(), engines_shm))

    first.exec("sh", "-c", "echo shared > /dev/shm/file").ok()
    assert second.exec("cat", "/dev/shm/file").ok().out == "shared\n"
    assert apart.exec("ls", "/dev/shm").ok().out == ""  # another machine: memory cannot be shared with it
    assert list(engines_shm.iterdir()) == []
    for container in (first, second):
        line = container.exec("sh", "-c", "df -k /dev/shm | tail -1; grep ' /dev/shm ' /proc/mounts").ok().lines
        assert line[0].split()[:2] == ["shm", "1024"]
        assert {"nosuid", "nodev", "noexec"} <= set(line[1].split()[3].split(","))
    full = first.exec("sh", "-c", "dd if=/dev/zero of=/dev/shm/big bs=1k count=2000")
    assert full.code != 0 and "No space left" in full.err
    for container in (second, apart, first):
        container.delete()


def test_any_other_folder_at_its_place(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    (folder / "plain").mkdir()
    container = runv.start(_with_shm(bundle, folder / "plain"))
    container.exec("sh", "-c", "echo through > /dev/shm/file").ok()
    assert (folder / "plain/file").read_text() == "through\n"
    container.delete()
