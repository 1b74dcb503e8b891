"""containerd's `ctr` with the runc shim and runv below it."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.vm.harness import DEADLINE_S, wait_until

from .containerd import Containerd

pytestmark = pytest.mark.engines


def _status(containerd: Containerd, name: str) -> str:
    rows = {line.split()[0]: line.split()[2] for line in containerd("task", "ls").lines[1:]}
    return rows.get(name, "")


def _ended(containerd: Containerd, name: str) -> int:
    """Deletes a task that has ended; its exit code."""
    said = containerd("task", "delete", name).err
    return int(said.rstrip('"\n').rpartition(" ")[2]) if said else 0


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("sh", "-c", "echo out; echo err >&2"), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "sh -c 'kill -SEGV $$'; exit $?"), 139),
        (("no-such-program",), 1),
        (("/etc/not-executable",), 1),
    ],
)
def test_exit_codes_are_runcs(containerd: Containerd, args: tuple[str, ...], code: int) -> None:
    ours, theirs = (containerd.ctr_run("c", *args, runtime=r) for r in ("", "/usr/sbin/runc"))
    assert (ours.code, theirs.code) == (code, code)
    assert ours.out == theirs.out
    if args[0] != "sh":
        assert theirs.err.rpartition("exec: ")[2] == ours.err.rpartition("exec: ")[2]


def test_input_and_output(containerd: Containerd) -> None:
    data = os.urandom(2 << 20)
    done = containerd.ctr_run("c", "sh", "-c", "tee /tmp/copy; md5sum /tmp/copy >&2; uname -r >&2", stdin=data).ok()
    assert done.stdout == data
    assert hashlib.md5(data).hexdigest() in done.err and "-hyper" in done.err


def test_terminal(containerd: Containerd) -> None:
    flags = containerd.flags("c")
    with containerd.on_terminal("run", "--rm", "-t", *flags, "localhost/busybox:latest", "c", "sh") as (
        process,
        terminal,
    ):
        terminal.expect(b"# ")
        terminal.write(b"until stty size | grep '24 80'; do :; done; tty\n")
        terminal.expect(b"/dev/pts/0")
        terminal.resize(33, 99)
        process.send_signal(signal.SIGWINCH)
        terminal.write(b"until stty size | grep '33 99'; do :; done; exit 3\n")
        assert process.wait(DEADLINE_S) == 3


@pytest.mark.smoke
def test_a_tasks_life(containerd: Containerd) -> None:
    name = containerd.ctr_sleeping("c")
    assert _status(containerd, name) == "RUNNING"
    assert containerd.ctr_exec(name, "one", "sh", "-c", "echo in; exit 9").code == 9
    assert containerd.ctr_exec(name, "two", "pwd", flags=("--cwd", "/tmp")).ok().out == "/tmp\n"
    assert containerd.ctr_exec(name, "three", "id", "-u", flags=("--user", "1000")).ok().out == "1000\n"
    assert "executable file not found in $PATH" in containerd.ctr_exec(name, "four", "no-such-program").err
    assert len(containerd("task", "ps", name).lines) >= 2
    metrics = json.loads(containerd("task", "metrics", "--format", "json", name).out)
    assert int(metrics["memory"]["usage"]["usage"]) > 1 << 20
    assert int(metrics["cpu"]["usage"]["total"]) > 0
    assert containerd.try_("task", "delete", name).code == 1
    containerd("task", "kill", name)
    wait_until(lambda: _status(containerd, name) == "STOPPED", "its end", DEADLINE_S)
    assert _ended(containerd, name) == 5
    containerd("container", "delete", name)


def test_pause(containerd: Containerd) -> None:
    containerd.ctr_sleeping("c", "--env", "A=b")
    containerd("task", "pause", "c")
    assert _status(containerd, "c") == "PAUSED"
    assert "paused" in containerd.ctr_exec("c", "one", "true").err
    containerd("task", "resume", "c")
    assert containerd.ctr_exec("c", "two", "sh", "-c", "echo $A").ok().out == "b\n"


def test_kill_all(containerd: Containerd) -> None:
    containerd.ctr_sleeping("c")
    started = containerd.ctr_exec("c", "one", "sleep", "1000", flags=("--detach",)).ok()
    assert started.err == ""
    containerd("task", "kill", "--all", "--signal", "SIGKILL", "c")
    wait_until(lambda: _status(containerd, "c") == "STOPPED", "its end", DEADLINE_S)
    assert _ended(containerd, "c") == 137


def test_twenty_at_once(containerd: Containerd) -> None:
    containerd.ctr_sleeping("c")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda n: containerd.ctr_exec("c", f"e{n}", "sh", "-c", f"echo {n}; exit {n}"), range(20)))
    assert [(one.out, one.code) for one in done] == [(f"{n}\n", n) for n in range(20)]


def test_mounts_and_limits(containerd: Containerd, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from the host\n")
    flags = (
        "--mount", f"type=bind,src={tmp_path},dst=/data,options=rbind:rw",
        "--mount", f"type=bind,src={tmp_path},dst=/ro,options=rbind:ro",
        "--mount", "type=tmpfs,src=tmpfs,dst=/mnt,options=size=1m",
        "--mount", "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro",
        "--memory-limit", str(96 << 20), "--cpu-quota", "50000", "--cpu-period", "100000", "--env", "A=b",
    )  # fmt: skip
    script = """
        cat /data/in; echo out > /data/out; touch /ro/x 2>&1 | grep -o 'Read-only file system'
        df -k /mnt | tail -1 | awk '{ print $2 }'; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max; echo $A
    """
    done = containerd.ctr_run("c", "sh", "-c", script, flags=flags).ok()
    assert done.lines == ["from the host", "Read-only file system", "1024", str(96 << 20), "50000 100000", "b"]
    assert (tmp_path / "out").read_text() == "out\n"
    assert containerd.ctr_run("d", "touch", "/x", flags=("--read-only",)).code == 1


def test_its_cgroup(containerd: Containerd) -> None:
    containerd.ctr_sleeping("c")
    pid = containerd("task", "ls").lines[1].split()[1]
    groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    assert any(line.endswith(f":/{containerd.cgroup_parent}/c") for line in groups)


def test_the_hosts_network_is_refused(containerd: Containerd) -> None:
    done = containerd.ctr_run("c", "true", flags=("--net-host",))
    assert done.code == 1
    assert "a virtual machine cannot use the host's own network" in done.err


def test_a_machine_that_dies(containerd: Containerd) -> None:
    containerd.ctr_sleeping("c")
    (pid_file,) = (containerd.folder / "runtime").glob("*/default/@sandboxes/*/qemu.pid")
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    wait_until(lambda: _status(containerd, "c") == "STOPPED", "containerd to notice", DEADLINE_S)
    assert _ended(containerd, "c") not in (0, 5)


def test_containerd_that_is_killed(containerd: Containerd) -> None:
    """The shim and the container go on, and are found again."""
    containerd.ctr_sleeping("c")
    containerd.restart_daemon()
    wait_until(lambda: _status(containerd, "c") == "RUNNING", "the task to be found", DEADLINE_S)
    time.sleep(0.1)
    assert containerd.ctr_exec("c", "one", "echo", "still").ok().out == "still\n"
