"""The units, under a systemd that is PID 1: the socket starts the daemon, which says when it is ready, and pods do not care what becomes of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import WAIT_S, until

pytestmark = [pytest.mark.vm, pytest.mark.soak]

SCRIPT = Path(__file__).with_name("systemd.sh")
COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.2; done"


class Host:
    """What looks like a host of its own."""

    def __init__(self, pid: int, stage: Path) -> None:
        self.pid = pid
        self.stage = stage

    def run(self, *words: str, check: bool = True) -> str:
        """Runs a command there; what it says."""
        argv = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", *words]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * WAIT_S, check=False)
        assert done.returncode == 0 or not check, (words, done.stdout, done.stderr, self._journal() if words[0] != "journalctl" else "")
        return done.stdout + done.stderr

    def _journal(self) -> str:
        return self.run("journalctl", "--no-pager", "-n", "40", check=False)

    def ctl(self, *words: str) -> str:
        return self.run(f"{self.stage}/bin/hyperctl", "-H", "unix:///run/hyperd/hyperd.sock", *words)

    def shows(self, unit: str, what: str) -> str:
        return self.run("systemctl", "show", "--property", what, "--value", unit).strip()

    def lines(self, pod: str) -> list[int]:
        return [int(line) for line in self.ctl("logs", pod).split()]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    program = shutil.which("hyperd")
    assert program is not None, "hyperd is not in PATH"
    stage = Path(program).resolve().parent.parent
    if not Path("/lib/systemd/systemd").exists():
        pytest.skip("systemd is not installed")
    mounted = re.search(r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 ", Path("/proc/self/mountinfo").read_text(), re.MULTILINE)
    assert mounted is not None, "this host has no cgroups of version 2"
    group = Path(mounted[1], f"hyperd-systemd-{os.getpid()}")
    group.mkdir()
    enter = f'echo $$ >{group}/cgroup.procs && exec "$@"'
    apart = ["unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--cgroup", "--kill-child=KILL"]
    process = subprocess.Popen(["sh", "-c", enter, "sh", *apart, SCRIPT, stage, tmp_path], stdin=subprocess.DEVNULL)
    try:
        until(lambda: _child(process.pid) and Path(f"/proc/{_child(process.pid)}/comm").read_text() == "systemd\n", "systemd is PID 1")
        one = Host(_child(process.pid), stage)
        until(lambda: "running" in one.run("systemctl", "is-system-running", check=False), "it is up")
        yield one
    finally:
        process.kill()
        process.wait()
        until(lambda: _removed(group), "all has ended")


def _child(pid: int) -> int:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(found[0]) if found else 0


def _removed(group: Path) -> bool:
    """Removes a cgroup with those below it, once nothing is in them."""
    try:
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            folder.rmdir()
        group.rmdir()
    except OSError:
        return False
    return True


def machine_of(host: Host, pod: str) -> int:
    """QEMU of a pod."""
    script = f"for one in /run/hyperd/runv/@sandboxes/*; do [ ! -e $one/members/{pod} ] || cut -d' ' -f1 $one/qemu.pid; done"
    return int(host.run("sh", "-c", script))


def test_pods_outlive_the_daemon(host: Host) -> None:
    assert host.run("systemd-analyze", "verify", "--man=no", "hyperd.service", "hyperd.socket") == ""
    host.run("systemctl", "start", "hyperd.socket")
    assert host.shows("hyperd.service", "ActiveState") == "inactive"
    assert host.run("stat", "-c", "%a %G", "/run/hyperd/hyperd.sock").split() == ["660", "hyperd"]
    host.ctl("version")
    assert host.shows("hyperd.service", "ActiveState") == "active"  # it has said that it is ready

    host.ctl("load", "-i", f"{host.stage}/share/runv/busybox.tar")
    pod = host.ctl("run", "-d", "--name", "web", "busybox", "sh", "-c", COUNT).split()[0]
    machine = machine_of(host, pod)
    first = host.shows("hyperd.service", "MainPID")
    # The daemon is spared when memory gets scarce, where this host lets it be; what it starts is not; and machines are in cgroups of their own.
    spared = subprocess.run(["choom", "-n", "-500", "--", "true"], capture_output=True, check=False).returncode == 0
    assert [host.run("cat", f"/proc/{pid}/oom_score_adj").strip() for pid in (first, machine)] == ["-500" if spared else "0", "0"]
    assert "hyperd.service" not in host.run("cat", f"/proc/{machine}/cgroup")
    group = host.shows("hyperd.service", "ControlGroup")
    until(lambda: host.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").split() == [first], "the daemon is alone in its cgroup")

    def still_counts() -> None:
        assert machine_of(host, pod) == machine and host.run("cat", f"/proc/{machine}/comm").startswith("qemu")
        before = host.lines("web")
        until(lambda: len(host.lines("web")) > len(before), "it counts on")
        lines = host.lines("web")
        assert lines == list(range(len(lines)))

    host.run("systemctl", "restart", "hyperd.service")
    second = host.shows("hyperd.service", "MainPID")
    assert second != first
    still_counts()
    host.run("systemctl", "kill", "--signal=KILL", "hyperd.service")
    until(lambda: host.shows("hyperd.service", "MainPID") not in ("0", second) and host.shows("hyperd.service", "ActiveState") == "active", "it is started again")
    still_counts()
    count = len(host.lines("web"))
    host.run("systemctl", "stop", "hyperd.service", "hyperd.socket")
    assert host.shows("hyperd.service", "Result") == "success"
    assert "No such file" in host.run(f"{host.stage}/bin/hyperctl", "-H", "unix:///run/hyperd/hyperd.sock", "list", check=False)
    host.run("systemctl", "start", "hyperd.socket")
    still_counts()
    assert len(host.lines("web")) > count
    assert "Traceback" not in host.run("journalctl", "--no-pager", "-u", "hyperd.service")
    host.ctl("rm", "-f", "web")
    host.run("systemctl", "stop", "hyperd.service", "hyperd.socket")
    assert host.run("pgrep", "-l", "qemu|runv", check=False) == ""
