"""Bandwidth, as ratios; and firewalls of others that would stop our packets."""

from __future__ import annotations

import asyncio
import shutil
import sys

import pytest

from hyperd.networks import Settings

from .world import HOST, OUTSIDE, World, running

_MBIT = 10**6

# Sends or fetches so many bytes, and says how long that took.
_PEER = """
import socket
listener = socket.create_server(("0.0.0.0", 5000))
print("ready", flush=True)
while True:
    link, _ = listener.accept()
    with link:
        order, size = link.recv(1), int.from_bytes(link.recv(8), "big")
        if order == b"g":
            link.sendall(bytes(size))
        else:
            while size > 0:
                size -= len(link.recv(1 << 16))
            link.sendall(b"!")
"""
_TRANSFER = """
import socket, sys, time
host, order, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
with socket.create_connection((host, 5000)) as link:
    start = time.monotonic()
    link.sendall(order.encode() + size.to_bytes(8, "big"))
    if order == "g":
        while size > 0:
            size -= len(link.recv(1 << 16))
    else:
        link.sendall(bytes(size))
        link.recv(1)
    print(time.monotonic() - start)
"""


async def peer(world: World, place: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *world.inside(place, sys.executable, "-c", _PEER), stdout=asyncio.subprocess.PIPE
    )
    world.processes.append(process)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"


def test_bandwidth_is_limited_in_each_direction(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            await peer(world, world.outside)
            for pod, limits in (("free", (0, 0)), ("in", (16 * _MBIT, 0)), ("out", (0, 16 * _MBIT))):
                path = await networks.make_netns(pod)
                await networks.attach(pod, path, ingress_bandwidth=limits[0], egress_bandwidth=limits[1])
            took = {
                (pod, order): float(await world.python(pod, _TRANSFER, OUTSIDE, order, str(1 << 20)))
                for pod in ("free", "in", "out")
                for order in ("g", "p")
            }
            for pod, slow, fast in (("in", "g", "p"), ("out", "p", "g")):
                assert took[pod, slow] > 3 * took["free", slow], took
                assert took[pod, slow] > 3 * took[pod, fast], took
            larger = float(await world.python("in", _TRANSFER, OUTSIDE, "g", str(2 << 20)))
            assert 1.4 < larger / took["in", "g"] < 3.5, (larger, took)

    asyncio.run(main())


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_docker_drops_what_is_forwarded(world: World, backend: str) -> None:
    """Docker's firewall as it makes it: FORWARD drops, and DOCKER-USER is asked first."""
    program = f"iptables-{backend}"

    async def main() -> None:
        assert shutil.which(program)
        if backend == "legacy" and not await world.run("", program, "-S", check=False):
            pytest.skip("this kernel has no legacy iptables")
        async with running(world) as networks:
            await world.serve(world.outside, 80)
            await networks.attach("p", await networks.make_netns("p"))
            await networks.attach("q", await networks.make_netns("q"))
            await world.serve("q", 80)
            assert await networks.check() == ()
            await world.run("", program, "-P", "FORWARD", "DROP")
            assert await world.refused("p", OUTSIDE, 80)
            (told,) = await networks.check()
            assert f"{program} -I FORWARD" in told
            await world.run("", program, "-N", "DOCKER-USER")
            await world.run("", program, "-A", "DOCKER-USER", "-j", "RETURN")
            await world.run("", program, "-I", "FORWARD", "-j", "DOCKER-USER")
            assert await networks.check() == ()
            before = await world.run("", program, "-S")
            assert (await world.ask("p", OUTSIDE, 80)).endswith(HOST)
            assert (await world.ask("p", "192.168.123.3", 80)).startswith("q ")
            await networks.check()
            assert await world.run("", program, "-S") == before
            await networks.clear()
            rest = await world.run("", program, "-S")
            assert "hyperd" not in rest
            assert "-A DOCKER-USER -j RETURN" in rest

    asyncio.run(main())


def test_docker_is_left_alone_where_that_is_asked_for(world: World) -> None:
    async def main() -> None:
        async with running(world, Settings(allow_in_docker=False)) as networks:
            await world.run("", "iptables-nft", "-P", "FORWARD", "DROP")
            await world.run("", "iptables-nft", "-N", "DOCKER-USER")
            before = await world.run("", "iptables-nft", "-S")
            (told,) = await networks.check()
            assert "iptables-nft -I DOCKER-USER -m mark" in told
            assert await world.run("", "iptables-nft", "-S") == before
            command = told.split("until: ")[1].split()
            await world.run("", *command)
            await world.run("", "iptables-nft", "-I", "FORWARD", "-j", "DOCKER-USER")
            await world.serve(world.outside, 80)
            await networks.attach("p", await networks.make_netns("p"))
            assert (await world.ask("p", OUTSIDE, 80)).startswith(world.outside)

    asyncio.run(main())


def test_a_table_of_nftables_that_drops_is_named(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            await world.serve(world.outside, 80)
            await networks.attach("p", await networks.make_netns("p"))
            chain = "{ type filter hook forward priority 10; policy drop; }"
            await world.run("", "sh", "-c", f"nft 'add table inet strict; add chain inet strict stop {chain}'")
            assert await world.refused("p", OUTSIDE, 80)
            (told,) = await networks.check()
            assert "chain stop of nftables' table inet strict" in told
            await world.run("", "sh", "-c", told.split("until: ")[1])
            assert (await world.ask("p", OUTSIDE, 80)).startswith(world.outside)

    asyncio.run(main())
