"""The QEMU that `make qemu` builds, where it is installed: it starts machines, lacks nothing, gives back what it has translated, and takes it from
others like it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from runv.settings import load
from runv.vm import choice, qmp

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


def blocks(runv: Runtime) -> tuple[int, int]:
    """How many blocks of code the only machine has translated, and how many it has taken from others."""
    (path,) = runv.root.glob("@sandboxes/*/qmp.sock")
    said = str(qmp.command(str(path), "x-query-jit")["human-readable-text"])
    translated, taken = re.search(r"^TB count +(\d+)", said, re.M), re.search(r"(\d+) taken", said)
    assert translated is not None
    return int(translated[1]), int(taken[1]) if taken is not None else 0


def overwrite_end(path: Path, size: int) -> None:
    """Makes all tables of a file of translations say that each block is the first one, and so the next of itself."""
    with path.open("r+b") as file:
        file.seek(-size, os.SEEK_END)
        file.write((1).to_bytes(4, "little") * (size // 4))


def test_what_one_machine_has_translated_others_take(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    templates = folder / "templates"
    runv = replace(runv, env={"RUNV_QEMU": "own", "RUNV_TCG_RELEASE_S": "0", "RUNV_TEMPLATE_FOLDER": str(templates)})
    if choice.accelerator(load()).value != "tcg":
        pytest.skip("nothing is translated under KVM")
    runv.run("factory", "init").ok()
    kinds = [entry["kind"] for entry in json.loads(runv.run("factory", "list", "--format", "json").ok().out)]
    assert kinds == ["template", "translations"]
    # Code that is written while it runs, and the same code anew at other addresses: what was taken is given up for what is there now.
    bundle.script("for n in 1 2 3; do cp /bin/busybox /tmp/busybox && /tmp/busybox echo $n && rm /tmp/busybox; done; exec sleep 1000")
    container = runv.start(bundle)
    container.wait_output(b"1\n2\n3\n")
    translated, taken = blocks(runv)
    assert taken > 5 * translated
    container.delete()
    (kept,) = templates.glob("translations-*")
    for spoil in (lambda: overwrite_end(kept, 2 << 20), lambda: os.truncate(kept, kept.stat().st_size // 2), lambda: kept.write_bytes(b"\0" * 8192)):
        spoil()
        container = runv.start(bundle)
        container.wait_output(b"1\n2\n3\n")
        translated, taken = blocks(runv)
        assert translated > 10000 and not taken
        container.delete()
    # A named one is recorded from a machine that did what it is for; once, and it stands still then.
    named = replace(runv, env={**runv.env, "RUNV_TCG_NAME": "mine"})
    container = replace(named, env={**named.env, "RUNV_TCG_KEEP": "record"}).start(bundle)
    container.wait_output(b"1\n2\n3\n")
    assert not blocks(runv)[1]
    (file,) = runv.run("factory", "keep", container.id).ok().out.splitlines()
    assert file.startswith("translations-mine-single-") and (templates / file).exists() and runv.state(container.id)["status"] == "paused"
    refused = runv.run("factory", "keep", container.id)
    assert refused.code == 1 and "it does not record" in refused.err, refused
    runv.run("resume", "--vm", container.id).ok()  # for whom that is not enough
    assert container.exec("echo", "awake").ok().out == "awake\n"
    container.delete()
    container = replace(named, env={**named.env, "RUNV_TCG_KEEP": "record"}).start(bundle)
    container.wait_output(b"1\n2\n3\n")
    translated, taken = blocks(runv)
    assert taken > 5 * translated
    container.delete()
    assert runv.run("factory", "destroy").ok().out.startswith("removed ") and not templates.exists()
