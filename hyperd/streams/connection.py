"""A connection to a monitor's attach.sock: frames and their numbers are in docs/streams.md."""

import asyncio
import os
import socket
import struct
from pathlib import Path

from hyperd.errors import UnavailableError

STDIN, STDOUT, STDERR = 0, 1, 2
ATTACH, RESIZE, REOPEN, STATUS = 16, 17, 18, 19
ATTACHED, EXIT, DONE, STATE, LOST, ERROR = 32, 33, 34, 35, 36, 37
WANT_STDIN, WANT_STDOUT, WANT_STDERR, WANT_HOLD = 1, 2, 4, 8

INPUT_MAX = 32768
_CONNECT_TIMEOUT_S = 10.0
_CONNECT_PAUSE_S = 0.02
_READ = 1 << 16
_HEADER = 4


class Connection:
    """One client of a monitor. Reading and writing are independent: that one direction has ended says nothing of the other."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._writing = asyncio.Lock()

    async def send(self, kind: int, data: bytes = b"") -> None:
        """:raise OSError: the monitor is gone"""
        async with self._writing:
            await self._loop.sock_sendall(self._link, struct.pack(">IB", len(data) + 1, kind) + data)

    async def receive(self) -> tuple[int, bytes] | None:
        """The next frame; None when the monitor is gone."""
        while True:
            frame = self._frame()
            if frame is not None:
                return frame
            try:
                data = await self._loop.sock_recv(self._link, _READ)
            except ConnectionError:
                return None
            if not data:
                return None
            self._buffer += data

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < _HEADER:
            return None
        end = _HEADER + int.from_bytes(buffer[:_HEADER], "big")
        if len(buffer) < end:
            return None
        frame = buffer[_HEADER], bytes(buffer[_HEADER + 1 : end])
        del buffer[:end]
        return frame

    async def ask(self, kind: int, answer: int) -> bytes:
        """For a connection that is not attached.

        :raise UnavailableError: the monitor is gone, or says something else
        """
        await self.send(kind)
        frame = await self.receive()
        if frame is None or frame[0] != answer:
            raise UnavailableError("cannot ask the monitor: it has ended")
        return frame[1]

    def close(self) -> None:
        """Hangs up. Nobody may be reading or writing."""
        self._link.close()


async def connect(folder: Path) -> Connection:
    """:raise OSError: there is no monitor"""
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            # The folder's own path may be longer than an address.
            await _connect(link, f"/proc/self/fd/{directory}/attach.sock")
    except BaseException:
        link.close()
        raise
    finally:
        os.close(directory)
    return Connection(link)


async def _connect(link: socket.socket, address: str) -> None:
    while True:
        try:
            link.connect(address)
            return
        except BlockingIOError:  # its queue is full, which for a unix socket is not "in progress"
            await asyncio.sleep(_CONNECT_PAUSE_S)
