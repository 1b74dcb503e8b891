"""`podman run` and what can be done to a container, with runv under conmon."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import signal
import subprocess
import time

import pytest

from tests.vm.harness import DEADLINE_S, qemu_of, wait_until

from .harness import IMAGE
from .podman import Podman

pytestmark = pytest.mark.engines

_STDIN_MIB = 4


def test_hello(podman: Podman) -> None:
    done = podman.run(IMAGE, "sh", "-c", "echo out; echo err >&2; uname -r").ok()
    assert done.lines[0] == "out" and done.lines[1].endswith("-hyper")
    assert done.err == "err\n"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "sh -c 'kill -SEGV $$'; exit $?"), 139),
        (("no-such-program",), 127),
        (("/no/such/program",), 127),
        (("/etc/not-executable",), 126),
    ],
)
def test_exit_codes(podman: Podman, args: tuple[str, ...], code: int) -> None:
    assert podman.run(IMAGE, *args).code == code


def test_input_and_output(podman: Podman) -> None:
    data = os.urandom(_STDIN_MIB << 20)
    done = podman.run("-i", IMAGE, "sh", "-c", "tee /tmp/copy; md5sum /tmp/copy >&2", stdin=data).ok()
    assert hashlib.md5(data).hexdigest() in done.err
    assert done.stdout == data


def test_terminal(podman: Podman) -> None:
    with podman.on_terminal("run", "--rm", *podman.run_flags(), "-it", IMAGE) as (process, terminal):
        terminal.expect(b"# ")
        terminal.write(b"tty; until stty size | grep '24 80'; do :; done\n")
        terminal.expect(b"24 80\r\n")
        assert b"/dev/pts/0" in terminal.seen
        terminal.resize(33, 99)
        process.send_signal(signal.SIGWINCH)
        terminal.write(b"until stty size | grep '33 99'; do :; done; echo a=$((40+2))\n")
        terminal.expect(b"a=42")
        terminal.write(b"exit 3\n")
        assert process.wait(DEADLINE_S) == 3


def test_detached(podman: Podman) -> None:
    name = podman.detached("--name", "fred", IMAGE, "sh", "-c", "echo one; echo two >&2; exit 3")
    assert podman("wait", "fred").out == "3\n"
    logs = podman("logs", name)
    assert (logs.out, logs.err) == ("one\n", "two\n")
    state = podman.inspect("fred")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    podman("rm", "fred")
    assert podman.try_("container", "exists", "fred").code == 1


@pytest.mark.smoke
def test_exec(podman: Podman) -> None:
    name = podman.sleeping("-e", "A=container")
    assert podman.exec(name, "sh", "-c", "echo $A; exit 9").code == 9
    flags = ("-e", "A=exec", "-u", "alice", "-w", "/home/alice")
    assert podman.exec(*flags, name, "sh", "-c", "echo $A; id -un; pwd").ok().lines == ["exec", "alice", "/home/alice"]
    data = b"0123456789abcdef" * (1 << 12)
    assert podman.exec("-i", name, "cat", stdin=data).ok().stdout == data
    assert podman.exec(name, "no-such-program").code == 127
    assert podman.exec(name, "/etc/not-executable").code == 126
    podman.exec("-d", name, "sh", "-c", "echo done > /tmp/d").ok()
    wait_until(lambda: podman.exec(name, "cat", "/tmp/d").out == "done\n", "the detached command", DEADLINE_S)
    with podman.on_terminal("exec", "-it", name, "sh") as (process, terminal):
        terminal.expect(b"# ")
        terminal.write(b"tty; exit 6\n")
        assert process.wait(DEADLINE_S) == 6
        assert b"/dev/pts/" in terminal.read_all()


def test_many_execs_at_once(podman: Podman) -> None:
    name = podman.sleeping()
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        done = list(pool.map(lambda n: podman.exec(name, "sh", "-c", f"echo {n}; exit {n}"), range(10)))
    assert [(one.out, one.code) for one in done] == [(f"{n}\n", n) for n in range(10)]


def test_kill_and_stop(podman: Podman) -> None:
    script = "trap 'echo hup' HUP; trap 'echo term' TERM; echo up; while :; do sleep 0.1; done"
    name = podman.detached(IMAGE, "sh", "-c", script)
    wait_until(lambda: "up" in podman("logs", name).out, "the program", DEADLINE_S)
    podman("kill", "--signal", "HUP", name)
    wait_until(lambda: "hup" in podman("logs", name).out, "SIGHUP", DEADLINE_S)
    podman("stop", "-t", "1", name)  # it takes no notice of SIGTERM, and is killed
    assert podman("logs", name).out == "up\nhup\nterm\n"
    assert podman.inspect(name)["State"]["ExitCode"] == 137
    polite = podman.sleeping()
    podman("stop", "-t", "30", polite)
    assert podman.inspect(polite)["State"]["ExitCode"] == 0
    podman("start", polite)
    assert podman.exec(polite, "echo", "again").ok().out == "again\n"


def test_pause(podman: Podman) -> None:
    name = podman.detached(IMAGE, "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    wait_until(lambda: "tick" in podman("logs", name).out, "the first tick", DEADLINE_S)
    podman("pause", name)
    assert podman.status(name) == "paused"
    before = podman("logs", name).out
    time.sleep(1)
    assert podman("logs", name).out == before
    podman("unpause", name)
    wait_until(lambda: len(podman("logs", name).out) > len(before), "more ticks", DEADLINE_S)


def test_top_and_stats(podman: Podman) -> None:
    name = podman.sleeping("-m", "100m")
    lines = podman("top", name, "-o", "pid,args").lines  # with flags of ps it runs the container's own
    assert any("sleep 1000" in line for line in lines)
    stats = json.loads(podman("stats", "--no-stream", "--format", "json", name).out)[0]
    assert " / " in stats["mem_usage"]
    assert int(stats["pids"]) > 1


def test_health(podman: Podman) -> None:
    flags = ("--health-cmd", "test -e /tmp/healthy", "--health-interval", "disable", "--health-retries", "1")
    name = podman.sleeping(*flags)
    assert podman.try_("healthcheck", "run", name).code == 1
    assert podman.inspect(name)["State"]["Health"]["Status"] == "unhealthy"
    podman.exec(name, "touch", "/tmp/healthy").ok()
    podman("healthcheck", "run", name)
    assert podman.inspect(name)["State"]["Health"]["Status"] == "healthy"


def test_attach(podman: Podman) -> None:
    name = podman.detached("-it", IMAGE)
    with podman.on_terminal("attach", "--detach-keys", "ctrl-x", name) as (process, terminal):
        terminal.write(b"echo a=$((1+1))\n")
        terminal.expect(b"a=2")
        terminal.write(b"\x18")
        process.wait(DEADLINE_S)
    assert podman.status(name) == "running"
    with podman.on_terminal("attach", name) as (process, terminal):
        terminal.write(b"exit 5\n")
        process.wait(DEADLINE_S)  # 0, whatever the container's is, with any runtime
    assert podman("wait", name).out == "5\n"


def test_create_and_start(podman: Podman) -> None:
    name = podman("create", *podman.run_flags(), "-i", IMAGE, "cat").out.strip()
    assert podman.status(name) == "created"
    assert podman.try_("start", "-ai", name, stdin=b"through\n").ok().out == "through\n"
    podman("init", name)
    assert podman.status(name) == "initialized"
    podman("rm", "--force", name)


def test_a_machine_that_dies(podman: Podman) -> None:
    name = podman.sleeping()
    os.kill(qemu_of(podman.folder / "runtime"), signal.SIGKILL)
    wait_until(lambda: podman.status(name) == "exited", "Podman to notice", DEADLINE_S)
    assert podman.inspect(name)["State"]["ExitCode"] != 0
    podman("start", name)
    assert podman.exec(name, "echo", "back").ok().out == "back\n"


def test_a_command_that_is_killed(podman: Podman) -> None:
    """The container belongs to conmon, not to the command that made it."""
    process = podman.popen(
        "run", "--name", "mine", *podman.run_flags(), IMAGE, "sleep", "1000", stdout=subprocess.DEVNULL
    )
    wait_until(
        lambda: podman.try_("container", "exists", "mine").code == 0 and podman.status("mine") == "running",
        "it",
        DEADLINE_S,
    )
    process.kill()
    process.wait(DEADLINE_S)
    assert podman.exec("mine", "echo", "alive").ok().out == "alive\n"
