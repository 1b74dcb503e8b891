"""The client against a daemon with machines: streams of all sizes, terminals, signals, files and exit codes, as a user has them."""

from __future__ import annotations

import hashlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from .harness import WAIT_S, Daemon, until

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[3]


def environment(daemon: Daemon) -> dict[str, str]:
    return os.environ | {"HYPER_HOST": f"unix://{daemon.socket}", "PYTHONPATH": str(ROOT)}


def run(daemon: Daemon, *argv: str, given: bytes = b"") -> tuple[int, bytes, bytes]:
    """Status, output and errors of a command."""
    command = [sys.executable, "-m", "hyperctl", *argv]
    done = subprocess.run(command, input=given, capture_output=True, env=environment(daemon), timeout=WAIT_S, check=False)
    return done.returncode, done.stdout, done.stderr


def test_input_and_output_are_whole(daemon: Daemon) -> None:
    data = os.urandom(500_000)
    status, out, error = run(daemon, "run", "-i", "--rm", "busybox", "sh", "-c", "tee /dev/stderr | md5sum; exit 3", given=data)
    assert (status, out.split()[0].decode(), error == data) == (3, hashlib.md5(data).hexdigest(), True)
    assert run(daemon, "list", "-q")[1] == b""


HEALTH = ("--health-cmd", "test -e /srv/file", "--health-interval", "200ms", "--health-retries", "1")


def health(daemon: Daemon, name: str) -> str:
    return run(daemon, "inspect", "--type", "container", "--format", "{{.Health.Status}}", name)[1].decode().strip()


def test_a_pod_in_use(daemon: Daemon, tmp_path: Path) -> None:
    status, out, error = run(daemon, "run", "-d", "--name", "used", *HEALTH, "busybox", "sh", "-c", "trap 'echo bye; exit 6' TERM; echo up; while :; do sleep 0.1; done")
    assert status == 0 and len(out.strip()) == 16 and b"Time to run a POD is" in error
    assert run(daemon, "exec", "used", "sh", "-c", "echo out; echo err >&2; exit 9") == (9, b"out\n", b"err\n")
    assert run(daemon, "exec", "used", "nope")[0] == 127 and run(daemon, "exec", "used", "/etc")[0] == 126
    until(lambda: health(daemon, "used") == "unhealthy", "it is not well")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_bytes(b"x" * 200_000)
    assert run(daemon, "cp", str(tmp_path / "folder"), "used:/srv") == (0, b"", b"")
    assert run(daemon, "cp", "used:/srv/file", str(tmp_path / "back")) == (0, b"", b"")
    assert (tmp_path / "back").read_bytes() == b"x" * 200_000
    assert run(daemon, "cp", "used:/none", str(tmp_path))[0] == 1
    until(lambda: health(daemon, "used") == "healthy", "it is well")
    assert b"A /srv/file" in run(daemon, "diff", "used")[1]
    assert run(daemon, "commit", "-c", 'CMD ["cat", "/srv/file"]', "used", "made:1")[0] == 0
    assert run(daemon, "inspect", "--type", "image", "--format", "{{json .Config.Cmd}}", "made:1")[1] == b'["cat", "/srv/file"]\n'
    assert run(daemon, "kill", "-s", "TERM", "used/busybox")[0] == 0
    assert run(daemon, "wait", "used")[1] == b"6\n"
    assert run(daemon, "logs", "used")[1] == b"up\nbye\n" and run(daemon, "logs", "--tail", "1", "used")[1] == b"bye\n"
    assert run(daemon, "commit", "used", "made:2")[0] == 0, "also of a pod that has ended"
    assert run(daemon, "history", "made:2")[1].count(b"hyperctl commit") == 1
    assert run(daemon, "rm", "used") == (0, b"used\n", b"")


def test_a_shell_on_a_terminal(daemon: Daemon) -> None:
    pid, master = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "hyperctl", "run", "-t", "--name", "shell", "busybox"], environment(daemon))
    try:
        termios.tcsetwinsize(master, (33, 77))
        read_until(master, b"# ")
        os.kill(pid, signal.SIGWINCH)
        os.write(master, b"stty size\r")
        read_until(master, b"33 77")
        os.write(master, b"\x10\x11")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(master)
    assert run(daemon, "list", "--running", "-q")[1] == b"shell\n"
    assert run(daemon, "exec", "-t", "shell", "uname", "-r")[1].endswith(b"-hyper\r\n")


def read_until(master: int, text: bytes) -> None:
    seen, end = b"", time.monotonic() + WAIT_S
    while text not in seen:
        assert select.select([master], [], [], max(end - time.monotonic(), 0))[0], seen
        seen += os.read(master, 65536)
