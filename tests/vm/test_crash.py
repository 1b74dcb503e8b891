"""SIGKILL at any moment, of anything: `delete --force` works, twice, and the host is as before (the leak check runs after every test)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import SLOW, Bundle, Created, Done, Runtime, new_id, qemu_of, wait_for, wait_until

pytestmark = pytest.mark.vm

_NONE = subprocess.DEVNULL
MOMENTS_MS = [5, 20, 40, 70, 120, 200, 350, 550, 800, 1200]


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def delete_twice(runtime: Runtime, container: str) -> None:
    for _ in range(2):
        assert runtime.run("delete", "--force", container, deadline_s=20 * SLOW).ok().err == ""
    assert runtime.run("list", "--quiet").ok().out == ""


def refused(done: Done) -> None:
    """It failed with one line and without a traceback."""
    assert done.code != 0
    assert len(done.err.splitlines()) == 1, done.err


def pid_in(root: Path, pattern: str) -> int:
    """The process of a pid file, waited for: 0 when there is none in the end."""
    end = time.monotonic() + 10 * SLOW
    while time.monotonic() < end:
        for path in root.glob(pattern):
            with contextlib.suppress(OSError, IndexError, ValueError):
                return int(path.read_text().split()[0])
        time.sleep(0.002)
    return 0


# runv itself


@pytest.mark.parametrize("moment_ms", MOMENTS_MS)
def test_create_is_killed(runv: Runtime, bundle: Bundle, moment_ms: int) -> None:
    bundle.args("sleep", "1000")
    container = new_id()
    command = runv.popen("create", "--bundle", str(bundle.path), container, stdin=_NONE, stdout=_NONE, stderr=_NONE)
    time.sleep(moment_ms / 1000 * SLOW)
    command.kill()
    command.wait()
    delete_twice(runv, container)


@pytest.mark.parametrize("moment_ms", [200, 800, 1300])
def test_run_is_killed(runv: Runtime, bundle: Bundle, moment_ms: int) -> None:
    bundle.args("sleep", "1000")
    container = new_id()
    command = runv.popen("run", "--bundle", str(bundle.path), container, stdin=_NONE, stdout=_NONE, stderr=_NONE)
    time.sleep(moment_ms / 1000 * SLOW)
    command.kill()
    command.wait()
    delete_twice(runv, container)


def test_start_exec_kill_and_delete_are_killed(runv: Runtime, bundle: Bundle) -> None:
    created = runv.create(bundle.args("sleep", "1000"))
    for argv in (
        ["start", created.id],
        ["exec", created.id, "sleep", "1000"],
        ["kill", created.id],
        ["delete", "--force", created.id],
    ):
        for moment_ms in (10, 25, 40, 60):
            command = runv.popen(*argv, stdin=_NONE, stdout=_NONE, stderr=_NONE)
            time.sleep(moment_ms / 1000 * SLOW)
            command.kill()
            command.wait()
            if argv[0] != "delete":
                runv.state(created.id)
    delete_twice(runv, created.id)


def test_a_killed_create_leaves_its_id_usable(runv: Runtime, bundle: Bundle) -> None:
    container = new_id()
    command = runv.popen("create", "--bundle", str(bundle.path), container, stdin=_NONE, stdout=_NONE, stderr=_NONE)
    assert pid_in(runv.root, "@sandboxes/*/qemu.pid")
    command.kill()
    command.wait()
    runv.run("delete", "--force", container).ok()
    runv.run("create", "--bundle", str(bundle.path), container).ok()
    delete_twice(runv, container)


# The processes of a container while it is being made. The bridge's end may be made good by the second try.

PID_FILES = {
    "qemu": "@sandboxes/*/qemu.pid",
    "bridge": "@sandboxes/*/bridge.pid",
    "standin": "rvt-*/init.pid",
}


@pytest.mark.parametrize("delay_ms", [0, 50, 100, 200, 400, 600])
@pytest.mark.parametrize("victim", PID_FILES)
def test_a_process_is_killed_during_create(runv: Runtime, bundle: Bundle, victim: str, delay_ms: int) -> None:
    need_bridge(victim)
    container = new_id()
    argv = ["create", "--bundle", str(bundle.path), container]
    command = runv.popen(*argv, stdin=_NONE, stdout=_NONE, stderr=subprocess.PIPE)
    pid = pid_in(runv.root, PID_FILES[victim])
    assert pid
    time.sleep(delay_ms / 1000 * SLOW)
    kill(pid)
    # A stand-in that lived would keep stderr open, so it is not read to its end before all is deleted.
    code = command.wait(60 * SLOW)
    if code:
        assert runv.run("list", "--quiet").ok().out == ""
    delete_twice(runv, container)
    assert command.stderr is not None
    text = command.stderr.read().decode()
    command.stderr.close()
    assert "Traceback" not in text
    assert code == (1 if text else 0)
    assert len(text.splitlines()) <= 1
    # Later the container may have been complete already.
    if victim != "bridge" and not delay_ms:
        assert code == 1


def need_bridge(victim: str) -> None:
    by_choice = "vsock" if os.access("/dev/vhost-vsock", os.R_OK | os.W_OK) else "serial"
    if victim == "bridge" and os.environ.get("RUNV_TRANSPORT", by_choice) == "vsock":
        pytest.skip("vsock needs no bridge")


# The same once it exists, and whatever may be asked then.


def victim_of(created: Created, victim: str) -> int:
    if victim == "standin":
        return created.pid
    return qemu_of(created.runtime.root) if victim == "qemu" else pid_in(created.runtime.root, PID_FILES[victim])


AFTERWARDS: list[Callable[[Created], Done]] = [
    lambda created: created.runtime.run("start", created.id),
    lambda created: created.kill(),
    lambda created: created.exec("true"),
    lambda created: created.runtime.run("ps", created.id),
]


@pytest.mark.parametrize("victim", PID_FILES)
@pytest.mark.parametrize("started", [False, True], ids=["created", "running"])
def test_a_process_is_killed_and_everything_asked(runv: Runtime, bundle: Bundle, victim: str, started: bool) -> None:
    need_bridge(victim)
    created = runv.create(bundle.args("sleep", "1000"))
    if started:
        created.start()
    kill(victim_of(created, victim))
    # At once, while the news has not reached everybody, and again when it has.
    for ask in AFTERWARDS:
        found = ask(created)
        assert "Traceback" not in found.err
        assert len(found.err.splitlines()) <= 1
    created.wait(20 * SLOW)
    assert created.status() == "stopped"
    for ask in AFTERWARDS:
        refused(ask(created))
    runv.run("delete", created.id).ok()
    delete_twice(runv, created.id)


@pytest.mark.parametrize("victim", PID_FILES)
def test_a_process_is_killed_during_exec(runv: Runtime, bundle: Bundle, victim: str) -> None:
    need_bridge(victim)
    created = runv.start(bundle.args("sleep", "1000"))
    command = runv.popen(
        "exec", created.id, "sh", "-c", "echo here; exec sleep 1000", stdin=_NONE, stdout=subprocess.PIPE
    )
    assert command.stdout is not None
    assert command.stdout.readline() == b"here\n"
    kill(victim_of(created, victim))
    # Its container or machine has ended, and so has the process.
    assert command.wait(10 * SLOW) != 0
    command.stdout.close()
    created.wait(20 * SLOW)
    delete_twice(runv, created.id)


def test_an_execs_standin_is_killed(runv: Runtime, bundle: Bundle) -> None:
    created = runv.start(bundle.args("sleep", "1000"))
    command = runv.popen("exec", created.id, "sleep", "2000", stdin=_NONE)
    pid = pid_in(runv.root, f"{created.id}/exec/*.pid")
    time.sleep(0.3 * SLOW)
    kill(pid)
    assert command.wait(10 * SLOW) == 128 + signal.SIGKILL
    wait_until(lambda: "2000" not in runv.run("ps", created.id).ok().out, "the end of the process in the guest")
    assert created.status() == "running"
    created.exec("true").ok()
    delete_twice(runv, created.id)


ENDINGS: dict[str, Callable[[Created], object]] = {
    "kill": lambda created: created.kill().ok(),
    "qemu": lambda created: kill(qemu_of(created.runtime.root)),
}


@contextlib.contextmanager
def stopped_exec(created: Created) -> Iterator[tuple[int, int, int]]:
    """A process executed in a container, whose stand-in is stopped: its pid, and descriptors of the container's stand-in and of this one."""
    created.runtime.run("exec", "--detach", created.id, "sleep", "2000").ok()
    pid = pid_in(created.runtime.root, f"{created.id}/exec/*.pid")
    first, other = os.pidfd_open(created.pid), os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGSTOP)
        yield pid, first, other
    finally:
        os.close(first)
        os.close(other)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_executed_ends_before_its_container(runv: Runtime, bundle: Bundle, ending: str) -> None:
    """As with processes of a pid namespace, whose first one waits for the others to be waited for. Here another one's stand-in is slow to hear of it."""
    created = runv.start(bundle.args("sleep", "1000"))
    with stopped_exec(created) as (pid, first, other):
        ENDINGS[ending](created)
        assert select.select([first, other], [], [], 0.3)[0] == []
        os.kill(pid, signal.SIGCONT)
        assert select.select([first, other], [], [], 10 * SLOW)[0] == [other]
        assert os.waitstatus_to_exitcode(wait_for(pid)) == -signal.SIGKILL
        assert created.wait() == -signal.SIGKILL
    delete_twice(runv, created.id)


def test_delete_ends_what_was_executed_first(runv: Runtime, bundle: Bundle) -> None:
    created = runv.start(bundle.args("sleep", "1000"))
    with (
        stopped_exec(created) as (_, first, other),
        runv.popen("delete", "--force", created.id) as command,
    ):
        assert other in select.select([first, other], [], [], 10 * SLOW)[0]
        assert command.wait(20 * SLOW) == 0
    delete_twice(runv, created.id)


def test_everything_is_killed_at_once(runv: Runtime, bundle: Bundle) -> None:
    created = runv.start(bundle.args("sleep", "1000"))
    for pattern in PID_FILES.values():
        for path in runv.root.glob(pattern):
            kill(int(path.read_text().split()[0]))
    delete_twice(runv, created.id)


@pytest.mark.parametrize("victim", ["qemu", "standin"])
def test_a_process_is_stopped(runv: Runtime, bundle: Bundle, victim: str) -> None:
    """Worse than dead: it does not answer."""
    created = runv.start(bundle.args("sleep", "1000"))
    os.kill(victim_of(created, victim), signal.SIGSTOP)
    began = time.monotonic()
    delete_twice(runv, created.id)
    assert time.monotonic() - began < 10 * SLOW


@pytest.mark.parametrize("text", ["", "{", '{"id": 1}'])
@pytest.mark.parametrize("name", ["state.json", "config.json", "@sandboxes/*/sandbox.json", "init.pid"])
def test_files_are_damaged(runv: Runtime, bundle: Bundle, name: str, text: str) -> None:
    """As a power cut may leave them."""
    created = runv.start(bundle.args("sleep", "1000"))
    pattern = name if name.startswith("@") else f"{created.id}/{name}"
    (path,) = runv.root.glob(pattern)
    path.write_text(text)
    assert "Traceback" not in runv.run("state", created.id).err
    assert "Traceback" not in runv.run("list").err
    delete_twice(runv, created.id)
