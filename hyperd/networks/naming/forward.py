"""Queries for the host's resolvers: each from a port of its own, with a random id, and never waiting for long."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path

import dns.message

from hyperd.networks import addresses

from . import answers

_PORT = 53
_EACH_S = 1.5
_ALL_S = 4.5
_AT_ONCE = 512
_TCP_MAX = 65535

Resolvers = Callable[[], tuple[str, ...]]


class HostResolvers:
    """The nameservers of /etc/resolv.conf, read again when it changes; ``settled`` goes before them. Never an address of ours."""

    def __init__(self, settled: tuple[str, ...], path: Path = Path("/etc/resolv.conf")) -> None:
        self.own: frozenset[str] = frozenset()
        self._settled = settled
        self._path = path
        self._read: tuple[str, ...] = ()
        self._seen = 0

    def __call__(self) -> tuple[str, ...]:
        if not self._settled:
            self._refresh()
        return tuple(text for text in self._settled or self._read if text not in self.own)

    def _refresh(self) -> None:
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp != self._seen:
                self._read, self._seen = _nameservers(self._path.read_text(errors="replace")), stamp
        except OSError:  # for the moment there is none; what was read stays
            pass


def _nameservers(text: str) -> tuple[str, ...]:
    words = (line.split() for line in text.splitlines())
    return tuple(word[1] for word in words if len(word) > 1 and word[0] == "nameserver")


class Forwarder:
    """Asks the resolvers in turn, first the one that answered last. More than 512 questions at once are too many, and fail."""

    def __init__(self, resolvers: Resolvers, *, port: int = _PORT) -> None:
        self._resolvers = resolvers
        self._port = port
        self._running = 0
        self._best = ""

    async def ask(self, query: dns.message.Message, wire: bytes, *, stream: bool) -> bytes | None:
        """The answer, with the id of ``wire``; None: nobody gave one. ``stream``: over TCP, as the client asked."""
        if self._running >= _AT_ONCE:
            return None
        self._running += 1
        try:
            async with asyncio.timeout(_ALL_S):
                found = await self._ask(query, wire[2:], stream=stream)
        except TimeoutError:
            found = None
        finally:
            self._running -= 1
        return None if found is None else wire[:2] + found[2:]

    async def _ask(self, query: dns.message.Message, rest: bytes, *, stream: bool) -> bytes | None:
        last = None
        for host in sorted(self._resolvers(), key=lambda text: text != self._best):
            wire = secrets.token_bytes(2) + rest
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(_EACH_S):
                    found = await (self._by_stream if stream else self._by_datagram)(host, query, wire)
                if not answers.worth_another(found):
                    self._best = host
                    return found
                last = found
        return last

    async def _by_datagram(self, host: str, query: dns.message.Message, wire: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Once(query, wire[:2], answer), remote_addr=(host, self._port)
        )
        try:
            transport.sendto(wire)
            return await answer
        finally:
            transport.close()

    async def _by_stream(self, host: str, query: dns.message.Message, wire: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(host, self._port)
        try:
            writer.write(len(wire).to_bytes(2, "big") + wire)
            size = int.from_bytes(await reader.readexactly(2), "big")
            found = await reader.readexactly(size)
        finally:
            writer.close()
        if found[:2] != wire[:2] or not answers.fits(query, found):
            raise OSError("an answer to another question")
        return found


class _Once(asyncio.DatagramProtocol):
    """Waits for the one answer; packets that are none are left out."""

    def __init__(self, query: dns.message.Message, number: bytes, answer: "asyncio.Future[bytes]") -> None:
        self._query, self._number, self._answer = query, number, answer

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._answer.done() and data[:2] == self._number and answers.fits(self._query, data):
            self._answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)


def usable(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Those resolvers that a pod can ask itself: none of the host's loopback."""
    return tuple(text for text in texts if not addresses.address(text.split("%")[0]).is_loopback)
