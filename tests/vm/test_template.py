"""Templates: clones of a booted machine, what is theirs alone, and templates that are not to be trusted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from .harness import Bundle, Runtime, new_id
from .network.nets import Net, in_namespace

pytestmark = pytest.mark.vm


@pytest.fixture
def templates(folder: Path) -> Path:
    return folder / "templates"


@pytest.fixture
def runv(runv: Runtime, templates: Path) -> Runtime:
    """With a template folder of the test's own."""
    return replace(runv, env={"RUNV_TEMPLATE_FOLDER": str(templates), "RUNV_TCG_KEEP": "off"})


def listed(runv: Runtime) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(runv.run("factory", "list", "--format", "json").ok().out)
    return found


def debug_run(runv: Runtime, bundle: Bundle) -> tuple[str, str]:
    """What the container said, and what runv did."""
    done = runv.run("--debug", "run", "--bundle", str(bundle.path), f"clone{os.urandom(4).hex()}").ok()
    return done.out, done.err


def test_the_second_sandbox_is_a_clone(runv: Runtime, bundle: Bundle) -> None:
    bundle.script("head -c 16 /dev/urandom | od -x; cat /proc/sys/kernel/random/boot_id; uname -n; date +%s")
    first, log = debug_run(runv, bundle)
    assert "clone of" not in log
    (entry,) = listed(runv)
    clones = []
    for number in range(3):
        bundle.config["hostname"] = f"host{number}"
        bundle.save()
        out, log = debug_run(runv, bundle)
        assert f"clone of template {entry['name']}" in log
        clones.append(out.splitlines())
    assert [lines[-2] for lines in clones] == ["host0", "host1", "host2"]
    for column in (0, -3):  # random numbers and boot id
        assert len({lines[column] for lines in [first.splitlines(), *clones]}) == 4
    now = int(subprocess.check_output(["date", "+%s"]))
    assert all(abs(now - int(lines[-1])) < 60 for lines in clones)
    # A clone that reads a page the template never wrote makes one of zeroes in its file: `taken_mib` may grow.
    (after,) = listed(runv)
    assert {**after, "taken_mib": None} == {**entry, "taken_mib": None}


def test_init_status_destroy(runv: Runtime, bundle: Bundle) -> None:
    assert runv.run("factory", "status").code == 1
    name = runv.run("factory", "init").ok().out.strip()
    assert runv.run("factory", "init").ok().out.strip() == name
    assert runv.run("factory", "status").code == 0
    assert name in runv.run("factory", "list").ok().out
    assert f"clone of template {name}" in debug_run(runv, bundle.args("true"))[1]
    assert "removed 1 template" in runv.run("factory", "destroy").ok().out
    assert listed(runv) == []
    assert runv.run("factory", "bake").code != 0
    assert runv.run("factory", "init", "--nics", "99").code == 1


def test_clones_with_a_network(runv: Runtime, make_bundle: Callable[[], Bundle], net: Net) -> None:
    name = runv.run("factory", "init", "--nics", "1").ok().out.strip()
    bundle = in_namespace(make_bundle(), net.path).script("ip address show eth0; ping -c 1 -W 20 10.77.0.1")
    for _ in range(2):
        out, log = debug_run(runv, bundle)
        assert f"clone of template {name}" in log
        assert "10.77.0.2/24" in out
        assert "1 packets received" in out


def test_two_clones_at_once_do_not_see_each_other(runv: Runtime, make_bundle: Callable[[], Bundle]) -> None:
    runv.run("factory", "init").ok()
    containers = []
    for number in range(2):
        bundle = make_bundle().script(f"echo {number} >/tmp/mine; sleep 1000")
        bundle.config["hostname"] = f"n{number}"
        bundle.mount("/tmp", "tmpfs", "tmpfs")
        containers.append(runv.start(bundle))
    for number, container in enumerate(containers):
        assert container.exec("sh", "-c", "cat /tmp/mine; hostname").out.split() == [str(number), f"n{number}"]
    for container in containers:
        container.delete()


def break_state(template: Path) -> None:
    state = template / "state"
    state.write_bytes(state.read_bytes()[:-100])


def break_memory(template: Path) -> None:
    with (template / "memory").open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"x" * 4096)


def half_written(template: Path) -> None:
    (template / "about.json").unlink()


def not_json(template: Path) -> None:
    (template / "about.json").write_text("{")


def no_memory(template: Path) -> None:
    (template / "memory").unlink()


@pytest.mark.parametrize("damage", [break_state, break_memory, half_written, not_json, no_memory])
def test_a_damaged_template_is_made_anew(
    runv: Runtime, bundle: Bundle, templates: Path, damage: Callable[[Path], None]
) -> None:
    name = runv.run("factory", "init").ok().out.strip()
    damage(templates / name)
    out, log = debug_run(runv, bundle.args("echo", "hello"))
    assert out == "hello\n"
    assert "clone of" not in log
    assert [entry["name"] for entry in listed(runv)] == [name]
    assert "clone of" in debug_run(runv, bundle)[1]


def test_a_template_that_does_not_start_is_given_up(runv: Runtime, bundle: Bundle, templates: Path) -> None:
    """As it was written, by all that can be seen, and yet of no use: memory that is all zeros."""
    name = runv.run("factory", "init").ok().out.strip()
    memory = templates / name / "memory"
    before = memory.stat()
    with memory.open("r+b") as file:
        file.truncate(0)
        file.truncate(before.st_size)
    os.utime(memory, ns=(before.st_atime_ns, before.st_mtime_ns))
    out, log = debug_run(runv, bundle.args("echo", "hello"))
    assert out == "hello\n"
    assert f"template {name} does not start" in log
    assert "clone of" in debug_run(runv, bundle)[1]


@pytest.fixture
def qemu(folder: Path) -> Path:
    """A QEMU that does, before it is one, what a file beside it says."""
    program = folder / "qemu"
    program.write_text(f'#!/bin/sh\n. {folder}/before\nexec qemu-system-x86_64 "$@"\n')
    program.chmod(0o755)
    (folder / "before").write_text("")
    return program


def test_a_clone_that_is_killed_is_not_replaced(runv: Runtime, bundle: Bundle, folder: Path, qemu: Path) -> None:
    """`delete --force` ends a create by killing its machine."""
    ours = replace(runv, env={**runv.env, "RUNV_QEMU": str(qemu)})
    name = ours.run("factory", "init").ok().out.strip()
    (folder / "before").write_text("kill -KILL $$\n")
    done = ours.run("--debug", "run", "--bundle", str(bundle.path), "killed")
    assert done.code == 1
    assert f"clone of template {name}" in done.err
    assert "ended before its agent answered" in done.err
    assert [entry["name"] for entry in listed(ours)] == [name]


def test_a_clone_that_gives_up_is(runv: Runtime, bundle: Bundle, folder: Path, qemu: Path) -> None:
    ours = replace(runv, env={**runv.env, "RUNV_QEMU": str(qemu)})
    name = ours.run("factory", "init").ok().out.strip()
    (folder / "before").write_text('case "$*" in *incoming*) exit 1 ;; esac\n')
    out, log = debug_run(ours, bundle.args("echo", "hello"))
    assert out == "hello\n"
    assert f"template {name} does not start" in log


def test_a_folder_of_somebody_else_is_not_used(runv: Runtime, bundle: Bundle, templates: Path) -> None:
    runv.run("factory", "init").ok()
    templates.chmod(0o777)
    out, log = debug_run(runv, bundle.args("echo", "hello"))
    assert out == "hello\n"
    assert "clone of" not in log
    assert f"cannot use template folder {templates}" in log
    templates.chmod(0o700)


def test_another_kernel_line_has_another_template(runv: Runtime, bundle: Bundle) -> None:
    runv.run("factory", "init").ok()
    other = replace(runv, env={**runv.env, "RUNV_KERNEL_PARAMETERS": "other=1"})
    out, log = debug_run(other, bundle.args("cat", "/proc/cmdline"))
    assert "other=1" in out
    assert "clone of" not in log
    assert len(listed(runv)) == 2


def test_off(runv: Runtime, bundle: Bundle, templates: Path) -> None:
    without = replace(runv, env={**runv.env, "RUNV_TEMPLATE": "off"})
    debug_run(without, bundle.args("true"))
    assert not templates.exists()
    assert without.run("factory", "init").code == 1


@pytest.mark.parametrize("changes", [{"RUNV_MACHINE": "q35"}, {"RUNV_VCPUS": "2"}])
def test_other_machines(runv: Runtime, bundle: Bundle, changes: dict[str, str]) -> None:
    other = replace(runv, env={**runv.env, **changes})
    other.run("factory", "init").ok()
    out, log = debug_run(other, bundle.args("nproc"))
    assert out.strip() == changes.get("RUNV_VCPUS", "1")
    assert "clone of" in log


def test_virtiofs_does_without(runv: Runtime, bundle: Bundle, templates: Path) -> None:
    other = replace(runv, env={**runv.env, "RUNV_SHARE": "virtiofs"})
    out, _ = debug_run(other, bundle.args("echo", "hello"))
    assert out == "hello\n"
    assert other.run("factory", "init").code == 1
    assert listed(runv) == []
    shutil.rmtree(templates, ignore_errors=True)


def test_running_a_clone_imports_nothing_slow(runv: Runtime, bundle: Bundle) -> None:
    """What is imported before there is anything is in tests/unit/test_imports_cold.py; this is about all that a foreground `run` does."""
    debug_run(runv, bundle.args("true"))
    program, *arguments = runv.command("run", "--bundle", str(bundle.path), new_id())
    python = Path(program).read_text().partition("\n")[0].removeprefix("#!").split()[0]
    done = subprocess.run([python, "-X", "importtime", "-IS", program, *arguments], env=runv.environ(), capture_output=True, text=True, check=True)
    found = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert {"runv.sandbox.machine.boot", "runv.sandbox.lifecycle"} <= found
    assert not found & {"asyncio", "collections", "contextlib", "enum", "functools", "inspect", "json", "msgspec", "re", "socket", "subprocess", "typing"}
