"""Published ports: from everywhere, of every kind, added and taken back; refused where they cannot be."""

import asyncio
import socket
import sys

import pytest

from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError
from hyperd.networks import Networks, NetworkSpec, PortMap, Settings
from hyperd.networks.ports import clash

from .world import DEADLINE_S, HOST, HOST6, OUTSIDE, OUTSIDE6, World, running


async def attached(world: World, networks: Networks, pod: str, *serving: int, network: str = "default") -> str:
    """A pod that answers at ports; its address."""
    item = await networks.attach(pod, await networks.make_netns(pod), network, names=(pod,))
    if serving:
        await world.serve(pod, *serving)
    return item.addresses[0].split("/")[0]


def test_a_port_is_reached_from_everywhere(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            web, other = await attached(world, networks, "web", 80), await attached(world, networks, "other")
            await networks.create(NetworkSpec(name="blue"))
            await attached(world, networks, "far", network="blue")
            await networks.publish("web", [PortMap(8080, 80), PortMap(8080, 80, protocol="udp")])
            for kind in ("tcp", "udp"):
                assert await world.ask(world.outside, HOST, 8080, kind) == f"web {OUTSIDE}", kind
                assert await world.ask(world.outside, HOST6, 8080, kind) == f"web {OUTSIDE6}", kind
                for host in ("127.0.0.1", "::1", HOST, HOST6, "192.168.123.1"):
                    assert (await world.ask("", host, 8080, kind)).startswith("web "), (host, kind)
                for pod in ("web", "other", "far"):
                    for host in (HOST, HOST6):
                        assert (await world.ask(pod, host, 8080, kind)).startswith("web "), (pod, host, kind)
            assert await world.ask("other", web, 80) == f"web {other}", "its own packets were rewritten"

    asyncio.run(main())


def test_ports_come_and_go_while_the_pod_runs(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            await attached(world, networks, "web", 80, 81, 82)
            (chosen,) = await networks.publish("web", [PortMap(0, 80)])
            assert chosen.host_port > 1023
            assert (await world.ask(world.outside, HOST, chosen.host_port)).startswith("web ")
            await networks.publish("web", [PortMap(9000, 80, count=3), PortMap(9100, 80, host_ip=HOST)])
            assert (await world.ask(world.outside, HOST, 9002)).startswith("web ")
            assert (await world.ask(world.outside, HOST, 9100)).startswith("web ")
            assert await world.refused(world.outside, HOST6, 9100)
            assert await world.refused("", "127.0.0.1", 9100)
            await networks.unpublish("web", [PortMap(9000, 80, count=3)])
            assert await world.refused(world.outside, HOST, 9002)
            assert [port.host_port for port in networks.ports("web")] == [chosen.host_port, 9100]
            with pytest.raises(MissingError, match="port 9000/tcp: pod web does not publish it"):
                await networks.unpublish("web", [PortMap(9000, 80)])
            await networks.detach("web")
            assert networks.ports("web") == ()
            with socket.create_server((HOST, 9100)):
                pass  # the port is free again

    asyncio.run(main())


def test_a_port_for_the_host_alone_stays_there(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            await attached(world, networks, "web", 80)
            await attached(world, networks, "other")
            await networks.publish("web", [PortMap(8080, 80, host_ip="127.0.0.1"), PortMap(8080, 80, host_ip="::1")])
            assert (await world.ask("", "127.0.0.1", 8080)).startswith("web ")
            assert (await world.ask("", "::1", 8080)).startswith("web ")
            assert await world.refused(world.outside, HOST, 8080)
            assert await world.refused(world.outside, HOST6, 8080)
            for place, gateway in ((world.outside, HOST), ("other", "192.168.123.1")):
                await world.run(place, "ip", "route", "add", "127.1.0.0/16", "via", gateway)
                await world.run(place, "ip", "route", "add", "table", "9", "127.0.0.1", "via", gateway)
                await world.run(place, "ip", "rule", "add", "pref", "0", "to", "127.0.0.1", "lookup", "9")
                await world.run(place, "ip", "rule", "add", "pref", "1", "lookup", "local")
                await world.run(place, "ip", "rule", "del", "pref", "0", "lookup", "local")
                device = "eth0"
                await world.run(place, "sysctl", "-qw", f"net.ipv4.conf.{device}.route_localnet=1")
                assert await world.refused(place, "127.0.0.1", 8080), place

    asyncio.run(main())


def test_what_cannot_be_published_changes_nothing(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            await attached(world, networks, "web", 80)
            await networks.create(NetworkSpec(name="inner", internal=True))
            await networks.create(NetworkSpec(name="four", ipv6=False))
            await attached(world, networks, "closed", network="inner")
            await attached(world, networks, "old", network="four")
            await networks.publish("web", [PortMap(8080, 80)])
            rules = await world.run("", "nft", "list", "ruleset")
            with socket.create_server(("127.0.0.1", 8090)):
                for pod, ports, kind, text in (
                    ("web", [PortMap(8081, 80), PortMap(8080, 81)], ConflictError, "published by pod web already"),
                    ("old", [PortMap(8079, 80, count=3, host_ip=HOST)], ConflictError, "published by pod web already"),
                    ("web", [PortMap(8081, 80), PortMap(8081, 81)], ConflictError, "port 8081/tcp: published by"),
                    ("web", [PortMap(8081, 80), PortMap(8090, 81)], ConflictError, "port 8090/tcp: in use on the host"),
                    (
                        "web",
                        [PortMap(8081, 80), PortMap(8082, 81, host_ip="192.0.2.77")],
                        InvalidError,
                        "no such address",
                    ),
                    ("web", [PortMap(8081, 80, host_ip="nonsense")], InvalidError, "nonsense"),
                    ("web", [PortMap(8081, 0)], InvalidError, "port 0 of the pod"),
                    ("web", [PortMap(65535, 80, count=2)], InvalidError, "port 65535 of the host"),
                    ("web", [PortMap(1, 1, count=5000)], InvalidError, "at most"),
                    ("web", [PortMap(8081, 80, network="inner")], InvalidError, "is not in network inner"),
                    ("closed", [PortMap(8081, 80)], InvalidError, "no network that ports"),
                    ("closed", [PortMap(8081, 80, network="inner")], InvalidError, "is internal"),
                    ("old", [PortMap(8081, 80, host_ip="::")], InvalidError, "no address of the family"),
                    ("nobody", [PortMap(8081, 80)], MissingError, "pod nobody"),
                ):
                    with pytest.raises(HyperError, match=text) as caught:
                        await networks.publish(pod, ports)
                    assert type(caught.value) is kind, text
            assert await world.run("", "nft", "list", "ruleset") == rules
            with socket.create_server((HOST, 8081)):
                pass  # what was taken half-way was given back
            assert [port.host_port for port in networks.ports("web")] == [8080]

    asyncio.run(main())


def test_a_program_of_the_host_does_not_get_a_published_port(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            await attached(world, networks, "web", 80)
            await networks.publish("web", [PortMap(8080, 80)])
            with pytest.raises(OSError, match="in use"):
                socket.create_server((HOST, 8080))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (PortMap(80, 1), PortMap(80, 2), True),
        (PortMap(80, 1), PortMap(80, 1, protocol="udp"), False),
        (PortMap(80, 1, count=5), PortMap(84, 1), True),
        (PortMap(80, 1, count=5), PortMap(85, 1), False),
        (PortMap(80, 1, host_ip="192.0.2.1"), PortMap(80, 1), True),
        (PortMap(80, 1, host_ip="192.0.2.1"), PortMap(80, 1, host_ip="0.0.0.0"), True),
        (PortMap(80, 1, host_ip="192.0.2.1"), PortMap(80, 1, host_ip="::"), False),
        (PortMap(80, 1, host_ip="192.0.2.1"), PortMap(80, 1, host_ip="192.0.2.2"), False),
        (PortMap(80, 1, host_ip="fd00::1"), PortMap(80, 1, host_ip="fd00:0::1"), True),
    ],
)
def test_what_clashes(one: PortMap, other: PortMap, expected: bool) -> None:
    assert clash(one, other) is expected
    assert clash(other, one) is expected


_TALK = """
import socket, sys
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.settimeout(20)
for line in sys.stdin:
    link.sendto(b"who", (sys.argv[1], 8080))
    print(link.recv(100).decode(), flush=True)
"""


def test_a_sender_that_goes_on_follows_the_port(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            for pod in ("one", "two"):
                await attached(world, networks, pod, 80)
            talk = await asyncio.create_subprocess_exec(
                *world.inside(world.outside, sys.executable, "-c", _TALK, HOST),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            world.processes.append(talk)
            assert talk.stdin is not None and talk.stdout is not None
            for pod in ("one", "two", "one"):
                await networks.publish(pod, [PortMap(8080, 80, protocol="udp")])
                talk.stdin.write(b"\n")
                assert await asyncio.wait_for(talk.stdout.readline(), DEADLINE_S) == f"{pod} {OUTSIDE}\n".encode()
                await networks.unpublish(pod)

    asyncio.run(main())


def test_without_a_packet_filter_ports_are_carried_by_hand(world: World) -> None:
    async def main() -> None:
        async with running(world, Settings(packet_filter=False)) as networks:
            await attached(world, networks, "web", 80)
            await networks.publish("web", [PortMap(8080, 80), PortMap(8080, 80, protocol="udp")])
            for kind in ("tcp", "udp"):
                assert await world.ask(world.outside, HOST, 8080, kind) == "web 192.168.123.1"
            assert await world.run("", "nft", "list", "ruleset") == ""

    asyncio.run(main())
