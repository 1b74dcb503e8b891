"""Members of config.json that concern the machine itself, and those that are not honoured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .harness import Bundle, Runtime, runv_program

pytestmark = pytest.mark.vm


def artefact(name: str) -> Path:
    return Path(runv_program()).resolve().parent.parent / "share/runv" / name


def test_the_vm_object(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    """Kernel, initrd, parameters, QEMU and size by config.json, as files of other names."""
    kernel = shutil.copy(artefact("vmlinux"), folder / "kernel")
    initrd = shutil.copy(artefact("initrd.img"), folder / "initrd")
    qemu = folder / "hypervisor"
    used = folder / "used"
    qemu.write_text(f'#!/bin/sh\necho "$@" > {used}\nexec qemu-system-x86_64 "$@"\n')
    qemu.chmod(0o755)
    bundle.config["vm"] = {
        "kernel": {"path": str(kernel), "initrd": str(initrd), "parameters": ["first=1", "second=two words"]},
        "hypervisor": {"path": str(qemu)},
        "hwConfig": {"vcpus": 2, "memory": 150 << 20},
    }
    bundle.process["env"].append("PATH=/bin")
    done = runv.run_bundle(bundle.script("cat /proc/cmdline; nproc; grep MemTotal /proc/meminfo")).ok()
    cmdline, cpus, memory = done.lines
    assert 'first=1 "second=two words"' in cmdline
    assert cpus == "2"
    assert 90 << 10 < int(memory.split()[1]) < 150 << 10
    assert str(kernel) in used.read_text()
    assert str(initrd) in used.read_text()


def test_a_kernel_that_is_missing(runv: Runtime, bundle: Bundle) -> None:
    bundle.config["vm"] = {"kernel": {"path": "/absent/kernel"}}
    done = runv.run_bundle(bundle.save())
    assert done.code == 1
    assert "cannot open kernel /absent/kernel: no such file or directory" in done.err
    assert "$.vm" in done.err


@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="this kernel knows no NUMA")
def test_memory_policy_and_what_is_ignored(runv: Runtime, bundle: Bundle) -> None:
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
    bundle.process["apparmorProfile"] = "docker-default"
    bundle.process["capabilities"]["bounding"] = ["CAP_KILL", "CAP_NONESUCH"]
    log = bundle.path / "log"
    container = runv.create(bundle.args("sleep", "1000"))
    container.stderr.seek(0)
    said = container.stderr.read().decode()
    assert "config.json: process.apparmorProfile is not applied: the guest has no AppArmor" in said
    assert "CAP_NONESUCH cannot be granted" in said
    assert not log.exists()
    (pid_file,) = runv.root.glob("@sandboxes/*/qemu.pid")
    qemu = int(pid_file.read_text().split()[0])
    assert " bind:0 " in Path(f"/proc/{qemu}/numa_maps").read_text()
    container.delete()
    container.wait()


def test_the_program_is_the_one_that_is_there_at_the_start(runv: Runtime, bundle: Bundle) -> None:
    """The guest has found one by then, and holds it."""
    tool, other = bundle.rootfs / "app/busybox", bundle.rootfs / "other"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho of the creation\n")
    tool.chmod(0o755)
    container = runv.create(bundle.args("/app/busybox", "echo", "of the start"))
    shutil.copy(bundle.rootfs / "bin/busybox", other)
    other.replace(tool)
    assert container.start().wait() == 0
    assert container.output() == b"of the start\n"
    container.delete()


def test_a_failure_is_one_line(runv: Runtime, bundle: Bundle) -> None:
    """Podman reads the log of a failed create as one JSON object: no warning may go before it."""
    bundle.process["apparmorProfile"] = "docker-default"
    log = bundle.path / "log"
    flags = ("--log", str(log), "--log-format", "json")
    done = runv.run(*flags, "run", "--bundle", str(bundle.args("nonesuch").path), "one-line")
    assert done.code == 1
    assert "executable file not found" in json.loads(log.read_text())["msg"]
