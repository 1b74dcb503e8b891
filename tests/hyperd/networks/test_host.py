"""What a pod's links are given, and what is changed on the host."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from pathlib import Path

import pytest

from hyperd.networks import NetworkSpec, PortMap

from .world import HOST, HOST6, OUTSIDE, OUTSIDE6, World, links, running


def test_a_pod_gets_what_it_asked_for(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            await networks.create(NetworkSpec(name="inner", internal=True))
            await networks.create(
                NetworkSpec(name="blue", subnets=("10.9.0.0/24", "fd09::/64"), gateways=("10.9.0.254", "fd09::ff"))
            )
            path = await networks.make_netns("p")
            first = await networks.attach("p", path, "inner")
            second = await networks.attach(
                "p", path, "blue", name="lan", addresses=("10.9.0.77", "fd09::77"), mac="02-00-5E-00-00-77", mtu=1300
            )  # fmt: skip
            third = await networks.attach("p", path)
            assert [item.name for item in (first, second, third)] == ["eth0", "lan", "eth1"]
            assert first.gateways == () and third.gateways == () and second.gateways == ("10.9.0.254", "fd09::ff")
            assert second.addresses == ("10.9.0.77/24", "fd09::77/64")
            (lan,) = (link for link in links(world, "p") if link["ifname"] == "lan")
            assert (lan["address"], lan["mtu"]) == ("02:00:5e:00:00:77", 1300)
            assert "fe80" not in await world.run("p", "ip", "-6", "address", "show", "dev", "lan")
            routes = await world.run("p", "sh", "-c", "ip -4 route show default; ip -6 route show default")
            assert [line.split()[:5] for line in routes.splitlines()] == [
                ["default", "via", "10.9.0.254", "dev", "lan"],
                ["default", "via", "fd09::ff", "dev", "lan"],
            ]
            await world.serve(world.outside, 80)
            assert await world.ask("p", OUTSIDE, 80) == f"{world.outside} {HOST}"
            assert await world.ask("p", OUTSIDE6, 80) == f"{world.outside} {HOST6}"
            await networks.detach("p", "blue")
            assert [item.network for item in networks.attachments("p")] == ["inner", "default"]
            assert "lan" not in {link["ifname"] for link in links(world, "p")}

    asyncio.run(main())


async def _announce(world: World) -> None:
    """One router advertisement from the outside, with a lifetime of half an hour."""
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    code = f"""
import socket
link = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
link.sendto({message!r}, ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))
"""
    await world.python(world.outside, code, check=False)  # its own address takes a moment


def test_a_route_that_was_learned_survives_forwarding(world: World) -> None:
    """A host that starts to forward IPv6 forgets its router, unless it is told not to first."""

    async def main() -> None:
        Path("/proc/sys/net/ipv6/conf/up0/accept_ra").write_text("1")
        before = ""
        async with asyncio.timeout(30):  # carriers and addresses take seconds, which announcements do not
            while not before:
                await _announce(world)
                before = await world.run("", "ip", "-6", "route", "show", "default")
        assert "proto ra" in before
        async with running(world):
            assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text() == "1\n"
            assert "proto ra" in await world.run("", "ip", "-6", "route", "show", "default")
            assert Path("/proc/sys/net/ipv6/conf/up0/accept_ra").read_text() == "2\n"

    asyncio.run(main())


def test_an_internal_network_needs_no_forwarding(world: World) -> None:
    async def main() -> None:
        settings = world.settings.__class__(default=NetworkSpec(name="default", bridge="hyper0", internal=True))
        async with running(world, settings):
            for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/hyper0/route_localnet"):
                assert Path("/proc/sys/net", name).read_text() == "0\n", name

    asyncio.run(main())


def test_a_host_without_ipv6(world: World) -> None:
    async def main() -> None:
        await world.run("", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        async with running(world) as networks:
            item = await networks.attach("p", await networks.make_netns("p"))
            assert item.addresses == ("192.168.123.2/24",)
            await world.serve("p", 80)
            await networks.publish("p", [PortMap(8080, 80)])
            assert await world.ask(world.outside, HOST, 8080) == f"p {OUTSIDE}"
            assert (await world.ask("", "127.0.0.1", 8080)).startswith("p ")
            assert await networks.check() == ()

    asyncio.run(main())


def test_another_program_has_the_port_of_names(world: World) -> None:
    """A network does without its server; that is told, and pods ask the host's resolvers."""

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            other.bind(("0.0.0.0", 53))
            async with running(world) as networks:
                assert await networks.check() == ("network default has no DNS server of its own",)
                item = await networks.attach("p", await networks.make_netns("p"))
                assert item.dns == (OUTSIDE,)
                other.close()
                await networks.restore()
                assert await networks.check() == ()
                assert (await networks.attach("q", await networks.make_netns("q"))).dns == networks.find(
                    "default"
                ).gateways

    asyncio.run(main())


def test_a_host_without_nft_is_told_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is half there."""

    async def main() -> None:
        networks = world.networks()
        with monkeypatch.context() as patch:
            patch.setenv("PATH", "/nonexistent")
            found = await networks.restore()
        assert len(found.warnings) == 2
        assert found.warnings[0] == "network default: cannot set up packet filtering: nft is not installed"
        assert networks.list() == []
        assert {link["ifname"] for link in links(world)} == {"lo", "up0"}

    asyncio.run(main())
