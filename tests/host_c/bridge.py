"""A running runv-bridge between a fake guest and unix socket clients."""

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.guest_mux import TIMEOUT, Channel, GuestMux


class Bridge:
    def __init__(self, programs: Path, folder: Path, *, greet: bool = True) -> None:
        self.path = str(folder / "bridge.sock")
        ours, theirs = socket.socketpair()
        with theirs, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
            listener.listen(1024)
            fds = (theirs.fileno(), listener.fileno())
            arguments = ["--link-fd", str(fds[0]), "--listen-fd", str(fds[1]), "--label", "test"]
            self.process = subprocess.Popen([programs / "runv-bridge", *arguments], pass_fds=fds)
        self.guest = GuestMux(ours, greet=greet)

    def dial(self, line: bytes = b"CONNECT 1024\n") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT)
        client.connect(self.path)
        if line:
            client.sendall(line)
        return client

    def open(self, port: int = 1024) -> tuple[socket.socket, Channel]:
        """A client whose connection is open, and the guest's end of it. One at a time: they are matched by order."""
        client = self.dial(f"CONNECT {port}\n".encode())
        channel = self.guest.accept()
        assert channel.port == port
        assert read_line(client) == f"OK {channel.number}\n".encode()
        return client, channel

    def close(self) -> None:
        """The link ends: so must the bridge, with success."""
        try:
            self.guest.close()
            assert self.process.wait(TIMEOUT) == 0
        finally:
            self.process.kill()
            self.process.wait()


def read_line(client: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = client.recv(1)
        if not byte:
            break
        line += byte
    return bytes(line)


def read_exactly(client: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (part := client.recv(size - len(data))):
        data += part
    return bytes(data)


def read_all(client: socket.socket) -> bytes:
    parts = []
    while data := client.recv(1 << 18):
        parts.append(data)
    return b"".join(parts)


@contextmanager
def running_bridge(programs: Path, *, greet: bool = True) -> Iterator[Bridge]:
    with tempfile.TemporaryDirectory() as folder:
        bridge = Bridge(programs, Path(folder), greet=greet)
        try:
            yield bridge
        except BaseException:
            bridge.process.kill()
            raise
        finally:
            bridge.close()
