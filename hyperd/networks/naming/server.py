"""The sockets of a network's DNS server: UDP and TCP on port 53 of each of its gateways."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Coroutine

import dns.rcode

from hyperd.errors import ConflictError, HyperError
from hyperd.networks import addresses

from . import answers
from .directory import Directory
from .forward import Forwarder

PORT = 53
_IDLE_S = 10.0
_LINKS_MAX = 128
_UDP_AT_ONCE = 1024
_IPV6_FREEBIND = 78
_IP_FREEBIND = 15


class Server:
    """Serves one network until closed."""

    def __init__(self, network: str, look: Callable[[], Directory], forwarder: Forwarder) -> None:
        self.network = network
        self._look, self._forwarder = look, forwarder
        self._tasks: set[asyncio.Task[None]] = set()
        self._links = 0
        self._closers: list[Callable[[], None]] = []

    @classmethod
    async def start(
        cls,
        network: str,
        hosts: tuple[str, ...],
        look: Callable[[], Directory],
        forwarder: Forwarder,
        *,
        port: int = PORT,
    ) -> "Server":
        """:raise ConflictError: another program has the port there"""
        server = cls(network, look, forwarder)
        try:
            for host in hosts:
                await server._serve(host, port)
        except OSError as error:
            server.close()
            if error.errno == errno.EADDRINUSE:
                raise ConflictError(
                    f"network {network}: port {port} of {host} is in use, so it has no DNS server"
                ) from error
            raise HyperError(f"network {network}: cannot serve DNS at {host}: {error.strerror}") from error
        return server

    async def _serve(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        datagrams = _bound(host, port, socket.SOCK_DGRAM)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=datagrams)
        self._closers.append(transport.close)
        streams = await asyncio.start_server(self._stream, sock=_bound(host, port, socket.SOCK_STREAM))
        self._closers.append(streams.close)

    def close(self) -> None:
        for closer in self._closers:
            closer()
        for task in self._tasks:
            task.cancel()

    def datagram(self, wire: bytes, address: tuple[str, int], send: Callable[[bytes], None]) -> None:
        """Answers at once what is ours; the rest when it is known, unless too many wait."""
        reply = answers.reply(self._look(), self.network, addresses.address(address[0]), wire, limited=True)
        if reply.forward is None:
            if reply.wire:
                send(reply.wire)
            return
        if len(self._tasks) < _UDP_AT_ONCE:
            self._spawn(self._later(reply, wire, send))

    async def _later(self, reply: answers.Reply, wire: bytes, send: Callable[[bytes], None]) -> None:
        send(await self._forward(reply, wire, stream=False))

    async def _forward(self, reply: answers.Reply, wire: bytes, *, stream: bool) -> bytes:
        assert reply.forward is not None
        found = await self._forwarder.ask(reply.forward, wire, stream=stream)
        return answers.failure(wire, dns.rcode.SERVFAIL) if found is None else found

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._links += 1
        try:
            if self._links <= _LINKS_MAX:
                await self._talk(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # who says nothing, or half of something, has nothing to be told
        finally:
            self._links -= 1
            self._tasks.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asker = addresses.address(writer.get_extra_info("peername")[0])
        while True:
            async with asyncio.timeout(_IDLE_S):
                size = int.from_bytes(await reader.readexactly(2), "big")
                wire = await reader.readexactly(size)
            reply = answers.reply(self._look(), self.network, asker, wire, limited=False)
            found = reply.wire if reply.forward is None else await self._forward(reply, wire, stream=True)
            if not found:
                return
            writer.write(len(found).to_bytes(2, "big") + found)
            async with asyncio.timeout(_IDLE_S):
                await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        transport = self._transport
        if transport is not None:
            self._server.datagram(data, addr, lambda wire: _send(transport, wire, addr))


def _send(transport: asyncio.DatagramTransport, wire: bytes, addr: tuple[str, int]) -> None:
    if not transport.is_closing():
        transport.sendto(wire, addr)


def _bound(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """Also where the address is not there yet: a bridge without links is slow to get one of IPv6."""
    six = ":" in host
    link = socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind)
    try:
        with contextlib.suppress(OSError):
            link.setsockopt(
                socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP, _IPV6_FREEBIND if six else _IP_FREEBIND, 1
            )
        if kind == socket.SOCK_STREAM:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        link.setblocking(False)
        link.bind((host, port))
    except BaseException:
        link.close()
        raise
    return link
