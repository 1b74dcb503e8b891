"""A running runv-monitor, and who attaches to it. In runv's place a script starts the process and writes its pid file."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.host_c.process import wait_until

TIMEOUT = 20.0
STDIN, STDOUT, STDERR = 0, 1, 2
ATTACH, RESIZE, REOPEN, STATUS = 16, 17, 18, 19
ATTACHED, EXIT, DONE, STATE, LOST, ERROR = 32, 33, 34, 35, 36, 37
WANT_STDIN, WANT_STDOUT, WANT_STDERR, HOLD = 1, 2, 4, 8
ALL = WANT_STDIN | WANT_STDOUT | WANT_STDERR

_PR_SET_CHILD_SUBREAPER = 36

PYTHON = [sys.executable, "-ISc"]

# Not a shell, which might reap what it started.
RUNTIME = """
import os, sys
pid_file, *argv = sys.argv[1:]
pid = os.fork()
if pid == 0:
    os.execvp(argv[0], argv)
open(pid_file, "w").write(str(pid))
"""

# The same with a terminal, whose master goes to the console socket.
RUNTIME_TERMINAL = """
import os, pty, socket, sys, fcntl, termios
pid_file, console, *argv = sys.argv[1:]
master, slave = os.openpty()
with socket.socket(socket.AF_UNIX) as link:
    link.connect(console)
    socket.send_fds(link, [b"console"], [master])
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.closerange(3, 100)
    os.execvp(argv[0], argv)
open(pid_file, "w").write(str(pid))
"""


def become_subreaper() -> None:
    """The monitors are daemons: their ends are to be seen here."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def frame(kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">IB", len(data) + 1, kind) + data


class Client:
    """A connection to attach.sock."""

    def __init__(self, path: Path, flags: int | None = ALL) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(os.fspath(path))
        self.buffer = bytearray()
        self.received = {STDOUT: bytearray(), STDERR: bytearray()}
        self.lost = {STDOUT: 0, STDERR: 0}
        if flags is not None:
            self.send(ATTACH, bytes([flags]))
            assert self.receive()[0] == ATTACHED

    def send(self, kind: int, data: bytes = b"") -> None:
        self.socket.sendall(frame(kind, data))

    def receive(self) -> tuple[int, bytes]:
        """The next frame; -1 at the end."""
        while True:
            if len(self.buffer) >= 4:
                size = int.from_bytes(self.buffer[:4], "big")
                if len(self.buffer) >= 4 + size:
                    kind, data = self.buffer[4], bytes(self.buffer[5 : 4 + size])
                    del self.buffer[: 4 + size]
                    return kind, data
            more = self.socket.recv(1 << 16)
            if not more:
                return -1, b""
            self.buffer += more

    def step(self) -> tuple[int, bytes]:
        """Takes the next frame, and keeps what is output."""
        kind, data = self.receive()
        if kind in self.received:
            self.received[kind] += data
        if kind == LOST:
            self.lost[data[0]] += int.from_bytes(data[1:], "big")
        return kind, data

    def expect(self, text: bytes, stream: int = STDOUT) -> None:
        while text not in self.received[stream]:
            kind, data = self.step()
            assert kind not in (-1, EXIT, ERROR), (kind, data, self.received)

    def read_to_end(self) -> dict[str, Any]:
        """What the last frame tells."""
        while (got := self.step())[0] != EXIT:
            assert got[0] not in (-1, ERROR), got
        end: dict[str, Any] = json.loads(got[1])
        self.close()
        return end

    def ask(self, kind: int, data: bytes = b"") -> tuple[int, bytes]:
        """The first answer that is no output."""
        self.send(kind, data)
        while (got := self.step())[0] in self.received:
            pass
        return got

    def close(self) -> None:
        self.socket.close()


class Monitor:
    """With its starter's part done."""

    def __init__(self, folder: Path, told: dict[str, Any], pid: int) -> None:
        self.folder = folder
        self.told = told
        self.log = folder / "log"
        self.pid = pid
        self.clients: list[Client] = []

    @property
    def process(self) -> int:
        return int(self.told["pid"])

    def attach(self, flags: int | None = ALL) -> Client:
        client = Client(self.folder / "attach.sock", flags)
        self.clients.append(client)
        return client

    def exit(self) -> dict[str, Any]:
        """Waits for it."""
        path = self.folder / "exit"
        wait_until(path.exists, TIMEOUT)
        end: dict[str, Any] = json.loads(path.read_text())
        return end

    def entries(self) -> list[dict[str, str]]:
        """Of a json-file, oldest file first."""
        files = sorted(self.folder.glob("log.[0-9]*"), key=lambda path: -int(path.suffix[1:]))
        return [json.loads(line) for path in [*files, self.log] for line in path.read_bytes().splitlines()]

    def text(self, stream: str = "stdout") -> str:
        return "".join(entry["log"] for entry in self.entries() if entry["stream"] == stream)


def start(programs: Path, folder: Path, command: Sequence[str], *options: str) -> dict[str, Any]:
    """What the monitor says of the command."""
    read, write = os.pipe()
    argv = [str(programs / "runv-monitor"), "--dir", str(folder), "--status-fd", str(write), *options, "--", *command]
    try:
        done = subprocess.run(argv, pass_fds=[write], stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=False)
    finally:
        os.close(write)
    with os.fdopen(read, "rb") as status:
        text = status.read()
    assert done.returncode == 0
    told: dict[str, Any] = json.loads(text)
    return told


JSON_LOG = "json-file"


@contextlib.contextmanager
def running(
    programs: Path, folder: Path, process: Sequence[str], *options: str, log: str | None = JSON_LOG
) -> Iterator[Monitor]:
    """A process under a monitor that logs to ``folder/log``. Both are gone at the end, and the monitor has ended well."""
    become_subreaper()
    files = ["--log-format", log, "--log-path", str(folder / "log")] if log else []
    pid_file = str(folder / "pid")
    if "--terminal" in options:
        command = [*PYTHON, RUNTIME_TERMINAL, pid_file, str(folder / "console.sock"), *process]
    else:
        command = [*PYTHON, RUNTIME, pid_file, *process]
    # It runs at once, as what is executed does; what create makes says nothing before start.
    told = start(programs, folder, command, *files, "--exec", *options)
    assert "pid" in told, told
    monitor = Monitor(folder, told, newest_child())
    try:
        yield monitor
    finally:
        for client in monitor.clients:
            client.close()
        kill(monitor.process)
        try:
            status = wait_for(monitor.pid)
        except BaseException:
            kill(monitor.pid)
            raise
    assert status == 0, f"the monitor ended with {status}"


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(pid: int) -> int:
    """The exit code of a child, negative for a signal; 0 for one that the test has waited for."""
    found: list[int] = []

    def ended() -> bool:
        try:
            got, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            found.append(0)
            return True
        if got:
            found.append(os.waitstatus_to_exitcode(status))
        return bool(got)

    wait_until(ended, TIMEOUT)
    return found[0]


def newest_child() -> int:
    """The monitor that was started last. Its pid file may be gone already."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    monitors = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text() == "runv-monitor\n"]
    return monitors[-1]


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]
