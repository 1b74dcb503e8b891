"""runv-standin with a terminal: its own pty, or that of its caller."""

import errno
import fcntl
import os
import random
import signal
import struct
import termios
import threading
import time
import tty
from io import FileIO
from pathlib import Path

import pytest

from tests.guest_build import Kind
from tests.host_c.bridge import read_exactly
from tests.host_c.process import assert_idle, open_files, wait_until
from tests.host_c.standin import running_foreground, running_pty


def set_size(terminal: FileIO, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_terminal(terminal: FileIO) -> bytes:
    """What can be read until the slave is closed."""
    data = bytearray()
    while True:
        try:
            data += os.read(terminal.fileno(), 65536)
        except OSError as error:
            assert error.errno == errno.EIO
            return bytes(data)


def read_size(terminal: FileIO, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += os.read(terminal.fileno(), size - len(data))
    return bytes(data)


def test_bytes_pass_unchanged(programs: Path) -> None:
    every = bytes(range(256))
    with running_pty(programs) as (standin, terminal):
        os.write(terminal.fileno(), every)
        assert read_exactly(standin.agent.streams["tty"], 256) == every
        standin.agent.streams["tty"].sendall(every)
        assert read_size(terminal, 256) == every
        assert_idle(standin.pid)


@pytest.mark.parametrize("size", [1, 4000, 70_000, 1_000_000])
def test_all_output_is_there_after_the_end(programs: Path, size: int) -> None:
    """Even if nobody reads before the process is gone, as far as the terminal can hold it."""
    data = random.Random(size).randbytes(size)
    with running_pty(programs) as (standin, terminal):
        stream, wait_id = standin.agent.streams["tty"], standin.wait_id

        def end() -> None:
            stream.sendall(data)
            standin.agent.end(wait_id, exit=3)

        sender = threading.Thread(target=end)
        sender.start()
        time.sleep(0.3)
        if size <= 4000:
            assert standin.ended() == 3
        assert read_terminal(terminal) == data
        assert standin.ended() == 3
        sender.join()


@pytest.mark.parametrize("seed", range(20))
def test_last_output_is_not_lost_to_a_slow_reader(programs: Path, seed: int) -> None:
    """The end of a session leader must not throw away what its terminal still holds."""
    rng = random.Random(seed)
    data = rng.randbytes(rng.randrange(3000, 30_000))
    with running_pty(programs) as (standin, terminal):
        standin.agent.streams["tty"].sendall(data)
        standin.agent.end(standin.wait_id, exit=0)
        got = bytearray()
        while True:
            time.sleep(0.01 if len(got) < 6000 else 0)
            try:
                got += os.read(terminal.fileno(), rng.randrange(1, 2000))
            except OSError:
                break
        assert got == data


def test_much_data_both_ways(programs: Path, kind: Kind) -> None:
    size = (20 if kind == "plain" else 4) << 20
    up, down = random.Random(1).randbytes(size), random.Random(2).randbytes(size)
    with running_pty(programs) as (standin, terminal):
        stream = standin.agent.streams["tty"]

        def type_in() -> None:
            view = memoryview(up)
            while view:
                view = view[os.write(terminal.fileno(), view[:4096]) :]

        threads = [threading.Thread(target=type_in), threading.Thread(target=stream.sendall, args=(down,))]
        got: list[bytes] = []
        threads.append(threading.Thread(target=lambda: got.append(read_exactly(stream, size))))
        for thread in threads:
            thread.start()
        assert read_size(terminal, size) == down
        for thread in threads:
            thread.join()
        assert got == [up]


def test_window_size(programs: Path) -> None:
    with running_pty(programs) as (standin, terminal):
        set_size(terminal, 50, 120)
        standin.agent.reply(standin.agent.expect("resize", rows=50, columns=120))
        set_size(terminal, 24, 80)
        standin.agent.reply(standin.agent.expect("resize", rows=24, columns=80))


def test_window_size_at_the_beginning(programs: Path) -> None:
    with running_pty(programs, size=(30, 100)) as (standin, _):
        standin.agent.expect("resize", rows=30, columns=100)


def test_hangup(programs: Path) -> None:
    with running_pty(programs) as (standin, terminal):
        terminal.close()
        assert standin.agent.streams["tty"].recv(1) == b""
        with pytest.raises(BrokenPipeError):
            standin.agent.streams["tty"].sendall(b"x")
        assert_idle(standin.pid)
        os.kill(standin.pid, signal.SIGUSR1)
        standin.agent.expect("signal", signal=int(signal.SIGUSR1))
        standin.agent.end(standin.wait_id, signal=int(signal.SIGHUP))
        assert standin.ended() == -signal.SIGHUP


def test_hangup_while_input_and_output_wait(programs: Path) -> None:
    with running_pty(programs) as (standin, terminal):
        stream = standin.agent.streams["tty"]
        stream.settimeout(0.3)
        with pytest.raises(TimeoutError):
            stream.sendall(b"x" * 1_000_000)
        os.set_blocking(terminal.fileno(), False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(terminal.fileno(), b"y" * 1000)
                time.sleep(0.0005)
        assert_idle(standin.pid)
        terminal.close()
        stream.settimeout(10)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            stream.sendall(b"x" * 1_000_000)
        assert_idle(standin.pid)


def test_sighup_of_a_process_is_a_signal(programs: Path) -> None:
    with running_pty(programs) as (standin, terminal):
        os.kill(standin.pid, signal.SIGHUP)
        standin.agent.expect("signal", signal=int(signal.SIGHUP))
        standin.agent.streams["tty"].sendall(b"alive")
        assert read_size(terminal, 5) == b"alive"


def test_control_characters_are_the_guests(programs: Path) -> None:
    with running_pty(programs) as (standin, terminal):
        os.write(terminal.fileno(), b"\x03\x1a\x1c\x04")
        assert read_exactly(standin.agent.streams["tty"], 4) == b"\x03\x1a\x1c\x04"
        os.kill(standin.pid, signal.SIGINT)
        standin.agent.expect("signal", signal=int(signal.SIGINT))


def test_vm_loss(programs: Path) -> None:
    with running_pty(programs) as (standin, terminal):
        standin.agent.vanish()
        assert standin.ended() == -signal.SIGKILL
        assert read_terminal(terminal) == b""


def test_guest_closes_its_terminal_first(programs: Path) -> None:
    with running_pty(programs) as (standin, terminal):
        standin.agent.streams["tty"].close()
        os.write(terminal.fileno(), b"to nobody")
        assert_idle(standin.pid)
        standin.agent.reply(standin.wait_id, exit=4)
        assert standin.ended() == 4


def test_nothing_of_the_caller_is_held(programs: Path) -> None:
    with running_pty(programs) as (standin, _):
        wait_until(lambda: len(open_files(standin.pid)) == 7)
        files = open_files(standin.pid)
        assert files[0].startswith("/dev/pts/")
        assert files[1] == files[2] == "/dev/null"


def test_foreground(programs: Path) -> None:
    with running_foreground(programs) as (standin, terminal):
        tty.setraw(terminal.fileno())
        os.write(terminal.fileno(), b"\x03typed")
        assert read_exactly(standin.agent.streams["tty"], 6) == b"\x03typed"
        standin.agent.streams["tty"].sendall(b"shown")
        assert read_size(terminal, 5) == b"shown"
        set_size(terminal, 40, 90)
        standin.agent.expect("resize", rows=40, columns=90)
        assert_idle(standin.pid)
        standin.agent.end(standin.wait_id, exit=6)
        assert standin.ended() == 6


def test_foreground_hangup(programs: Path) -> None:
    with running_foreground(programs) as (standin, terminal):
        terminal.close()
        assert standin.agent.streams["tty"].recv(1) == b""
        assert_idle(standin.pid)
        standin.agent.end(standin.wait_id, exit=129)
        assert standin.ended() == 129


def test_background_is_no_hangup(programs: Path) -> None:
    """Its terminal's input is refused to a job in the background; it is there again in the foreground."""
    with running_foreground(programs, background=True) as (standin, terminal):
        tty.setraw(terminal.fileno())
        os.write(terminal.fileno(), b"early")
        assert_idle(standin.pid)
        standin.agent.streams["tty"].sendall(b"shown")
        assert read_size(terminal, 5) == b"shown"
        standin.bring_to_foreground()
        os.kill(standin.pid, signal.SIGCONT)
        standin.agent.expect("signal", signal=int(signal.SIGCONT))
        assert read_exactly(standin.agent.streams["tty"], 5) == b"early"


def test_the_callers_terminal_is_not_made_non_blocking(programs: Path) -> None:
    with running_foreground(programs) as (standin, _):
        assert open_files(standin.pid)[0] == open_files(standin.process.pid)[0]
        assert not standin.shell_flags() & os.O_NONBLOCK
