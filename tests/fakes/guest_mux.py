"""The guest's end of the multiplexer (docs/agent-protocol.md), strict about what the host may send.

One thread reads the link. A rule that the host breaks is kept in `broken` and closes the link; `close` raises it.
"""

import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

HELLO, OPEN, ACCEPT, DATA, CREDIT, EOF, RESET = range(1, 8)
MAGIC = 0x72756E76
WINDOW = 524288
DATA_MAX = 262144
TIMEOUT = 20.0

HEADER = struct.Struct(">III")


def frame(kind: int, channel: int, value: int = 0, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind << 24, channel, value) + payload


class BrokenRuleError(AssertionError):
    """The host did what the protocol forbids."""


class Channel:
    """One channel, accepted. `taken` is what recv has returned, `got` what has arrived."""

    def __init__(self, mux: "GuestMux", number: int, port: int) -> None:
        self.mux, self.number, self.port = mux, number, port
        self.inbox = bytearray()
        self.got = self.taken = self.credited = 0
        self.credit = WINDOW
        self.eof = self.reset = self.eof_sent = False

    def recv(self, size: int) -> bytes:
        """At most size bytes, b"" at the end. Returns credit for them, unless the mux was told not to."""
        with self.mux.changed:
            self.mux.wait(lambda: bool(self.inbox) or self.eof or self.reset)
            data = bytes(self.inbox[:size])
            del self.inbox[:size]
            self.taken += len(data)
        if self.mux.auto_credit and self.taken > self.credited and not self.eof and not self.reset:
            self.grant(self.taken - self.credited)
        return data

    def recv_all(self) -> bytes:
        parts = []
        while data := self.recv(1 << 20):
            parts.append(data)
        return b"".join(parts)

    def grant(self, size: int) -> None:
        with self.mux.changed:
            self.credited += size
        self.mux.send(frame(CREDIT, self.number, size))

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            with self.mux.changed:
                self.mux.wait(lambda: self.credit > 0 or self.reset)
                if self.reset:
                    raise ConnectionResetError("the host has reset the channel")
                size = min(len(view), self.credit, DATA_MAX)
                self.credit -= size
            self.mux.send(frame(DATA, self.number, size, bytes(view[:size])))
            view = view[size:]

    def shutdown(self) -> None:
        self.eof_sent = True
        self.mux.send(frame(EOF, self.number))

    def close(self) -> None:
        with self.mux.changed:
            self.reset = True
            self.mux.channels.pop(self.number, None)
        self.mux.send(frame(RESET, self.number))

    def wait_reset(self) -> None:
        with self.mux.changed:
            self.mux.wait(lambda: self.reset)


class GuestMux:
    """The guest on one end of a socketpair. Ports in `refused` are answered with RESET."""

    def __init__(self, link: socket.socket, *, greet: bool = True) -> None:
        self.link = link
        self.changed = threading.Condition()
        self.sending = threading.Lock()
        self.channels: dict[int, Channel] = {}
        self.accepted: deque[Channel] = deque()
        self.refused: set[int] = set()
        self.auto_credit = True
        self.greet = greet
        self.hellos = 0
        self.ended = False
        self.broken: BaseException | None = None
        self.cut: Callable[[bytes], list[bytes]] = lambda data: [data]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.hang_up()
        self.thread.join(TIMEOUT)
        self.link.close()
        if self.broken is not None:
            raise self.broken

    def hang_up(self) -> None:
        try:
            self.link.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def send(self, data: bytes) -> None:
        with self.sending:
            for part in self.cut(data):
                self.link.sendall(part)

    def accept(self) -> Channel:
        with self.changed:
            self.wait(lambda: bool(self.accepted))
            return self.accepted.popleft()

    def wait_hello(self, count: int) -> None:
        with self.changed:
            self.wait(lambda: self.hellos >= count)

    def wait(self, condition: Callable[[], bool]) -> None:
        """With `changed` held."""
        if not self.changed.wait_for(lambda: condition() or self.ended, TIMEOUT):
            raise TimeoutError("nothing came from the host")
        if not condition():
            raise self.broken or ConnectionError("the link has ended")

    def _run(self) -> None:
        stream = self.link.makefile("rb", buffering=1 << 18)
        try:
            while header := stream.read(HEADER.size):
                word, channel, value = HEADER.unpack(header)
                payload = stream.read(value) if word >> 24 == DATA else b""
                answer = self._frame(word, channel, value, payload)
                if answer:
                    self.send(answer)
        except BrokenRuleError as error:
            self.broken = error
        except OSError:
            pass
        finally:
            with self.changed:
                self.ended = True
                self.changed.notify_all()
            self.hang_up()

    def _frame(self, word: int, number: int, value: int, payload: bytes) -> bytes:
        kind = word >> 24
        if word & 0xFFFFFF or not HELLO <= kind <= RESET:
            raise BrokenRuleError(f"header {word:#x}")
        with self.changed:
            self.changed.notify_all()
            if kind == HELLO:
                return self._hello(number, value)
            if self.hellos == 0 or number == 0:
                raise BrokenRuleError(f"frame {kind} of channel {number} after {self.hellos} HELLOs")
            if kind == OPEN:
                return self._open(number, value)
            channel = self.channels.get(number)
            if channel is None:
                return b"" if kind == RESET else frame(RESET, number)
            self._channel(channel, kind, value, payload)
            return b""

    def _hello(self, number: int, value: int) -> bytes:
        if (number, value) != (MAGIC, 1):
            raise BrokenRuleError(f"HELLO {number:#x} {value}")
        self.hellos += 1
        for channel in self.channels.values():
            channel.reset = True
        self.channels.clear()
        return frame(HELLO, MAGIC, 1) if self.greet else b""

    def _open(self, number: int, port: int) -> bytes:
        if number in self.channels:
            raise BrokenRuleError(f"channel {number} is open")
        if port in self.refused:
            return frame(RESET, number)
        channel = Channel(self, number, port)
        self.channels[number] = channel
        self.accepted.append(channel)
        return frame(ACCEPT, number)

    def _channel(self, channel: Channel, kind: int, value: int, payload: bytes) -> None:
        if kind == DATA:
            if channel.eof or not 0 < value <= DATA_MAX:
                raise BrokenRuleError(f"DATA of {value} bytes, EOF was {channel.eof}")
            channel.got += value
            channel.inbox += payload
            if channel.got > WINDOW + channel.credited:
                raise BrokenRuleError(f"{channel.got} bytes against a credit of {WINDOW + channel.credited}")
        elif kind == CREDIT:
            channel.credit += value
            if channel.credit > WINDOW:
                raise BrokenRuleError(f"credit {channel.credit} above the window")
        elif kind == EOF and not channel.eof and value == 0:
            channel.eof = True
        elif kind == RESET and value == 0:
            channel.reset = True
            del self.channels[channel.number]
        else:
            raise BrokenRuleError(f"frame {kind}, value {value}")
