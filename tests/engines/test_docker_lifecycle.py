"""What happens to a container between its start and its end: exec, signals, logs, restarts, health, attach, pause."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import subprocess
import time

import pytest

from tests.vm.harness import DEADLINE_S, wait_until

from .docker import Docker
from .harness import IMAGE, machines

pytestmark = pytest.mark.engines


@pytest.mark.smoke
def test_exec(docker: Docker) -> None:
    name = docker.sleeping("-e", "A=container")
    assert docker.exec(name, "sh", "-c", "echo $A; exit 9").out == "container\n"
    assert docker.exec(name, "sh", "-c", "exit 9").code == 9
    assert docker.exec(name, "sh", "-c", "kill -KILL $$").code == 137
    flags = ("-e", "A=exec", "-u", "alice", "-w", "/home/alice")
    assert docker.exec(*flags, name, "sh", "-c", "echo $A; id -un; pwd").ok().lines == ["exec", "alice", "/home/alice"]
    data = b"0123456789abcdef" * (1 << 16)
    assert docker.exec("-i", name, "cat", stdin=data).ok().stdout == data
    docker.exec("-d", name, "sh", "-c", "echo done > /tmp/d").ok()
    wait_until(lambda: docker.exec(name, "cat", "/tmp/d").out == "done\n", "the detached command")
    privileged = docker.exec("--privileged", name, "grep", "CapEff", "/proc/self/status").ok()
    assert privileged.out == "CapEff:\t0000003fffffffff\n"


def test_exec_of_what_is_not_there(docker: Docker) -> None:
    ours = docker.sleeping()
    theirs = docker.sleeping("--runtime", "runc")
    for args in (("no-such-program",), ("/etc/not-executable",), ("/no/such",)):
        done, reference = (docker.exec(name, *args) for name in (ours, theirs))
        assert done.code == reference.code
    assert docker.exec("-w", "/no/such", ours, "true").code == docker.exec("-w", "/no/such", theirs, "true").code
    assert docker.exec("-u", "nobody-of-that-name", ours, "true").code == 126


def test_exec_with_a_terminal(docker: Docker) -> None:
    name = docker.sleeping()
    with docker.on_terminal("exec", "-it", name, "sh") as (process, terminal):
        terminal.expect(b"# ")
        terminal.write(b"stty size; tty\n")
        terminal.expect(b"24 80")
        terminal.expect(b"/dev/pts/")
        terminal.resize(31, 97)
        process.send_signal(signal.SIGWINCH)
        terminal.write(b"until stty size | grep '31 97'; do :; done; exit 6\n")
        assert process.wait(DEADLINE_S) == 6


def test_twenty_at_once(docker: Docker) -> None:
    name = docker.sleeping()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda n: docker.exec(name, "sh", "-c", f"echo {n}; exit {n}"), range(20)))
    assert [(one.out, one.code) for one in done] == [(f"{n}\n", n) for n in range(20)]


def test_an_exec_ends_with_its_container(docker: Docker) -> None:
    name = docker.sleeping()
    process = docker.popen("exec", name, "sh", "-c", "echo up; sleep 1000", stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"up\n"
        docker("kill", name)
        assert process.wait(DEADLINE_S) == 137
    assert docker.exec(name, "true").code == 1


@pytest.mark.smoke
def test_kill_and_stop(docker: Docker) -> None:
    script = "trap 'echo hup' HUP; trap 'echo term' TERM; echo up; while :; do sleep 0.1; done"
    name = docker.detached(IMAGE, "sh", "-c", script)
    wait_until(lambda: "up" in docker("logs", name).out, "the program")
    docker("kill", "--signal", "HUP", name)
    wait_until(lambda: "hup" in docker("logs", name).out, "SIGHUP")
    docker("stop", "-t", "1", name)  # it takes no notice of SIGTERM, and is killed
    assert docker("logs", name).out == "up\nhup\nterm\n"
    assert docker.inspect(name)["State"]["ExitCode"] == 137
    polite = docker.sleeping("--stop-signal", "TERM")
    docker("stop", "-t", "30", polite)
    assert docker.inspect(polite)["State"]["ExitCode"] == 0


def test_start_and_restart(docker: Docker) -> None:
    script = "echo again >> /count; wc -l < /count; trap 'exit 0' TERM; sleep 1000 & wait"
    name = docker.detached(IMAGE, "sh", "-c", script)
    wait_until(lambda: docker("logs", name).out == "1\n", "the first run")
    docker("restart", name)
    wait_until(lambda: docker("logs", name).out == "1\n2\n", "the second run")
    docker("stop", name)
    docker("start", name)
    wait_until(lambda: docker("logs", name).out == "1\n2\n3\n", "the third run")


@pytest.mark.smoke
def test_restart_policies(docker: Docker) -> None:
    failing = docker.detached("--restart", "on-failure:2", IMAGE, "sh", "-c", "echo run; exit 3")
    always = docker.detached("--restart", "always", IMAGE, "sh", "-c", "sleep 1")
    wait_until(lambda: docker.status(failing) == "exited", "the last try", DEADLINE_S)
    assert docker("logs", failing).out == "run\n" * 3
    assert docker.inspect(failing)["RestartCount"] == 2
    wait_until(lambda: docker.inspect(always)["RestartCount"] >= 2, "more runs", DEADLINE_S)
    docker("stop", always)
    assert docker.status(always) == "exited"


def test_logs(docker: Docker) -> None:
    name = docker.detached(IMAGE, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done; echo e >&2")
    following = docker.try_("logs", "--follow", name)
    assert (following.out, following.err) == ("1\n2\n3\n", "e\n")
    assert docker("logs", "--tail", "1", name).out + docker("logs", "--tail", "1", name).err == "e\n"
    assert len(docker("logs", "--timestamps", name).out.splitlines()[0].split()) == 2


def test_many_lines_of_output(docker: Docker) -> None:
    name = docker.detached(IMAGE, "seq", "100000")
    docker("wait", name)
    assert docker("logs", name).lines == [str(n) for n in range(1, 100001)]


def test_top(docker: Docker) -> None:
    name = docker.sleeping()
    docker.exec("-d", name, "sleep", "1234").ok()
    lines = docker("top", name).lines
    assert lines[0].split()[:3] == ["UID", "PID", "PPID"]
    assert len(lines) >= 3


def test_stats(docker: Docker) -> None:
    name = docker.detached("-m", "100m", IMAGE, "sh", "-c", "while :; do :; done")
    done = docker("stats", "--no-stream", "--format", "{{json .}}", name)
    stats = json.loads(done.out)
    assert float(stats["CPUPerc"].rstrip("%")) > 1
    # The limit is the machine's, which needs more than what it gives the container.
    used, limit = (float(word.rstrip("MiB")) for word in stats["MemUsage"].split(" / "))
    assert 0 < used < limit > 100
    docker("kill", name)


@pytest.mark.smoke
def test_pause(docker: Docker) -> None:
    name = docker.detached(IMAGE, "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    wait_until(lambda: "tick" in docker("logs", name).out, "the first tick")
    docker("pause", name)
    assert docker.status(name) == "paused"
    before = docker("logs", name).out
    time.sleep(1)
    assert docker("logs", name).out == before
    docker("unpause", name)
    wait_until(lambda: len(docker("logs", name).out) > len(before), "more ticks")
    assert docker.status(name) == "running"


def test_update(docker: Docker) -> None:
    name = docker.sleeping("-m", "100m", "--memory-swap", "100m")
    docker("update", "-m", "80m", "--memory-swap", "80m", "--cpus", "0.5", "--pids-limit", "77", name)
    done = docker.exec(name, "sh", "-c", "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max").ok()
    assert done.lines == [str(80 << 20), "50000 100000", "77"]


def test_attach_and_detach(docker: Docker) -> None:
    name = docker.detached("-it", IMAGE)
    with docker.on_terminal("attach", "--detach-keys", "ctrl-x", name) as (process, terminal):
        terminal.write(b"echo a=$((1+1))\n")
        terminal.expect(b"a=2")
        terminal.write(b"\x18")
        process.wait(DEADLINE_S)
    assert docker.status(name) == "running"
    with docker.on_terminal("attach", name) as (process, terminal):
        terminal.write(b"exit 5\n")
        assert process.wait(DEADLINE_S) == 5


def test_create_start_attached(docker: Docker) -> None:
    name = docker("create", "-i", IMAGE, "cat").out.strip()
    done = docker.try_("start", "-ai", name, stdin=b"through\n")
    assert done.ok().out == "through\n"
    assert docker.status(name) == "exited"


def test_health(docker: Docker) -> None:
    flags = ("--health-cmd", "test -e /tmp/healthy", "--health-interval", "1s", "--health-retries", "2")
    name = docker.sleeping(*flags)

    def health() -> str:
        return str(docker.inspect(name)["State"]["Health"]["Status"])

    wait_until(lambda: health() == "unhealthy", "bad health", DEADLINE_S)
    docker.exec(name, "touch", "/tmp/healthy").ok()
    wait_until(lambda: health() == "healthy", "good health", DEADLINE_S)


def test_rename_and_wait(docker: Docker) -> None:
    name = docker.sleeping()
    docker("rename", name, "newname")
    waiting = docker.popen("wait", "newname", stdout=subprocess.PIPE)
    docker("stop", "newname")
    assert waiting.communicate(timeout=DEADLINE_S)[0] == b"0\n"


def test_force_removal(docker: Docker) -> None:
    name = docker.sleeping()
    assert docker.try_("rm", name).code == 1
    docker("rm", "--force", name)
    assert docker.try_("inspect", name).code == 1


def test_a_machine_that_dies(docker: Docker) -> None:
    name = docker.sleeping()
    (machine,) = machines(docker.cgroup_parent)
    os.kill(machine, signal.SIGKILL)
    wait_until(lambda: docker.status(name) == "exited", "Docker to notice")
    assert docker.inspect(name)["State"]["ExitCode"] != 0
    docker("start", name)
    assert docker.exec(name, "echo", "back").ok().out == "back\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_live_restore(docker: Docker, number: signal.Signals) -> None:
    name = docker.detached(IMAGE, "sh", "-c", "trap 'echo bye; exit 4' TERM; while :; do echo tick; sleep 0.2; done")
    wait_until(lambda: "tick" in docker("logs", name).out, "the first tick")
    docker.stop_dockerd(number)
    docker.start_dockerd()
    assert docker.status(name) == "running"
    assert docker.exec(name, "echo", "still here").ok().out == "still here\n"
    ticks = docker("logs", name).out.count("tick")
    wait_until(lambda: docker("logs", name).out.count("tick") > ticks, "more ticks")
    docker("stop", name)
    assert docker.inspect(name)["State"]["ExitCode"] == 4
    assert docker("logs", name).out.endswith("bye\n")


def test_many_at_once(docker: Docker) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: docker.run(IMAGE, "sh", "-c", f"echo {n}; exit {n}"), range(6)))
    assert [(one.out, one.code) for one in done] == [(f"{n}\n", n) for n in range(6)]


def test_the_processes_of_another_container(docker: Docker) -> None:
    first = docker.sleeping("--name", "watched")
    refused = docker.run("--pid", "container:watched", IMAGE, "true")
    assert refused.code == 125 and "with a network of one's own" in refused.err
    shared = ("--pid", "container:watched", "--network", "container:watched")
    done = docker.run(*shared, IMAGE, "sh", "-c", "ps; kill -TERM 1; sleep 1000")
    assert "echo ready" in done.out
    assert done.code == 137  # with its first process a pid namespace ends
    assert docker("wait", first).out == "0\n"
