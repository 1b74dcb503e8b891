"""The QEMU that `make qemu` builds, where it is installed: it starts machines, lacks nothing, and gives back what it has translated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from .harness import Bundle, Runtime, qemu_of, runv_program, wait_until

OWN = Path(runv_program()).resolve().parents[1] / "libexec/runv/qemu-system-x86_64"

pytestmark = [pytest.mark.vm, pytest.mark.skipif(not OWN.exists(), reason=f"{OWN} is not there: `make qemu`")]


@pytest.fixture
def runv(runv: Runtime) -> Runtime:
    return replace(runv, env={"RUNV_QEMU": "own", "RUNV_TCG_RELEASE_S": "1"})


def code_kib(qemu: int) -> int:
    """How much of the buffer for translated code is in memory: the only mapping that can be written and run."""
    sizes, inside = [], False
    for line in Path(f"/proc/{qemu}/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = " rwxp " in line
        elif inside and line.startswith("Rss:"):
            sizes.append(int(line.split()[1]))
    return sum(sizes)


def test_a_machine_of_our_own_qemu(runv: Runtime, bundle: Bundle) -> None:
    bundle.script("mknod /tmp/fifo p && chmod 640 /tmp/fifo && stat -c %F:%a /tmp/fifo; exec sleep 1000")
    container = runv.start(bundle)
    container.wait_output(b"fifo:640")
    qemu = qemu_of(runv.root)
    assert Path(f"/proc/{qemu}/exe").resolve() == OWN
    if code_kib(qemu):  # not under KVM
        wait_until(lambda: 0 < code_kib(qemu) < 4096, "the translated code to be given back")
    assert container.exec("echo", "awake").ok().out == "awake\n"
    container.delete()
