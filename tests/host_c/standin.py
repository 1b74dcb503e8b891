"""A running runv-standin between a fake agent and whatever the test gives it as standard descriptors."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO

from tests.fakes.agent import TIMEOUT, FakeAgent
from tests.host_c.process import wait_until

STREAMS = ["stdin", "stdout", "stderr"]
Stdio = int | IO[bytes] | None


class StandIn:
    """With the creator's part done: the configuration is sent, its answer seen, `wait` received."""

    def __init__(
        self, process: "subprocess.Popen[bytes] | ForkedProcess", agent: FakeAgent, creator: socket.socket
    ) -> None:
        self.process = process
        self.agent = agent
        assert creator.recv(4096) == b'{"ok":true}'
        assert creator.recv(1) == b""
        self.wait_id = agent.expect("wait", owner=True)

    @property
    def pid(self) -> int:
        return self.process.pid

    def ended(self) -> int:
        return self.process.wait(TIMEOUT)


class Foreground(StandIn):
    """The process is the shell that has started it, and ends with the same code."""

    def __init__(self, shell: "ForkedProcess", pid: int, agent: FakeAgent, creator: socket.socket) -> None:
        super().__init__(shell, agent, creator)
        self.own_pid = pid

    @property
    def pid(self) -> int:
        return self.own_pid

    def bring_to_foreground(self) -> None:
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: foreground_group(self.own_pid) == self.own_pid)

    def shell_flags(self) -> int:
        """Of the shell's own standard input."""
        info = Path(f"/proc/{self.process.pid}/fdinfo/0").read_text()
        return int(info.split("flags:")[1].split()[0], 8)


def foreground_group(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[5])


class ForkedProcess:
    """What Popen offers, for a child that pty.fork has made."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        if self.returncode is None:
            timer = threading.Timer(timeout, os.kill, (self.pid, 9))
            timer.start()
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            timer.cancel()
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, 9)


def configure(creator: socket.socket, agent: FakeAgent, terminal: str, extra: list[int], **more: str | list[str]) -> None:
    config = {"container": "c1", "process": "init", "terminal": terminal} | more
    fds = [connection.fileno() for connection in agent.theirs] + extra
    socket.send_fds(creator, [json.dumps(config).encode()], fds)
    agent.handed_over()


def popen(standin: StandIn) -> "subprocess.Popen[bytes]":
    assert isinstance(standin.process, subprocess.Popen)
    return standin.process


def suppress_errors(job: Callable[[], None]) -> None:
    with suppress(OSError):
        job()


def swallow_errors(stream: socket.socket, size: int) -> None:
    suppress_errors(lambda: stream.sendall(b"x" * size))


def creator_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(TIMEOUT)
    return ours, theirs


def spawn(
    programs: Path, theirs: socket.socket, stdin: Stdio, stdout: Stdio, stderr: Stdio, user: int | None = None, network: int = -1
) -> "subprocess.Popen[bytes]":
    # By descriptor, since another user may not be able to look the path up.
    program = os.open(programs / "runv-standin", os.O_PATH)
    joined = ["--network-fd", str(network)] if network >= 0 else []
    try:
        return subprocess.Popen(
            [f"/proc/self/fd/{program}", "--config-fd", str(theirs.fileno()), "--label", "test", *joined],
            pass_fds=[theirs.fileno(), program, *([network] if joined else [])],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            user=user,
        )
    finally:
        os.close(program)


@contextmanager
def running_standin(
    programs: Path,
    stdin: Stdio = subprocess.DEVNULL,
    stdout: Stdio = subprocess.DEVNULL,
    stderr: Stdio = subprocess.DEVNULL,
    user: int | None = None,
    **config: str,
) -> Iterator[StandIn]:
    """Without a terminal; the three as Popen takes them. ``config``: more members of its configuration."""
    ours, theirs = creator_pair()
    with FakeAgent(STREAMS) as agent, ours:
        with theirs:
            process = spawn(programs, theirs, stdin, stdout, stderr, user)
        try:
            configure(ours, agent, "none", [], **config)
            yield StandIn(process, agent, ours)
        finally:
            process.kill()
            process.wait()
            for file in (process.stdin, process.stdout, process.stderr):
                if file is not None and not file.closed:
                    file.close()


@contextmanager
def running_pty(programs: Path, size: tuple[int, int] | None = None) -> Iterator[tuple[StandIn, FileIO]]:
    """With a pty made by its creator; yields the master side."""
    ours, theirs = creator_pair()
    master, slave = os.openpty()
    with FakeAgent(["tty"]) as agent, ours, FileIO(master, "r+") as terminal:
        if size is not None:
            termios.tcsetwinsize(slave, size)
        with theirs:
            process = spawn(programs, theirs, subprocess.DEVNULL, subprocess.DEVNULL, subprocess.DEVNULL)
        try:
            configure(ours, agent, "pty", [slave])
            os.close(slave)
            yield StandIn(process, agent, ours), terminal
        finally:
            process.kill()
            process.wait()


# The caller of a stand-in in the foreground, as far as the terminal is concerned: a session leader that holds it.
SHELL = """
import os, signal, subprocess, sys
background, program, config = sys.argv[1] == "background", sys.argv[2], sys.argv[3]
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
group = 0 if background else None
child = subprocess.Popen([program, "--config-fd", config], pass_fds=[int(config)], process_group=group)
os.close(int(config))
print(child.pid, file=sys.stderr, flush=True)
if background:
    signal.sigwait([signal.SIGUSR1])
    os.tcsetpgrp(0, child.pid)
sys.exit(child.wait() & 0xff)
"""


@contextmanager
def running_foreground(programs: Path, *, background: bool = False) -> Iterator[tuple[Foreground, FileIO]]:
    """On its caller's terminal, in its session: in its process group too, or as a job in the background."""
    ours, theirs = creator_pair()
    told, tell = os.pipe()
    argv = [sys.executable, "-c", SHELL, "background" if background else "foreground"]
    argv += [os.fspath(programs / "runv-standin"), str(theirs.fileno())]
    theirs.set_inheritable(True)
    pid, master = pty.fork()
    if pid == 0:
        os.dup2(tell, 2)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        os.execv(sys.executable, argv)
    os.close(tell)
    with FakeAgent(["tty"]) as agent, ours, FileIO(master, "r+") as terminal, os.fdopen(told) as pid_line:
        theirs.close()
        shell = ForkedProcess(pid)
        try:
            configure(ours, agent, "foreground", [])
            yield Foreground(shell, int(pid_line.readline()), agent, ours), terminal
        finally:
            shell.kill()
            shell.wait(TIMEOUT)
