"""After a restart, a SIGKILL half-way and a vandal, everything is as it is written down; and nothing else is there."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from hyperd.errors import ConflictError, HyperError
from hyperd.networks import NetworkSpec, PortMap, Settings

from .world import DEADLINE_S, HOST, OUTSIDE, World, links, running


async def picture(world: World) -> str:
    """The host's links (without their numbers), addresses, rules and namespaces."""
    shown = [
        " ".join([str(link[key]) for key in ("ifname", "mtu", "operstate", "address") if key in link] + [link.get("master", ""), link.get("ifalias", "")])
        for link in links(world)
    ]  # fmt: skip
    addresses = await world.run("", "sh", "-c", "ip -br address | sed 's,@[^ ]*,,' | awk '{ print $1, $3, $4 }' | sort")
    rules = await world.run("", "nft", "list", "ruleset")
    return "\n".join(
        [*sorted(shown), addresses, rules, *sorted(path.name for path in (world.root / "netns").iterdir())]
    )


def test_a_restart_changes_nothing_and_everything_goes_on(world: World) -> None:
    async def main() -> None:
        async with running(world) as first:
            await first.create(NetworkSpec(name="blue", labels={"a": "b"}))
            path = await first.make_netns("web")
            was = await first.attach(
                "web", path, names=("web",), ingress_bandwidth=50_000_000, egress_bandwidth=50_000_000
            )
            await first.attach("web", path, "blue")
            await first.publish("web", [PortMap(8080, 80), PortMap(8081, 80, host_ip=HOST)])
            before = await picture(world)
            await first.close()
            await world.serve("web", 80)
            assert (await world.ask(world.outside, HOST, 8080)).startswith("web "), "a port needs the daemon"
            async with running(world) as second:
                assert await picture(world) == before
                again = await second.restore({"web"})
                assert (again.removed, again.remade, again.warnings) == ((), (), ())
                assert await picture(world) == before
                assert second.attachments("web")[0] == was
                assert second.find("blue").labels == {"a": "b"}
                assert [port.host_port for port in second.ports("web")] == [8080, 8081]
                assert (await world.ask("", "::1", 8080)).startswith("web ")
                assert await second.attach("web", path, names=("web",)) == was
                with pytest.raises(ConflictError, match="already, as eth0"):
                    await second.attach("web", path, addresses=("192.168.123.77",))
                await second.restore(set())
                assert second.attachments("web") == ()
                assert not list((world.root / "netns").iterdir())

    asyncio.run(main())


def test_what_a_vandal_did_is_undone(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            path = await networks.make_netns("web")
            await networks.attach("web", path)
            await networks.publish("web", [PortMap(8080, 80)])
            await world.serve("web", 80)
            before = await picture(world)
            link = networks.attachments("web")[0].link
            await world.run("", "nft", "delete", "table", "inet", "hyperd")
            await world.run("", "ip", "link", "delete", "hyper0")
            await world.run("", "ip", "link", "add", f"{link[:5]}00000000", "type", "bridge")
            await world.run("", "ip", "link", "add", "innocent", "type", "bridge")
            found = await networks.restore({"web"})
            assert found.remade == ()
            await world.run("", "ip", "link", "delete", "innocent")
            assert await picture(world) == before
            assert (await world.ask(world.outside, HOST, 8080)).startswith("web ")
            await world.run("", "ip", "link", "set", "hyper0", "alias", "")
            # As if it was cut off before the pod's end was configured.
            await world.run("", "ip", "link", "set", link, "alias", "")
            await world.run("web", "ip", "address", "flush", "dev", "eth0")
            assert (await networks.restore({"web"})).remade == (("web", "eth0"),)
            assert await picture(world) == before
            assert (await world.ask(world.outside, HOST, 8080)).startswith("web ")
            await world.run("", "ip", "link", "delete", link)
            assert (await networks.restore({"web"})).remade == (("web", "eth0"),)
            assert (await world.ask(world.outside, HOST, 8080)).startswith("web ")

    asyncio.run(main())


_CHURN = """
import asyncio, sys
from pathlib import Path
from hyperd.networks import Networks, NetworkSpec, PortMap, Settings
async def main():
    root = Path(sys.argv[1])
    networks = Networks(root / "records", run=root / "netns", settings=Settings(resolvers=("203.0.113.2",)))
    await networks.restore()
    print("ready", flush=True)
    number = 0
    while True:
        number += 1
        pod = f"p{number}"
        path = await networks.make_netns(pod)
        await networks.attach(pod, path, egress_bandwidth=10**7)
        net = await networks.create(NetworkSpec(name=f"n{number}"))
        await networks.attach(pod, path, net.name)
        await networks.publish(pod, [PortMap(10000 + number, 80)])
        if number > 2:
            await networks.remove_netns(f"p{number - 2}")
            await networks.remove(f"n{number - 2}")
        print(number, flush=True)
asyncio.run(main())
"""


def test_sigkill_anywhere_leaves_nothing_that_restore_does_not_settle(world: World) -> None:
    async def main() -> None:
        for delay_s in (0.0, 0.02, 0.05):
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                _CHURN,
                str(world.root),
                stdout=asyncio.subprocess.PIPE,
                cwd=Path(__file__).parents[3],
            )
            assert child.stdout is not None
            while await asyncio.wait_for(child.stdout.readline(), DEADLINE_S) not in (b"3\n", b""):
                pass
            await asyncio.sleep(delay_s)  # where it is killed is to vary
            child.send_signal(signal.SIGKILL)
            await child.wait()
            networks = world.networks()
            await networks.restore()
            seen = await picture(world)
            bridges = {net.bridge for net in networks.list()}
            pods = {path.name for path in (world.root / "netns").iterdir()}
            wanted = {item.link for pod in pods for item in networks.attachments(pod)}
            shapers = {
                "hi" + item.link[2:] for pod in pods for item in networks.attachments(pod) if item.egress_bandwidth
            }
            there = {link["ifname"] for link in links(world)}
            assert there == {"lo", "up0"} | bridges | wanted | shapers
            await networks.restore(pods)
            assert await picture(world) == seen
            addresses = [text for pod in pods for item in networks.attachments(pod) for text in item.addresses]
            assert len(addresses) == len(set(addresses))
            await networks.restore(set())
            for net in networks.list():
                if net.name != "default":
                    await networks.remove(net.name)
            assert {link["ifname"] for link in links(world)} == {"lo", "up0", "hyper0"}
            await networks.close()
        await networks.clear()
        assert {link["ifname"] for link in links(world)} == {"lo", "up0"}
        assert await world.run("", "nft", "list", "ruleset") == ""

    asyncio.run(main())


def test_networks_that_stand_in_the_way(world: World) -> None:
    async def main() -> None:
        async with running(
            world, Settings(default=NetworkSpec(name="default", bridge="hyper0", subnets=("203.0.0.0/16",)))
        ) as networks:
            assert networks.find("default").subnets[0] == "10.210.0.0/24", "the default network did not give way"
            await world.run("", "ip", "link", "add", "taken0", "type", "bridge")
            for spec, text in (
                (NetworkSpec(name="default"), "there is one of this name"),
                (NetworkSpec(name="x", bridge="hyper0"), "another network has it"),
                (NetworkSpec(name="x", bridge="taken0"), "is not ours"),
                (
                    NetworkSpec(name="x", subnets=("203.0.113.0/28",)),
                    "overlaps with the route to 203.0.113.0/24 by up0",
                ),
                (NetworkSpec(name="x", subnets=("10.210.0.0/16",)), "overlaps with the subnet of network default"),
            ):
                with pytest.raises(ConflictError, match=text):
                    await networks.create(spec)
            assert [net.name for net in networks.list()] == ["default"]
            assert await networks.check() == ()
            await world.run("", "ip", "route", "add", "10.210.0.128/25", "via", OUTSIDE)
            (told,) = await networks.check()
            assert told == "network default: its subnet 10.210.0.0/24 overlaps with the route to 10.210.0.128/25 by up0"
            await world.run("", "ip", "route", "del", "10.210.0.128/25")
            await networks.attach("p", await networks.make_netns("p"))
            await networks.create(NetworkSpec(name="blue"))
            await networks.attach("p", world.pod("p"), "blue")
            with pytest.raises(ConflictError, match="network blue: 1 pods are attached"):
                await networks.remove("blue")
            await networks.detach("p", "blue")
            await networks.remove("blue")
            with pytest.raises(ConflictError, match="the default one"):
                await networks.remove("default")
            await networks.create(NetworkSpec(name="red"))
            before = await picture(world)
            for options, text in (
                ({"name": "a/b"}, "interface name"),
                ({"name": "lo"}, "interface name"),
                ({"name": "eth0"}, "has it already"),
                ({"mtu": 9000}, "MTU 9000"),
                ({"mac": "01:00:00:00:00:01"}, "a group's"),
                ({"addresses": ("10.0.0.1",)}, "not one of a host"),
                ({"names": ("a b",)}, "not a name of DNS"),
                ({"egress_bandwidth": -1}, "bandwidth"),
                ({"path": "/nowhere"}, "no network namespace at /nowhere"),
                ({"path": "/proc/thread-self/ns/net"}, "the host's"),
                ({"network": "nothing"}, "no such network: nothing"),
            ):
                with pytest.raises(HyperError, match=text):
                    await networks.attach("p", **({"path": world.pod("p"), "network": "red"} | options))
            await world.run("p", "ip", "link", "add", "eth7", "type", "bridge")
            with pytest.raises(ConflictError, match="cannot connect pod p to network red: File exists"):
                await networks.attach("p", world.pod("p"), "red", name="eth7")
            assert await picture(world) == before

    asyncio.run(main())


def test_callers_that_go_away_leave_whole_things(world: World) -> None:
    """Many at once, and half of them cancelled in the middle: each pod has everything or nothing, and can be taken away."""

    async def main() -> None:
        async with running(world) as networks:

            async def come(pod: str) -> None:
                path = await networks.make_netns(pod)
                await networks.attach(pod, path, names=(pod,))
                await networks.publish(pod, [PortMap(0, 80)])

            tasks = [asyncio.create_task(come(f"p{number}")) for number in range(12)]
            await asyncio.sleep(0.1)  # into the middle of it, wherever that is
            for task in tasks[::2]:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in done if one is not None), done
            assert [networks.ports(f"p{number}") != () for number in range(1, 12, 2)] == [True] * 6
            pods = [f"p{number}" for number in range(12)]
            before = await picture(world)
            assert (await networks.restore(pods)).remade == ()
            assert await picture(world) == before
            await asyncio.gather(*(networks.remove_netns(pod) for pod in pods))
            assert {link["ifname"] for link in links(world)} == {"lo", "up0", "hyper0"}
            assert "elements = { tcp" not in await world.run("", "nft", "list", "ruleset")

    asyncio.run(main())
