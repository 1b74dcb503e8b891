"""runv-standin and the three standard streams."""

import fcntl
import os
import random
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from tests.fakes.agent import FakeAgent
from tests.guest_build import Kind
from tests.host_c.bridge import read_all, read_exactly
from tests.host_c.process import assert_idle, open_files, wait_until
from tests.host_c.standin import (
    STREAMS,
    StandIn,
    configure,
    creator_pair,
    popen,
    running_standin,
    suppress_errors,
    swallow_errors,
)

PIPE = subprocess.PIPE


def read_pipe(file: IO[bytes], size: int = 1 << 20) -> bytes:
    return os.read(file.fileno(), size)


def is_nonblocking(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


def test_all_three_streams(programs: Path) -> None:
    with running_standin(programs, PIPE, PIPE, PIPE) as standin:
        process, streams = popen(standin), standin.agent.streams
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"in")
        process.stdin.flush()
        assert streams["stdin"].recv(100) == b"in"
        streams["stdout"].sendall(b"out")
        streams["stderr"].sendall(b"err")
        assert read_pipe(process.stdout) == b"out"
        assert read_pipe(process.stderr) == b"err"
        process.stdin.close()
        assert streams["stdin"].recv(100) == b""
        streams["stdout"].close()
        assert read_pipe(process.stdout) == b"", "the reader sees the end while the process lives on"
        assert_idle(standin.pid)
        standin.agent.end(standin.wait_id, exit=0)
        assert standin.ended() == 0


@pytest.fixture
def megabytes(kind: Kind) -> int:
    return 100 if kind == "plain" else 10


def test_much_data_through_pipes(programs: Path, megabytes: int) -> None:
    block = random.Random(1).randbytes(1 << 20)
    with running_standin(programs, PIPE, PIPE, subprocess.DEVNULL) as standin:
        process, streams = popen(standin), standin.agent.streams
        assert process.stdin and process.stdout

        def feed() -> None:
            assert process.stdin
            for _ in range(megabytes):
                process.stdin.write(block)
            process.stdin.close()

        def echo() -> None:
            while data := streams["stdin"].recv(1 << 18):
                streams["stdout"].sendall(data)
            streams["stdout"].close()

        threads = [threading.Thread(target=feed), threading.Thread(target=echo)]
        for thread in threads:
            thread.start()
        for _ in range(megabytes):
            assert process.stdout.read(1 << 20) == block
        assert process.stdout.read() == b""
        for thread in threads:
            thread.join()


def test_output_is_written_before_the_end(programs: Path) -> None:
    """The status comes while megabytes are still on their way to a reader that is in no hurry."""
    with running_standin(programs, stdout=PIPE) as standin:
        stream = standin.agent.streams["stdout"]

        def write() -> None:
            stream.sendall(b"x" * 3_000_000)
            stream.close()

        writer = threading.Thread(target=write)
        writer.start()
        standin.agent.streams["stderr"].close()
        standin.agent.reply(standin.wait_id, exit=5)
        time.sleep(0.2)
        assert popen(standin).poll() is None
        stdout = popen(standin).stdout
        assert stdout and len(stdout.read()) == 3_000_000
        assert standin.ended() == 5
        writer.join()


def test_told_to_end_while_nobody_reads(programs: Path) -> None:
    with running_standin(programs, stdout=PIPE) as standin:
        threading.Thread(target=swallow_errors, args=(standin.agent.streams["stdout"], 1 << 20), daemon=True).start()
        standin.agent.reply(standin.wait_id, exit=5)
        assert_idle(standin.pid)
        assert popen(standin).poll() is None
        standin.process.send_signal(signal.SIGTERM)
        assert standin.ended() == 5


def test_full_stdout_stops_neither_stderr_nor_signals(programs: Path) -> None:
    with running_standin(programs, PIPE, PIPE, PIPE) as standin:
        process, streams = popen(standin), standin.agent.streams
        streams["stdout"].settimeout(0.3)
        with pytest.raises(TimeoutError):
            streams["stdout"].sendall(b"x" * 10_000_000)
        assert_idle(standin.pid)
        streams["stderr"].sendall(b"complaint")
        assert process.stderr and read_pipe(process.stderr) == b"complaint"
        assert process.stdin
        process.stdin.write(b"input")
        process.stdin.flush()
        assert streams["stdin"].recv(100) == b"input"
        os.kill(standin.pid, signal.SIGTERM)
        standin.agent.expect("signal", signal=15)


def test_full_stdin_stops_nothing_else(programs: Path) -> None:
    with running_standin(programs, PIPE, PIPE, PIPE) as standin:
        process, streams = popen(standin), standin.agent.streams
        assert process.stdin and process.stdout
        os.set_blocking(process.stdin.fileno(), False)
        stdin = process.stdin
        wait_until(lambda: not fill(stdin))
        assert_idle(standin.pid)
        streams["stdout"].sendall(b"still here")
        assert read_pipe(process.stdout) == b"still here"


def fill(pipe: IO[bytes]) -> bool:
    """True while it takes something."""
    try:
        os.write(pipe.fileno(), b"x" * 65536)
    except BlockingIOError:
        time.sleep(0.05)
        return bool(select.select([], [pipe], [], 0.1)[1])
    return True


def test_reader_gone(programs: Path) -> None:
    with running_standin(programs, PIPE, PIPE, PIPE) as standin:
        process, streams = popen(standin), standin.agent.streams
        assert process.stdout and process.stderr
        process.stdout.close()
        assert_idle(standin.pid)
        streams["stdout"].sendall(b"to nobody")
        assert streams["stdout"].recv(1) == b"", "so that the process gets SIGPIPE"
        streams["stderr"].sendall(b"complaint")
        assert read_pipe(process.stderr) == b"complaint"
        assert_idle(standin.pid)
        standin.agent.end(standin.wait_id, signal=int(signal.SIGPIPE))
        assert standin.ended() == -signal.SIGPIPE


def test_stdin_closed_by_the_guest(programs: Path) -> None:
    with running_standin(programs, stdin=PIPE) as standin:
        standin.agent.streams["stdin"].close()
        stdin = popen(standin).stdin
        assert stdin
        wait_until(lambda: 0 not in open_files(standin.pid))
        with pytest.raises(BrokenPipeError):
            os.write(stdin.fileno(), b"x")
        assert_idle(standin.pid)


def test_stdin_from_a_file(programs: Path, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(3_000_000)
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as file, running_standin(programs, stdin=file) as standin:
        time.sleep(0.1)
        assert_idle(standin.pid)
        assert read_all(standin.agent.streams["stdin"]) == data
        assert_idle(standin.pid)


def test_output_to_files(programs: Path, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as out, running_standin(programs, stdout=out, stderr=out) as standin:
        standin.agent.streams["stdout"].sendall(b"x" * 1_000_000)
        standin.agent.streams["stderr"].sendall(b"y" * 1_000_000)
        standin.agent.end(standin.wait_id, exit=0)
        assert standin.ended() == 0
    written = (tmp_path / "out").read_bytes()
    assert (written.count(b"x"), written.count(b"y")) == (1_000_000, 1_000_000)


def test_stdin_from_dev_null(programs: Path) -> None:
    with running_standin(programs) as standin:
        assert standin.agent.streams["stdin"].recv(1) == b""
        assert_idle(standin.pid)


def test_full_disk_is_like_a_reader_gone(programs: Path) -> None:
    with open("/dev/full", "wb") as full, running_standin(programs, stdout=full) as standin:
        standin.agent.streams["stdout"].sendall(b"x")
        assert standin.agent.streams["stdout"].recv(1) == b""


def test_closed_standard_descriptors(programs: Path) -> None:
    ours, theirs = creator_pair()
    argv = [
        "sh",
        "-c",
        'exec "$0" "$@" <&- >&- 2>&-',
        str(programs / "runv-standin"),
        "--config-fd",
        str(theirs.fileno()),
    ]
    with ours, FakeAgent(STREAMS) as agent:
        with theirs:
            process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], start_new_session=True)
        configure(ours, agent, "none", [])
        standin = StandIn(process, agent, ours)
        assert agent.streams["stdin"].recv(1) == b""
        agent.streams["stdout"].sendall(b"to nowhere")
        agent.streams["stderr"].sendall(b"to nowhere")
        agent.end(standin.wait_id, exit=9)
        assert standin.ended() == 9


def test_sockets_as_standard_descriptors(programs: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, running_standin(programs, theirs.fileno(), theirs.fileno(), theirs.fileno()) as standin:
        ours.settimeout(10)
        ours.sendall(b"question")
        assert standin.agent.streams["stdin"].recv(100) == b"question"
        threading.Thread(target=swallow_errors, args=(standin.agent.streams["stdout"], 2_000_000), daemon=True).start()
        assert len(read_exactly(ours, 2_000_000)) == 2_000_000
        ours.shutdown(socket.SHUT_WR)
        assert standin.agent.streams["stdin"].recv(1) == b""
        assert not is_nonblocking(theirs.fileno())


def test_a_terminal_that_is_not_the_processs(programs: Path) -> None:
    """Standard descriptors may be a terminal without the process having asked for one."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    with running_standin(programs, slave, slave, slave) as standin:
        os.write(master, b"line\n")
        assert standin.agent.streams["stdin"].recv(100) == b"line\n"
        standin.agent.streams["stdout"].sendall(b"answer")
        wait_until(lambda: select.select([master], [], [], 0)[0] != [])
        assert not is_nonblocking(slave)
        os.close(slave)
        os.close(master)
        assert standin.agent.streams["stdin"].recv(100) == b""
        assert_idle(standin.pid)


def test_nothing_is_made_non_blocking(programs: Path) -> None:
    pipes = [os.pipe() for _ in range(3)]
    inner = [pipes[0][0], pipes[1][1], pipes[2][1]]
    with running_standin(programs, *inner) as standin:
        standin.agent.streams["stdout"].settimeout(0.3)
        with pytest.raises(TimeoutError):
            standin.agent.streams["stdout"].sendall(b"x" * 1_000_000)
        assert not any(is_nonblocking(fd) for pair in pipes for fd in pair)
        assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in inner)
    for pair in pipes:
        os.close(pair[0])
        os.close(pair[1])


NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="needs descriptors of another user")
def test_descriptors_that_cannot_be_opened_anew(programs: Path) -> None:
    """Pipes of another user: they stay shared with the caller, and still nothing blocks."""
    with running_standin(programs, PIPE, PIPE, PIPE, user=NOBODY) as standin:
        process, streams = popen(standin), standin.agent.streams
        assert process.stdin and process.stdout and process.stderr
        threading.Thread(target=swallow_errors, args=(streams["stdout"], 3_000_000), daemon=True).start()
        assert_idle(standin.pid)
        streams["stderr"].sendall(b"complaint")
        assert read_pipe(process.stderr) == b"complaint"
        process.stdin.write(b"input")
        process.stdin.flush()
        assert streams["stdin"].recv(100) == b"input"
        assert len(process.stdout.read(3_000_000)) == 3_000_000
        assert_idle(standin.pid)
        process.stderr.close()
        streams["stderr"].sendall(b"to nobody")
        assert streams["stderr"].recv(1) == b""
        process.stdin.close()
        assert streams["stdin"].recv(1) == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs descriptors of another user")
def test_terminal_that_cannot_be_opened_anew(programs: Path) -> None:
    master, slave = os.openpty()
    os.fchmod(slave, 0o600)
    with running_standin(programs, slave, slave, slave, user=NOBODY) as standin:

        def flood() -> None:
            """In odd sizes, which leave odd room in the terminal."""
            while True:
                standin.agent.streams["stdout"].sendall(b"\n\t" * 1500 + b"x")
                time.sleep(0.001)

        threading.Thread(target=lambda: suppress_errors(flood), daemon=True).start()
        time.sleep(0.5)
        assert_idle(standin.pid)
        os.write(master, b"line\n")
        assert standin.agent.streams["stdin"].recv(100) == b"line\n"
        os.kill(standin.pid, signal.SIGTERM)
        standin.agent.expect("signal", signal=15)
        assert not is_nonblocking(slave)
    os.close(master)
    os.close(slave)


def test_fifo_whose_reader_comes_back(programs: Path, tmp_path: Path) -> None:
    """Nothing is wrong with a pipe that has no reader, as long as nothing is written to it."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    with running_standin(programs, stdout=writer) as standin:
        os.close(writer)
        os.close(reader)
        assert_idle(standin.pid)
        reader = os.open(tmp_path / "fifo", os.O_RDONLY)
        standin.agent.streams["stdout"].sendall(b"to the second reader")
        assert os.read(reader, 100) == b"to the second reader"
        os.close(reader)
