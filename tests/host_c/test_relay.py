"""runv-relay, with a guest at the other end of its link that may say anything. What it does when all goes well is in tests/guest/test_relay.py."""

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.guest_mux import ACCEPT, CREDIT, DATA, EOF, HEADER, HELLO, MAGIC, OPEN, RESET, frame
from tests.host_c.process import assert_idle, open_files, wait_until

TIMEOUT = 20.0
_HELLO = frame(HELLO, MAGIC, 1)


class Guest:
    """The link's other end, as it is on the wire."""

    def __init__(self, programs: Path, targets: list[str]) -> None:
        self.link, theirs = socket.socketpair()
        self.link.settimeout(TIMEOUT)
        with theirs:
            command: list[str | Path] = [programs / "runv-relay", "--link-fd", str(theirs.fileno()), "--label", "test", *targets]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self.reader = self.link.makefile("rb")

    def send(self, data: bytes) -> None:
        self.link.sendall(data)

    def read(self) -> tuple[int, int, int, bytes]:
        """Kind, channel, value and payload of the next frame."""
        word, channel, value = HEADER.unpack(self.reader.read(HEADER.size))
        return word >> 24, channel, value, self.reader.read(value) if word >> 24 == DATA else b""

    def expect(self, kind: int, channel: int) -> None:
        assert self.read()[:2] == (kind, channel)

    def greet(self) -> None:
        self.send(_HELLO)
        self.expect(HELLO, MAGIC)


@contextmanager
def running(programs: Path, *targets: str) -> Iterator[Guest]:
    """A relay that has been greeted; it must end with its link, and well."""
    guest = Guest(programs, list(targets))
    try:
        guest.greet()
        yield guest
        guest.link.shutdown(socket.SHUT_RDWR)
        assert guest.process.wait(TIMEOUT) == 0
    finally:
        guest.process.kill()
        guest.process.wait()
        guest.reader.close()
        guest.link.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A service at tmp_path/s, whose queue has one place (which is two)."""
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(tmp_path / "s"))
        service.listen(1)
        service.settimeout(TIMEOUT)
        yield service


def test_the_other_side_speaks_first(programs: Path, tmp_path: Path) -> None:
    with running(programs, f"stream:{tmp_path}/s") as guest:
        guest.link.setblocking(False)
        with pytest.raises(BlockingIOError):
            guest.link.recv(1)
        guest.link.settimeout(TIMEOUT)


def test_refused(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    names = ("absent", "file", "folder", "absent/s")
    with running(programs, *(f"stream:{tmp_path}/{name}" for name in names)) as guest:
        for number in range(len(names)):
            guest.send(frame(OPEN, 10 + number, number))
            guest.expect(RESET, 10 + number)
        for number in (len(names), 1 << 31, 0xFFFFFFFF):
            guest.send(frame(OPEN, 99, number))
            guest.expect(RESET, 99)


def test_channels_that_wait_for_a_full_service(programs: Path, tmp_path: Path, listener: socket.socket) -> None:
    with running(programs, f"stream:{tmp_path}/s") as guest:
        for number in range(1, 9):
            guest.send(frame(OPEN, number, 0))
        for number in (1, 2):
            guest.expect(ACCEPT, number)
        assert_idle(guest.process.pid)
        # Two of those that wait lose their patience.
        guest.send(frame(RESET, 4) + frame(RESET, 6))
        served = [listener.accept()[0] for _ in range(2)]
        accepted = {guest.read()[:2] for _ in range(2)}
        served += [listener.accept()[0] for _ in range(2)]
        accepted |= {guest.read()[:2] for _ in range(2)}
        assert accepted == {(ACCEPT, number) for number in (3, 5, 7, 8)}
        guest.send(b"".join(frame(DATA, number, 1, b"%d" % number) for number in (1, 2, 3, 5, 7, 8)))
        served += [listener.accept()[0] for _ in range(2)]
        assert {link.recv(10) for link in served} == {b"1", b"2", b"3", b"5", b"7", b"8"}
        for link in served:
            link.close()


@pytest.mark.parametrize(
    "early", [frame(DATA, 3, 1, b"x"), frame(CREDIT, 3, 1), frame(EOF, 3), frame(ACCEPT, 3)], ids=str
)
def test_nothing_may_come_before_accept(programs: Path, tmp_path: Path, listener: socket.socket, early: bytes) -> None:
    with running(programs, f"stream:{tmp_path}/s") as guest:
        guest.send(b"".join(frame(OPEN, number, 0) for number in (1, 2, 3)))
        for number in (1, 2):
            guest.expect(ACCEPT, number)
        guest.send(early)
        guest.expect(HELLO, MAGIC)
        guest.greet()
        for _ in range(2):
            assert listener.accept()[0].recv(1) == b""
        guest.send(frame(OPEN, 3, 0))
        guest.expect(ACCEPT, 3)


def test_more_openings_than_there_are_channels(programs: Path, tmp_path: Path, listener: socket.socket) -> None:
    with running(programs, f"stream:{tmp_path}/s") as guest:
        # Those that were taken back still wait for their turn, and count.
        for number in range(1, 3000):
            guest.send(frame(OPEN, number, 0) + frame(RESET, number))
        guest.send(b"".join(frame(OPEN, number, 0) for number in range(5000, 6100)))
        answers: dict[int, int] = {}
        while len(answers) < 1100 - 1024:
            kind, channel, *_ = guest.read()
            if channel >= 5000:
                answers[channel] = kind
        assert set(answers.values()) <= {RESET, ACCEPT}
        assert len(open_files(guest.process.pid)) < 1100
        rss = int(Path(f"/proc/{guest.process.pid}/statm").read_text().split()[1])
        assert rss * resource.getpagesize() < 60 << 20


def test_a_guest_that_opens_nothing(programs: Path, tmp_path: Path) -> None:
    with running(programs, f"stream:{tmp_path}/s") as guest:
        pid = guest.process.pid
        files = open_files(pid)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(pid) == pid
        assert {files[fd] for fd in (0, 1, 2)} == {"/dev/null"}
        others = sorted(name.partition(":")[0] for fd, name in files.items() if fd > 2)
        assert others == ["anon_inode", "anon_inode", "socket"]
        assert_idle(pid)


def test_packets_of_a_guest_that_stops_in_the_middle(programs: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "d"))
        receiver.settimeout(TIMEOUT)
        with running(programs, f"dgram:{tmp_path}/d") as guest:
            guest.send(frame(OPEN, 1, 0))
            guest.expect(ACCEPT, 1)
            data = b"\0\3abc" + b"\0\0" + b"\xff\xffnever whole"
            guest.send(frame(DATA, 1, len(data), data) + frame(RESET, 1))
            assert receiver.recv(10) == b"abc"
            assert receiver.recv(10) == b""
            wait_until(lambda: len(open_files(guest.process.pid)) == 6)


def test_signals(programs: Path, tmp_path: Path) -> None:
    guest = Guest(programs, [f"stream:{tmp_path}/s"])
    guest.greet()
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        guest.process.send_signal(ignored)
    assert_idle(guest.process.pid)
    guest.process.send_signal(signal.SIGTERM)
    assert guest.process.wait(TIMEOUT) == 0
    guest.reader.close()
    guest.link.close()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--link-fd", "0"],
        ["--link-fd", "99", "stream:/s"],
        ["--link-fd", "0", "stream:relative"],
        ["--link-fd", "0", "raw:/s"],
        ["--link-fd", "0", "stream"],
        ["--link-fd", "0", "tcp:127.0.0.1"],
        ["--link-fd", "0", "tcp:127.0.0.1:0"],
        ["--link-fd", "0", "tcp:127.0.0.1:65536"],
        ["--link-fd", "0", "udp:localhost:53"],
        ["--link-fd", "0", "udp:127.0.0.1:53x"],
        ["--link-fd", "0", *(["stream:/s"] * 257)],
    ],
    ids=lambda arguments: " ".join(arguments[:4]) or "none",
)
def test_usage(programs: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [programs / "runv-relay", *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"usage: runv-relay ")
