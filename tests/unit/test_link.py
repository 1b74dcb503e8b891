"""The serial link to a guest that was saved in the midst of a frame."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from runv.agent.link import resynchronise
from runv.errors import AgentLostError

HELLO = b"\x01\0\0\0runv\0\0\0\x01"
# The frame of data with the longest payload, of which the guest has read a part of the header only, and a header more.
LACKS = 11 + 262144 + 12


@contextlib.contextmanager
def guest(*says: bytes, hears: int = LACKS) -> Iterator[tuple[socket.socket, list[bytes]]]:
    """Our end of a link to one that hears so many bytes, and then says something."""
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []

    def speak() -> None:
        with contextlib.suppress(OSError):
            left = hears
            while left and (chunk := theirs.recv(left)):
                heard.append(chunk)
                left -= len(chunk)
            for piece in says:
                theirs.sendall(piece)
                time.sleep(0.01)

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        with ours:
            yield ours, heard
    finally:
        thread.join()
        theirs.close()


@pytest.mark.parametrize("says", [(HELLO,), (b"the rest of a frame" + HELLO,), (HELLO[:5], HELLO[5:]), (HELLO + b"\x04\0", b"x", HELLO)])
def test_the_bridge_can_begin_behind_the_hello(says: tuple[bytes, ...]) -> None:
    with guest(*says) as (link, heard):
        resynchronise(link.fileno(), time.monotonic() + 10)
        assert b"".join(heard) == bytes(LACKS)
        assert link.gettimeout() is None
        link.setblocking(False)
        with pytest.raises(BlockingIOError):
            link.recv(1)


def test_a_machine_that_says_nothing_or_ends() -> None:
    with guest(b"no hello") as (link, _), pytest.raises(AgentLostError, match="did not answer in time"):
        resynchronise(link.fileno(), time.monotonic() + 0.1)
    with guest() as (link, _), pytest.raises(AgentLostError, match="the machine has ended"):
        resynchronise(link.fileno(), time.monotonic() + 10, lambda: False)
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(AgentLostError):
        resynchronise(ours.fileno(), time.monotonic() + 10)


def test_a_machine_that_reads_nothing_more() -> None:
    """As one that has ended, whose end of the link is still held here; what is sent is more than a socket takes."""
    ours, theirs = socket.socketpair()
    ends = iter([True, True, False])
    with ours, theirs, pytest.raises(AgentLostError, match="the machine has ended"):
        resynchronise(ours.fileno(), time.monotonic() + 60, lambda: next(ends))
