"""The DNS server of a network, asked from pods by real packets."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import sys

import dns.flags
import dns.message
import pytest

from hyperd.networks import Attachment, Network, Networks, NetworkSpec
from hyperd.networks.naming import answers, forward
from hyperd.networks.naming.directory import Directory
from hyperd.networks.records import Pod

from .world import DEADLINE_S, OUTSIDE, World, running

SERVER = "192.168.123.1"

# A resolver of the outside: knows example.test, keeps silent about slow.test, has a long text at long.test, and lies about lie.test.
_RESOLVER = """
import socket, selectors, sys
import dns.message, dns.rcode, dns.rrset, dns.flags
HOST = sys.argv[1]
datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagram.bind((HOST, 53))
stream = socket.create_server((HOST, 53))
wait = selectors.DefaultSelector()
wait.register(datagram, selectors.EVENT_READ)
wait.register(stream, selectors.EVENT_READ)
def answer(wire, limited):
    query = dns.message.from_wire(wire)
    name = query.question[0].name.to_text().lower()
    reply = dns.message.make_response(query)
    if name == "slow.test.":
        return None
    if name == "lie.test.":
        return dns.message.make_response(dns.message.make_query("other.test", "A", id=query.id)).to_wire()
    if name == "example.test.":
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "198.51.100.7"))
    elif name == "long.test.":
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *(f'"{n}{"x" * 200}"' for n in range(20))))
        if limited:
            reply.answer.clear()
            reply.flags |= dns.flags.TC
    else:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    return reply.to_wire()
print("ready", flush=True)
while True:
    for key, _ in wait.select():
        if key.fileobj is datagram:
            wire, peer = datagram.recvfrom(4096)
            found = answer(wire, True)
            if found is not None:
                datagram.sendto(found, peer)
        else:
            link, _ = stream.accept()
            with link, link.makefile("rb") as file:
                found = answer(file.read(int.from_bytes(file.read(2), "big")), False)
                link.sendall(len(found).to_bytes(2, "big") + found)
"""
_LOOK = """
import json, sys, dns.message, dns.query, dns.rcode, dns.flags
server, how, *questions = sys.argv[1:]
for text in questions:
    name, kind = text.split()
    query = dns.message.make_query(name, kind, use_edns=how == "edns")
    try:
        if how == "tcp":
            reply = dns.query.tcp(query, server, timeout=10)
        else:
            reply = dns.query.udp(query, server, timeout=10)
    except dns.exception.Timeout:
        print(json.dumps(["TIMEOUT"]))
        continue
    found = [item.to_text() for rrset in reply.answer for item in rrset]
    flags = ["TC"] if reply.flags & dns.flags.TC else []
    print(json.dumps([dns.rcode.to_text(reply.rcode()), *flags, *sorted(found)]))
"""


async def look(world: World, place: str, *questions: str, server: str = SERVER, how: str = "udp") -> list[list[str]]:
    out = await world.python(place, _LOOK, server, how, *questions)
    return [json.loads(line) for line in out.splitlines()]


async def resolver(world: World, address: str = OUTSIDE) -> None:
    command = world.inside(world.outside, sys.executable, "-c", _RESOLVER, address)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    world.processes.append(process)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), DEADLINE_S) == b"ready\n"


async def pod(networks: Networks, name: str, *names: str, network: str = "default") -> tuple[str, ...]:
    item = await networks.attach(name, await networks.make_netns(name), network, names=names)
    return tuple(text.split("/")[0] for text in item.addresses)


def test_names_of_pods_and_of_the_outside(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            await resolver(world)
            web, web6 = await pod(networks, "p1", "web", "www")
            db, db6 = await pod(networks, "p2", "db", "WWW")
            reverse = ".".join(reversed(web.split("."))) + ".in-addr.arpa"
            answers = await look(
                world, "p2", "web A", "WEB.hyper.internal A", "web AAAA", "www A", "web MX", "nobody.hyper.internal A",
                "hyper.internal SOA", f"{reverse} PTR", "250.123.168.192.in-addr.arpa PTR", "example.test A", "missing.test A",
            )  # fmt: skip
            assert answers == [
                ["NOERROR", web],
                ["NOERROR", web],
                ["NOERROR", web6],
                ["NOERROR", *sorted((web, db))],
                ["NOERROR"],
                ["NXDOMAIN"],
                ["NOERROR"],
                ["NOERROR", "web.hyper.internal."],
                ["NXDOMAIN"],
                ["NOERROR", "198.51.100.7"],
                ["NXDOMAIN"],
            ]
            assert await look(world, "p1", "db AAAA", server=networks.find("default").gateways[1]) == [["NOERROR", db6]]
            assert await look(world, "p1", "db A", "example.test A", how="tcp") == [
                ["NOERROR", db],
                ["NOERROR", "198.51.100.7"],
            ]
            assert (await look(world, "p1", "long.test TXT"))[0][:2] == ["NOERROR", "TC"]
            assert len((await look(world, "p1", "long.test TXT", how="tcp"))[0]) == 21
            await networks.detach("p1")
            assert await look(world, "p2", "web.hyper.internal A") == [["NXDOMAIN"]]

    asyncio.run(main())


def test_a_name_is_known_in_its_networks_alone(world: World) -> None:
    async def main() -> None:
        async with running(world) as networks:
            await resolver(world)
            blue = await networks.create(NetworkSpec(name="blue", domain="blue.test"))
            inner = await networks.create(NetworkSpec(name="inner", internal=True))
            await pod(networks, "here", "here")
            (there, _) = await pod(networks, "there", "there", network="blue")
            await pod(networks, "both", "both")
            await pod(networks, "both", "both", network="blue")
            (hidden, _) = await pod(networks, "hidden", "hidden", network="inner")
            assert await look(world, "here", "there.hyper.internal A") == [["NXDOMAIN"]]
            assert await look(world, "both", "there A", "there.blue.test A") == [["NOERROR", there]] * 2
            assert await look(world, "there", "there.blue.test A", server=blue.gateways[0]) == [["NOERROR", there]]
            assert await look(world, "here", "there A", server=blue.gateways[0]) == [["REFUSED"]]
            assert (await look(world, "hidden", "hidden A", "example.test A", server=inner.gateways[0])) == [
                ["NOERROR", hidden],
                ["REFUSED"],
            ]

    asyncio.run(main())


def test_resolvers_that_fail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_EACH_S", 0.4)
    monkeypatch.setattr(forward, "_ALL_S", 1.2)

    async def main() -> None:
        settings = world.settings.__class__(resolvers=("203.0.113.77", OUTSIDE))
        async with running(world, settings) as networks:
            await resolver(world)
            await pod(networks, "p1", "web")
            assert await look(world, "p1", "example.test A") == [["NOERROR", "198.51.100.7"]], (
                "the second one was not asked"
            )
            bad = asyncio.ensure_future(look(world, "p1", "slow.test A"))
            worse = asyncio.ensure_future(look(world, "p1", "lie.test A"))
            assert await look(world, "p1", "web A") == [["NOERROR", "192.168.123.2"]], "it waits for others' questions"
            assert not bad.done()
            assert await bad == await worse == [["SERVFAIL"]]

    asyncio.run(main())


def many() -> Directory:
    """A hundred pods with one name."""
    net = Network(
        name="n", created="", subnets=("10.0.0.0/24",), gateways=("10.0.0.1",), bridge="b", mtu=1500, domain="hyper.internal"
    )  # fmt: skip
    items = [
        Attachment(
            network="n", name="eth0", link="x", addresses=(f"10.0.0.{number + 2}/24",), mac="", mtu=1500, names=("all",)
        )
        for number in range(100)
    ]
    return Directory([net], [Pod(id=f"p{number}", netns="", attachments=(item,)) for number, item in enumerate(items)])


@pytest.mark.parametrize(
    ("payload", "limited", "found"), [(0, True, 0), (600, True, 0), (4096, True, 0), (600, False, 100), (0, False, 100)]
)
def test_long_answers_are_cut_where_they_must_be(payload: int, limited: bool, found: int) -> None:
    query = dns.message.make_query("all", "A", use_edns=bool(payload), payload=payload or None)
    wire = answers.reply(many(), "n", ipaddress.ip_address("10.0.0.9"), query.to_wire(), limited=limited).wire
    reply = dns.message.from_wire(wire)
    assert sum(len(rrset) for rrset in reply.answer) == found
    assert bool(reply.flags & dns.flags.TC) is (found == 0)
    assert not limited or len(wire) <= 512


def test_whatever_comes_is_answered_or_passed_over() -> None:
    seed = random.randrange(1 << 30)
    random.seed(seed)
    directory, asker = many(), ipaddress.ip_address("10.0.0.9")
    kinds = [("all", "A"), ("all", "ANY"), ("9.0.0.10.in-addr.arpa", "PTR"), ("x.test", "A")]
    seeds = [
        dns.message.make_query(name, kind, use_edns=edns).to_wire() for name, kind in kinds for edns in (True, False)
    ]
    for _ in range(1500):
        wire = bytearray(random.choice(seeds))
        for _ in range(random.randrange(6)):
            where = random.randrange(len(wire) + 1)
            change = random.randrange(4)
            if change == 0:
                wire[where : where + 1] = bytes([random.choice((0, 255, 0xC0, 12, random.randrange(256)))])
            elif change == 1:
                wire = wire[:where]
            elif change == 2:
                wire[where:where] = random.randbytes(random.randrange(20))
            else:
                wire += random.choice(seeds)[12:]
        reply = answers.reply(directory, "n", asker, bytes(wire), limited=random.random() < 0.5)
        if reply.wire:
            assert reply.wire[:2] == wire[:2] and reply.wire[2] & 0x80, f"seed {seed}"


_SPRAY = """
import random, socket, sys
random.seed(sys.argv[2])
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.connect((sys.argv[1], 53))
good = bytes.fromhex("123401000001000000000001") + b"\\x03web\\x00\\x00\\x01\\x00\\x01" + bytes.fromhex("0000291000000000000000")
for number in range(3000):
    wire = bytearray(good if number % 3 else random.randbytes(random.randrange(0, 600)))
    for _ in range(random.randrange(4)):
        if wire:
            wire[random.randrange(len(wire))] = random.randrange(256)
    link.send(bytes(wire[: random.randrange(len(wire) + 1)] if number % 5 == 0 else wire))
for number in range(20):
    with socket.create_connection((sys.argv[1], 53)) as stream:
        stream.sendall(random.randbytes(random.randrange(1, 50)))
"""


def test_bad_packets_harm_nobody(world: World) -> None:
    async def main() -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        async with running(world) as networks:
            await resolver(world)
            await pod(networks, "p1", "web")
            seed = str(random.randrange(1 << 30))
            await world.python("p1", _SPRAY, SERVER, seed)
            assert await look(world, "p1", "web A") == [["NOERROR", "192.168.123.2"]], f"seed {seed}"
            assert await look(world, "p1", "web A", how="tcp") == [["NOERROR", "192.168.123.2"]], f"seed {seed}"
        assert not failures, f"seed {seed}: {failures[0]}"

    asyncio.run(main())
