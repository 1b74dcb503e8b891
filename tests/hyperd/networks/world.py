"""A host of its own, in a network namespace, with pods on it and an outside beyond it. Nothing touches the machine's own network."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperd.networks import Networks, Settings
from runv import linux

DEADLINE_S = 60.0
OUTSIDE = "203.0.113.2"
OUTSIDE6 = "2001:db8::2"
HOST = "203.0.113.1"
HOST6 = "2001:db8::1"
UPLINK_MTU = 1480

# Answers every connection and datagram with who it came from.
_ECHO = """
import selectors, socket
wait = selectors.DefaultSelector()
for port in PORTS:
    stream = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    datagram = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagram.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagram.bind(("::", port))
    wait.register(stream, selectors.EVENT_READ)
    wait.register(datagram, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in wait.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            link, peer = key.fileobj.accept()
            link.sendall(f"{NAME} {peer[0].removeprefix('::ffff:')}".encode())
            link.close()
        else:
            _, peer = key.fileobj.recvfrom(100)
            key.fileobj.sendto(f"{NAME} {peer[0].removeprefix('::ffff:')}".encode(), peer)
"""
_ASK = """
import socket, sys
host, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
family, _, _, _, where = socket.getaddrinfo(host, port)[0]
link = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
link.settimeout(float(sys.argv[4]))
link.connect(where)
if kind == "udp":
    link.send(b"who")
print(link.recv(100).decode())
"""


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=DEADLINE_S).stdout


@dataclass
class Echo:
    process: asyncio.subprocess.Process


@dataclass
class World:
    """Lives in ``root`` while the calling thread is in the host's namespace."""

    root: Path
    outside: str = field(default_factory=lambda: f"rvout{secrets.token_hex(3)}")
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings(resolvers=(OUTSIDE,))

    def networks(self, settings: Settings | None = None) -> Networks:
        return Networks(self.root / "records", run=self.root / "netns", settings=settings or self.settings)

    def pod(self, name: str) -> str:
        return str(self.root / "netns" / name)

    def make(self) -> None:
        # A new namespace has these of IPv4 from the machine's first one.
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
        Path("/proc/sys/net/ipv4/conf/default/route_localnet").write_text("0")
        ip("link", "set", "lo", "up")
        ip("netns", "add", self.outside)
        ip(
            "link",
            "add",
            "up0",
            "mtu",
            str(UPLINK_MTU),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "mtu",
            str(UPLINK_MTU),
            "netns",
            self.outside,
        )
        for link, four, six in ((["up0"], HOST, HOST6), (["eth0"], OUTSIDE, OUTSIDE6)):
            where = [] if link == ["up0"] else ["-n", self.outside]
            ip(*where, "address", "add", f"{four}/24", "dev", *link)
            ip(*where, "address", "add", f"{six}/64", "dev", *link, "nodad")
            ip(*where, "link", "set", "lo", "up")
            ip(*where, "link", "set", *link, "up")
        ip("route", "add", "default", "via", OUTSIDE)

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.outside], check=False, timeout=DEADLINE_S)
        for path in (self.root / "netns").glob("*"):
            subprocess.run(["umount", "--lazy", str(path)], check=False, capture_output=True, timeout=DEADLINE_S)

    def inside(self, place: str, *words: str) -> list[str]:
        """A command in the namespace of a pod, in ``outside``, or, with an empty place, on the host."""
        if not place:
            return list(words)
        path = f"/run/netns/{place}" if place == self.outside else self.pod(place)
        return ["nsenter", f"--net={path}", *words]

    async def run(self, place: str, *words: str, check: bool = True) -> str:
        process = await asyncio.create_subprocess_exec(
            *self.inside(place, *words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        if check:
            assert process.returncode == 0, f"{words}: {err.decode()}"
        return out.decode() if process.returncode == 0 else ""

    async def python(self, place: str, code: str, *args: str, check: bool = True) -> str:
        return await self.run(place, sys.executable, "-c", textwrap.dedent(code), *args, check=check)

    async def serve(self, place: str, *ports: int) -> None:
        """Who asks at one of the ports, over TCP or UDP, is told the place's name and his own address."""
        code = f"NAME, PORTS = {place!r}, {ports!r}\n{_ECHO}"
        process = await asyncio.create_subprocess_exec(
            *self.inside(place, sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), DEADLINE_S) == b"ready\n"

    async def ask(self, place: str, host: str, port: int, kind: str = "tcp", *, timeout_s: float = 20.0) -> str:
        """The server's name and the asker's address as the server saw it; empty: no answer."""
        return (await self.python(place, _ASK, host, str(port), kind, str(timeout_s), check=False)).strip()

    async def refused(self, place: str, host: str, port: int, kind: str = "tcp") -> bool:
        return await self.ask(place, host, port, kind, timeout_s=0.7) == ""

    async def ping(self, place: str, host: str, *, count: int = 1, wait_s: float = 5.0) -> bool:
        found = await self.run(place, "ping", "-c", str(count), "-W", str(wait_s), host, check=False)
        return bool(found)

    async def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self.processes.clear()


@contextlib.contextmanager
def own_namespace() -> Iterator[None]:
    """This thread, and those that it starts, in a new network namespace; back in the old one after it."""
    import os

    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        linux.unshare(linux.CLONE_NEWNET)
        yield
    finally:
        linux.setns(home, linux.CLONE_NEWNET)
        os.close(home)


@contextlib.asynccontextmanager
async def running(world: World, settings: Settings | None = None) -> AsyncIterator[Networks]:
    """Networks that were restored; what they made is taken away again."""
    networks = world.networks(settings)
    try:
        await networks.restore()
        yield networks
    finally:
        await world.end()
        await networks.clear()
        await networks.close()


def links(place: World, name: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        subprocess.run(
            place.inside(name, "ip", "-j", "-d", "link"), check=True, capture_output=True, timeout=DEADLINE_S
        ).stdout
    )
    return found
