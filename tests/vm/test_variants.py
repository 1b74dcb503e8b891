"""A short life under each choice of machine, share and transport."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from .harness import Bundle, Runtime, qemu_of

pytestmark = pytest.mark.vm


@pytest.mark.parametrize(
    ("env", "word"),
    [
        ({"RUNV_SHARE": "virtiofs"}, "vhost-user-fs"),
        ({"RUNV_SHARE": "9p"}, "virtio-9p"),
        ({"RUNV_MACHINE": "q35"}, "q35"),
        ({"RUNV_MACHINE": "q35", "RUNV_SHARE": "virtiofs"}, "vhost-user-fs-pci"),
        ({"RUNV_MACHINE": "microvm", "RUNV_TRANSPORT": "serial"}, "microvm"),
    ],
    ids=["virtiofs", "9p", "q35", "q35-virtiofs", "microvm-serial"],
)
def test_a_short_life(runv: Runtime, bundle: Bundle, folder: Path, env: dict[str, str], word: str) -> None:
    runtime = replace(runv, env=env)
    (folder / "shared").mkdir()
    bundle.mount("/mnt/shared", str(folder / "shared"), "bind", "rbind", "rw")
    bundle.script("trap 'exit 4' TERM; echo begun; while :; do sleep 0.05; done")
    container = runtime.create(bundle)
    assert word in Path(f"/proc/{qemu_of(runv.root)}/cmdline").read_text()
    container.start()
    container.wait_output(b"begun\n")
    written = runtime.run(
        *("exec", "--cap", "CAP_CHOWN", container.id),
        *("sh", "-c", "cat >/mnt/shared/file; chown 7:8 /mnt/shared/file"),
        stdin=b"x" * 300000,
    )
    assert (written.code, written.err) == (0, "")
    status = (folder / "shared/file").stat()
    assert (status.st_size, status.st_uid, status.st_gid) == (300000, 7, 8)
    (folder / "shared/later").write_text("from the host")
    assert container.exec("cat", "/mnt/shared/later").ok().out == "from the host"
    container.kill("TERM").ok()
    assert container.wait() == 4
    runtime.run("delete", container.id).ok()


def test_two_processors(runv: Runtime, bundle: Bundle) -> None:
    done = replace(runv, env={"RUNV_VCPUS": "2"}).run_bundle(bundle.args("nproc"))
    assert (done.code, done.out) == (0, "2\n")


def test_memory(runv: Runtime, bundle: Bundle) -> None:
    done = replace(runv, env={"RUNV_MEMORY_MIB": "512"}).run_bundle(bundle.args("grep", "MemTotal", "/proc/meminfo"))
    assert 420 * 1024 < int(done.out.split()[1]) < 512 * 1024


def test_what_check_says_is_what_is_used(runv: Runtime, bundle: Bundle) -> None:
    found = {
        entry["what"]: entry["value"]
        for entry in json.loads(runv.run("check", "--format", "json").ok().stdout)["findings"]
    }
    container = runv.start(bundle.args("sleep", "1000"))
    (record,) = runv.root.glob("@sandboxes/*/sandbox.json")
    words = Path(f"/proc/{qemu_of(runv.root)}/cmdline").read_text().split("\0")
    assert json.loads(record.read_text())["transport"] == found["transport"]
    assert words[words.index("-accel") + 1].startswith(found["accelerator"])
    assert words[words.index("-machine") + 1].startswith(found["machine"])
    container.delete()
