"""Pods, the host and the outside reach each other where they should, and only there."""

import asyncio

from hyperd.networks import NetworkSpec

from .world import HOST, HOST6, OUTSIDE, OUTSIDE6, UPLINK_MTU, World, links, running


def test_pods_reach_each_other_the_host_and_the_outside(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            found = {}
            for pod in ("one", "two"):
                path = await networks.make_netns(pod)
                found[pod] = await networks.attach(pod, path, names=(pod,))
            await asyncio.gather(world.serve("two", 80), world.serve(world.outside, 80), world.serve("", 80))
            one, two = (item.addresses[0].split("/")[0] for item in found.values())
            one6, two6 = (item.addresses[1].split("/")[0] for item in found.values())
            assert (one, two) == ("192.168.123.2", "192.168.123.3")
            assert await world.ask("one", two, 80) == f"two {one}"
            assert await world.ask("one", two6, 80, "udp") == f"two {one6}"
            assert await world.ask("one", found["one"].gateway, 80) == one
            assert await world.ask("one", OUTSIDE, 80) == f"{world.outside} {HOST}"
            assert await world.ask("one", OUTSIDE6, 80, "udp") == f"{world.outside} {HOST6}"
            assert {link["mtu"] for link in links(world, "one") if link["ifname"] == "eth0"} == {UPLINK_MTU}

    asyncio.run(main())


def test_networks_are_isolated_from_each_other_alone(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            await networks.create(NetworkSpec(name="blue"))
            await networks.create(NetworkSpec(name="inner", internal=True))
            await networks.create(NetworkSpec(name="open1", isolated=False))
            await networks.create(NetworkSpec(name="open2", isolated=False))
            where = {}
            for name in ("default", "blue", "inner", "open1", "open2"):
                path = await networks.make_netns(name)
                where[name] = (await networks.attach(name, path, name)).addresses
                await world.serve(name, 80)
            await world.serve(world.outside, 80)
            blue, inner, other = (where[name][0].split("/")[0] for name in ("blue", "inner", "open2"))
            blue6 = where["blue"][1].split("/")[0]
            closed = list(
                await asyncio.gather(
                    world.refused("default", blue, 80),
                    world.refused("default", blue6, 80),
                    world.refused("open1", blue, 80),
                    world.refused("inner", blue, 80),
                    world.refused("inner", OUTSIDE, 80),
                    world.refused("default", inner, 80),
                )
            )
            assert closed == [True] * 6
            assert (await world.ask("open1", other, 80)).startswith("open2")
            assert (await world.ask("blue", OUTSIDE, 80)).startswith(world.outside)
            assert (await world.ask("", blue, 80)).startswith("blue")
            await networks.make_netns("neighbour")
            await networks.attach("neighbour", world.pod("neighbour"), "inner")
            assert (await world.ask("neighbour", inner, 80)).startswith("inner")

    asyncio.run(main())
