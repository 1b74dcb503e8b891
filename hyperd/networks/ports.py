"""Published ports: which are in each other's way, and the sockets that hold them on the host.

The kernel sends on what arrives (rules.py). The socket keeps other programs from taking the port, and carries by hand what the kernel cannot:
connections to ``::1``, and those of a family that the pod does not have.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

from hyperd.errors import ConflictError, HyperError, InvalidError, UnavailableError

from . import addresses
from .records import PortMap

_CONNECT_S = 10.0
_CHUNK = 64 << 10
_BACKLOG = 64
_UDP_IDLE_S = 60.0
_UDP_PEERS = 256
_PORTS = 65535
_COUNT_MAX = 1024

# The addresses of a pod, those to try first in front.
Where = tuple[str, ...]


def check(port: PortMap) -> PortMap:
    """:raise InvalidError: it cannot be published as it is"""
    if not 1 <= port.count <= _COUNT_MAX:
        raise InvalidError(f"port {port.host_port}: a range of {port.count}; at most {_COUNT_MAX} may be in one")
    if not 1 <= port.container_port <= _PORTS - port.count + 1:
        raise InvalidError(f"port {port.container_port} of the pod: not between 1 and {_PORTS}")
    if not 0 <= port.host_port <= _PORTS - port.count + 1:
        raise InvalidError(f"port {port.host_port} of the host: not between 1 and {_PORTS}")
    if port.host_port == 0 and (port.count != 1 or port.protocol == "sctp"):
        raise InvalidError("a free port of the host can be chosen for a single port of TCP or UDP only")
    if port.host_ip:
        addresses.address(port.host_ip.strip("[]"))
    return port


def clash(one: PortMap, other: PortMap) -> bool:
    """Whether some packet would be for both."""
    if one.protocol != other.protocol:
        return False
    if one.host_port + one.count <= other.host_port or other.host_port + other.count <= one.host_port:
        return False
    hosts = [port.host_ip.strip("[]") for port in (one, other)]
    return "" in hosts or _covers(*hosts) or _covers(*reversed(hosts))


def _covers(wide: str, narrow: str) -> bool:
    every = {"0.0.0.0": 4, "::": 6}
    if wide in every:
        return addresses.address(narrow).version == every[wide]
    return addresses.address(wide) == addresses.address(narrow)


def describe(port: PortMap, number: int) -> str:
    host = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    return f"port {host + ':' if host else ''}{number}/{port.protocol}"


class Held:
    """The sockets of one published port, or of a range of them."""

    def __init__(self, port: PortMap) -> None:
        self.port = port
        self._closers: list[Callable[[], None]] = []
        self._links: set[asyncio.Task[None]] = set()

    @classmethod
    async def hold(cls, port: PortMap, where: Where) -> "Held":
        """Takes the ports on the host. ``held.port`` says which, if any would do.

        :raise ConflictError: another program has one of them
        :raise InvalidError: the host has no such address
        """
        held = cls(port)
        try:
            for step in range(port.count):
                await held._take(step, where)
        except BaseException:
            held.close()
            raise
        return held

    async def _take(self, step: int, where: Where) -> None:
        if self.port.protocol == "sctp":
            return
        number = self.port.host_port + step if self.port.host_port else 0
        link = _bind(self.port, number)
        if not number:
            self.port = _with_port(self.port, link.getsockname()[1])
        target = self.port.container_port + step
        if self.port.protocol == "udp":
            await self._relay_datagrams(link, where, target)
        else:
            await self._relay_streams(link, where, target)

    async def _relay_streams(self, link: socket.socket, where: Where, target: int) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._links.add(task)
            try:
                await _carry(reader, writer, where, target)
            finally:
                self._links.discard(task)

        server = await asyncio.start_server(serve, sock=link, backlog=_BACKLOG)
        self._closers.append(server.close)

    async def _relay_datagrams(self, link: socket.socket, where: Where, target: int) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(where, target), sock=link)
        self._closers.append(transport.close)

    def close(self) -> None:
        """Gives the ports back, and ends what is carried by hand."""
        for closer in self._closers:
            closer()
        for task in self._links:
            task.cancel()


def _with_port(port: PortMap, number: int) -> PortMap:
    import msgspec

    return msgspec.structs.replace(port, host_port=number)


def _bind(port: PortMap, number: int) -> socket.socket:
    """A socket of the port's own; for both families where the host has both."""
    host = port.host_ip.strip("[]")
    six = ":" in host or (not host and socket.has_ipv6)
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    try:
        return _bound(host or ("::" if six else "0.0.0.0"), number, kind, six=six, both=not host)
    except OSError as error:
        if not host and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # a host without IPv6
            with contextlib.suppress(OSError):
                return _bound("0.0.0.0", number, kind, six=False, both=False)
        if error.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"{describe(port, number)}: in use on the host", hint="publish another port, or end what uses it"
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise InvalidError(f"{describe(port, number)}: the host has no such address") from None
        if error.errno == errno.EMFILE:
            raise UnavailableError(
                f"{describe(port, number)}: too many open files", hint="raise hyperd's LimitNOFILE"
            ) from None
        raise HyperError(f"{describe(port, number)}: {error.strerror}") from error


def _bound(host: str, number: int, kind: socket.SocketKind, *, six: bool, both: bool) -> socket.socket:
    link = socket.socket(socket.AF_INET6 if six else socket.AF_INET, kind)
    try:
        if kind == socket.SOCK_STREAM:  # closed connections of the port's last holder are no reason to refuse
            link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        link.bind((host, number))
        if kind == socket.SOCK_STREAM:
            link.listen(_BACKLOG)
        link.setblocking(False)
    except BaseException:
        link.close()
        raise
    return link


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: Where, target: int) -> None:
    """One connection, both ways, until both ends have said all."""
    try:
        far_reader, far_writer = await _connect(where, target)
    except OSError:
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
    except OSError:
        pass  # an end that breaks ends the other; there is nobody to tell
    finally:
        for end in (writer, far_writer):
            end.close()


async def _connect(where: Where, target: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    failure = OSError(errno.EHOSTUNREACH, "no address")
    for host in where:
        try:
            return await asyncio.wait_for(asyncio.open_connection(host, target), _CONNECT_S)
        except OSError as error:
            failure = error
    raise failure


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class _Datagrams(asyncio.DatagramProtocol):
    """Datagrams to the pod and back, each sender by a socket of its own; the longest silent goes where there are too many."""

    def __init__(self, where: Where, target: int) -> None:
        self._to = (where[0], target) if where else None
        self._peers: dict[tuple[str, int], _Peer] = {}
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._to is None or self._transport is None:
            return
        peer = self._peers.pop(addr, None)
        if peer is None or peer.ended:
            peer = self._new_peer(addr, self._transport, self._to)
        if peer is None:
            return
        self._peers[addr] = peer  # the last in order is the last that spoke
        peer.send(data)

    def _new_peer(self, addr: tuple[str, int], near: asyncio.DatagramTransport, to: tuple[str, int]) -> "_Peer | None":
        if len(self._peers) >= _UDP_PEERS:
            self._peers.pop(next(iter(self._peers))).end()
        try:
            return _Peer(near, addr, to)
        except OSError:  # the pod is gone, or there are too many open files
            return None

    def connection_lost(self, error: Exception | None) -> None:
        for peer in self._peers.values():
            peer.end()
        self._peers.clear()


class _Peer:
    """One sender's socket towards the pod."""

    def __init__(self, near: asyncio.DatagramTransport, addr: tuple[str, int], to: tuple[str, int]) -> None:
        self.ended = False
        self._near, self._addr = near, addr
        self._loop = asyncio.get_running_loop()
        self._link = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self._link.setblocking(False)
        try:
            self._link.connect(to)
        except OSError:
            self._link.close()
            raise
        self._loop.add_reader(self._link, self._answer)
        self._idle = self._loop.call_later(_UDP_IDLE_S, self.end)

    def send(self, data: bytes) -> None:
        self._idle.cancel()
        self._idle = self._loop.call_later(_UDP_IDLE_S, self.end)
        with contextlib.suppress(OSError):  # datagrams may be lost
            self._link.send(data)

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            self._near.sendto(self._link.recv(_CHUNK), self._addr)

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self._idle.cancel()
            self._loop.remove_reader(self._link)
            self._link.close()
