"""What of a network namespace goes into the guest, and how its agent is told. Messages are as the kernel gives them."""

import json
import os
import socket
import struct
from pathlib import Path

import pytest

from runv.errors import HostError, RunvError, StateError
from runv.network import devices, look, netns, plan
from runv.network.links import Found, Hop, Link, Neighbour, Route, Rule, from_json, to_json
from runv.network.names import names_in
from runv.network.netlink import attribute, attributes, number, text
from runv.network.wire import Card
from runv.sandbox.layout import SandboxFolder
from runv.sandbox.links import interfaces, network
from runv.sandbox.links.interfaces import Change
from runv.sandbox.links.leaving import letting_go
from runv.sandbox.links.netrecord import NetRecord

MAC = "02:00:00:00:00:01"
ETH0 = Link(3, "eth0", MAC, 1400, True, ("10.0.0.2/24", "fd00::2/64"), kind="veth")
ETH1 = ETH0._replace(ifindex=4, name="eth1", mac="02:00:00:00:00:02", addresses=())
V4, V6 = socket.AF_INET, socket.AF_INET6

Members = dict[str, bytes | str | int | None]
NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
"""


def ip(text: str) -> bytes:
    return socket.inet_pton(V6 if ":" in text else V4, text)


def link(hardware: int = 1, flags: int = 1, **changes: bytes | str | int | None) -> bytes:
    """RTM_NEWLINK as of ``ETH0``."""
    kind = attribute(1, "veth")
    base: Members = {"_3": "eth0", "_1": bytes.fromhex(MAC.replace(":", "")), "_4": 1400, "_18": kind}
    return struct.pack("=BxHiII", 0, hardware, 3, flags, 0) + packed(base | changes)


def packed(members: Members) -> bytes:
    """Attributes from ``{"_KIND": value}``."""
    return b"".join(attribute(int(kind[1:]), value) for kind, value in members.items() if value is not None)


def route(
    *, family: int = V4, length: int = 0, table: int = 254, proto: int = 3, scope: int = 0, kind: int = 1, flags: int = 0,
    **changes: bytes | str | int | None,
) -> bytes:  # fmt: skip
    """RTM_NEWROUTE: the default route, unless ``changes`` say otherwise."""
    base: Members = {"_4": 3, "_5": ip("10.0.0.1")}
    header = struct.pack("=BBBBBBBBI", family, length, 0, 0, table, proto, scope, kind, flags)
    return header + packed(base | changes)


def hop(index: int, gateway: str, flags: int = 0, weight: int = 1) -> bytes:
    body = attribute(5, ip(gateway))
    return struct.pack("=HBBi", 8 + len(body), flags, weight - 1, index) + body


def neighbour(index: int = 3, state: int = 0x80, flags: int = 0, **changes: bytes | str | int | None) -> bytes:
    base: Members = {"_1": ip("10.0.0.9"), "_2": bytes.fromhex(MAC.replace(":", ""))}
    return struct.pack("=BxxxiHBB", V4, index, state, flags, 0) + packed(base | changes)


def rule(
    *, family: int = V4, to: int = 0, source: int = 0, tos: int = 0, action: int = 1, flags: int = 0, **changes: bytes | str | int | None
) -> bytes:
    base: Members = {"_6": 50, "_15": 100, "_14": 0xFFFFFFFF}
    return struct.pack("=BBBBBBBBI", family, to, source, tos, 100, 0, 0, action, flags) + packed(base | changes)


def test_attributes() -> None:
    data = attribute(1, "eth0") + attribute(4, 1500) + attribute(0x8002, b"abc")
    assert len(data) % 4 == 0
    found = attributes(data)
    assert (text(found.get(1)), number(found.get(4)), found[2]) == ("eth0", 1500, b"abc")
    assert (text(found.get(9)), number(found.get(9), 7)) == ("", 7)


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x02\x00\x01\x00", b"\x09\x00\x01\x00abcd", b"\0" * 8])
def test_attributes_that_are_cut_off(data: bytes) -> None:
    assert attributes(data) == {}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([], []),
        (["lo"], []),
        (["lo", "sit0", "gretap0", "runv-tap0"], []),
        (["lo", "eth0", "net1", "a:b"], ["eth0", "net1", "a:b"]),
    ],
)
def test_names(names: list[str], wanted: list[str]) -> None:
    lines = "".join(f"{name:>6}:       0       0    0    0    0     0          0         0\n" for name in names)
    assert names_in(NET_DEV + lines) == wanted


def test_a_link() -> None:
    assert look.link_of(link()) == ETH0._replace(addresses=())
    assert look.link_of(link(flags=0x80)) == ETH0._replace(addresses=(), up=False, arp=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"_3": "lo"},
        {"_3": "gretap0"},
        {"_3": "runv-tap0"},
        {"hardware": 772},
        {"_1": None},
        {"_1": bytes(6)},
        {"_1": b"\x0a\0\0\1"},
        {"_10": 7},
    ],
)
def test_links_that_stay(changes: dict[str, int]) -> None:
    assert look.link_of(link(**changes)) is None


@pytest.mark.parametrize(
    ("family", "scope", "address", "wanted"),
    [
        (V4, 0, "10.0.0.2", "10.0.0.2/24"),
        (V4, 253, "169.254.1.1", "169.254.1.1/24"),
        (V4, 254, "127.0.0.1", ""),
        (V6, 0, "fd00::2", "fd00::2/24"),
        (V6, 253, "fe80::2", ""),
    ],
)
def test_addresses(family: int, scope: int, address: str, wanted: str) -> None:
    assert look.address_of(struct.pack("=BBBBI", family, 24, 0, scope, 3) + attribute(1, ip(address))) == wanted


def test_the_address_of_a_peer_is_not_ours() -> None:
    both = attribute(1, ip("10.0.0.1")) + attribute(2, ip("10.0.0.2"))
    assert look.address_of(struct.pack("=BBBBI", V4, 32, 0, 0, 3) + both) == "10.0.0.2/32"


HOPS = (Hop("eth0", "10.0.0.4"), Hop("eth1", "10.1.0.4", onlink=True, weight=5))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, Route("0.0.0.0/0", "eth0", "10.0.0.1")),
        ({"flags": 4}, Route("0.0.0.0/0", "eth0", "10.0.0.1", onlink=True)),
        (
            {"_1": ip("192.0.2.0"), "length": 24, "_6": 7, "_7": ip("10.0.0.2")},
            Route("192.0.2.0/24", "eth0", "10.0.0.1", "10.0.0.2", metric=7),
        ),
        (
            {"_1": ip("10.0.0.1"), "length": 32, "_5": None, "scope": 253, "proto": 2},
            Route("10.0.0.1/32", "eth0", scope=253),
        ),
        ({"family": V6, "_5": ip("fd00::1")}, Route("::/0", "eth0", "fd00::1")),
        ({"_5": None, "_18": struct.pack("=H", V6) + ip("fe80::1")}, Route("0.0.0.0/0", "eth0", "fe80::1")),
        ({"_15": 1000}, Route("0.0.0.0/0", "eth0", "10.0.0.1", table=1000)),
        ({"_8": attribute(2, 1300) + attribute(8, 1200)}, Route("0.0.0.0/0", "eth0", "10.0.0.1", mtu=1300, advmss=1200)),
        ({"kind": 6, "_4": None, "_5": None}, Route("0.0.0.0/0", type="blackhole")),
        ({"kind": 7, "family": V6, "_4": 1, "_5": None}, Route("::/0", type="unreachable")),
        (
            {"_4": None, "_5": None, "_9": hop(3, "10.0.0.4") + hop(4, "10.1.0.4", 4, 5)},
            Route("0.0.0.0/0", hops=HOPS),
        ),
        ({"_4": None, "_5": None, "_9": hop(3, "10.0.0.4") + hop(9, "10.9.0.4")}, Route("0.0.0.0/0", "eth0", "10.0.0.4")),
    ],
)
def test_routes(changes: dict[str, int], wanted: Route) -> None:
    assert look.route_of(route(**changes), {3: ETH0, 4: ETH1}) == wanted


@pytest.mark.parametrize(
    "changes",
    [
        {"_4": 1},
        {"_4": None},
        {"kind": 2},
        {"table": 255},
        {"_15": 255},
        {"flags": 0x200},
        {"proto": 2, "_1": ip("10.0.0.0"), "length": 24},
        {"proto": 2, "family": V6, "_5": None, "_1": ip("fd00::"), "length": 64},
        {"proto": 2, "family": V6, "_5": None, "_1": ip("fe80::"), "length": 64},
        {"proto": 2, "family": V6, "_5": None, "_1": ip("ff00::"), "length": 8},
        {"proto": 2, "kind": 7, "family": V6, "_4": 1, "_5": None},
    ],
)
def test_routes_that_stay(changes: dict[str, int]) -> None:
    assert look.route_of(route(**changes), {3: ETH0}) is None


def test_neighbours() -> None:
    assert look.neighbour_of(neighbour(), {3: ETH0}) == Neighbour("eth0", "10.0.0.9", MAC)
    for message in (neighbour(1), neighbour(state=2), neighbour(flags=8), neighbour(_2=None)):
        assert look.neighbour_of(message, {3: ETH0}) is None


def test_rules() -> None:
    assert look.rule_of(rule()) == Rule(4, 50, table=100)
    full = rule(source=24, to=8, flags=2, _1=ip("10.0.0.0"), _2=ip("192.0.2.0"), _3="eth0", _17="eth1", _10=3, _16=7)
    assert look.rule_of(full) == Rule(
        4, 50, "lookup", 100, "192.0.2.0/24", "10.0.0.0/8", "eth0", "eth1", 3, 7, inverted=True
    )
    assert look.rule_of(rule(family=V6, action=8)) == Rule(6, 50, "prohibit", 100)


@pytest.mark.parametrize("changes", [{"_6": 0}, {"_6": 32766}, {"tos": 4}, {"action": 2}, {"_20": bytes(8)}, {"_14": 0}])
def test_rules_that_stay(changes: dict[str, int]) -> None:
    assert look.rule_of(rule(**changes)) is None


FOUND = Found(
    (ETH0, ETH1),
    (Route("0.0.0.0/0", "eth0", "10.0.0.1"), Route("10.9.0.0/16", hops=HOPS), Route("10.8.0.0/16", type="blackhole")),
    (Neighbour("eth0", "10.0.0.9", MAC),),
    (Rule(4, 0, table=7),),
)


def test_what_is_found_survives_json() -> None:
    assert from_json(json.loads(json.dumps(to_json(FOUND)))) == FOUND


DEFAULT = {"destination": "0.0.0.0/0", "interface": "eth0", "gateway": "10.0.0.1", "type": "unicast", "table": 254, "hops": []}
BOTH = {
    "destination": "10.9.0.0/16", "type": "unicast", "table": 254,
    "hops": [
        {"interface": "eth0", "gateway": "10.0.0.4", "weight": 1},
        {"interface": "eth1", "gateway": "10.1.0.4", "onlink": True, "weight": 5},
    ],
}  # fmt: skip


def test_setup() -> None:
    told = plan.setup(FOUND, {"eth0": 10}, first=True)
    assert told["interfaces"] == [
        {
            "card": "0a:72:75:6e:76:0a", "mac": MAC, "name": "eth0", "mtu": 1400, "up": True, "arp": True,
            "addresses": ["10.0.0.2/24", "fd00::2/64"],
        }
    ]  # fmt: skip
    assert told["routes"] == [
        {name: value for name, value in DEFAULT.items() if value},
        BOTH,
        {"destination": "10.8.0.0/16", "type": "blackhole", "table": 254},
    ]
    assert told["rules"] == [{"family": 4, "priority": 0, "type": "lookup", "table": 7}]
    assert told["neighbours"] == [{"interface": "eth0", "address": "10.0.0.9", "mac": MAC}]


def test_setup_of_one_link_more() -> None:
    told = plan.setup(FOUND, {"eth1": 1}, first=False)
    assert [entry["name"] for entry in told["interfaces"]] == ["eth1"]
    assert told["routes"] == [BOTH]
    assert told["neighbours"] == []
    assert plan.setup(FOUND, {}, first=True) == {}


def test_no_two_cards_have_one_address() -> None:
    assert len({plan.card_address(number) for number in range(256)}) == 256


@pytest.mark.parametrize(("vcpus", "queues"), [(0, 1), (1, 1), (2, 2), (64, 4)])
def test_queues(vcpus: int, queues: int) -> None:
    assert plan.queues(vcpus) == queues


def test_too_many_links_are_refused() -> None:
    plan.check(16)
    with pytest.raises(RunvError, match="at most 16"):
        plan.check(17)


def test_work_in_a_child_hands_back_a_result_and_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runv.linux.join", lambda path, kind: None)

    def work() -> netns.Result:
        reader, writer = os.pipe()
        os.write(writer, b"hello")
        return {"long": "x" * 300_000}, [reader]

    result, (fd,) = netns.inside("/proc/self/ns/net", "work", work)
    assert len(result["long"]) == 300_000
    assert os.read(fd, 9) == b"hello"
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(1, "", "runv-tap0"), "cannot work: runv-tap0: operation not permitted"),
        (RuntimeError("netlink says no"), "cannot work: netlink says no"),
    ],
)
def test_work_in_a_child_that_fails(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    monkeypatch.setattr("runv.linux.join", lambda path, kind: None)

    def work() -> netns.Result:
        raise error

    with pytest.raises(HostError) as caught:
        netns.inside("/proc/self/ns/net", "work", work)
    assert str(caught.value) == message


def test_a_namespace_that_is_gone() -> None:
    with pytest.raises(HostError, match=r"cannot work: /gone: no such file or directory"):
        netns.inside("/gone", "work", lambda: (None, []))


@pytest.fixture
def sandbox(tmp_path: Path) -> SandboxFolder:
    folder = SandboxFolder(str(tmp_path), "s1")
    os.makedirs(folder.folder)
    return folder


def test_without_links_nothing_is_done(monkeypatch: pytest.MonkeyPatch, sandbox: SandboxFolder) -> None:
    monkeypatch.setattr("runv.sandbox.links.network.read_text", lambda path: NET_DEV + "    lo: 0 0\n")
    monkeypatch.setattr("runv.network.wire.connect", lambda *_: pytest.fail("looked at by netlink"))
    assert network.bring_in(sandbox, os.getpid(), 1, spare=False) == ((), {})
    assert os.listdir(sandbox.folder) == []


@pytest.mark.parametrize(("change", "expected"), [(0, [["eth0"]]), (1, [])])
def test_only_the_same_namespace_is_let_go(
    monkeypatch: pytest.MonkeyPatch, sandbox: SandboxFolder, change: int, expected: list[object]
) -> None:
    done: list[object] = []
    monkeypatch.setattr("runv.network.wire.disconnect", lambda namespace, names: done.append(names))
    status = os.stat("/proc/self/ns/net")
    record = {"device": status.st_dev, "inode": status.st_ino + change, "links": ["eth0"]}
    Path(sandbox.path("network.json")).write_text(json.dumps({"namespace": "/proc/self/ns/net", **record}))
    with letting_go(NetRecord(sandbox)):
        assert done == []
    assert done == expected


def test_what_is_written_down_is_read_back(sandbox: SandboxFolder) -> None:
    record = NetRecord(sandbox)
    assert not record.outlives
    record.lent, record.cards, record.made = [["eno1", "eth0", True]], [[0, "eth0", 3, ""]], ["eth1"]
    record.save()
    again = NetRecord(sandbox)
    assert vars(again) == vars(record)
    assert again.outlives
    assert network.cards_of(again) == (Card(0, "eth0", 3),)


def test_when_there_is_nothing_to_bring_in(sandbox: SandboxFolder) -> None:
    record = NetRecord(sandbox)
    assert record.settled([])
    assert not record.settled(["eth0"])
    record.links, record.cards = ["eth0"], [[0, "eth0", 3, ""]]
    assert record.settled(["eth0"])
    assert not record.settled(["eth0", "eth1"])
    record.links, record.cards = [], [[plan.SPARE, "", 0, ""]]
    assert record.settled([])
    assert not record.settled(["eth0"])


def test_a_record_that_cannot_be_read(sandbox: SandboxFolder) -> None:
    Path(sandbox.path("network.json")).write_text("{")
    with pytest.raises(StateError, match=r"cannot read .*network.json"):
        NetRecord(sandbox)


@pytest.mark.parametrize(("name", "good"), [("eth0", True), ("", False), ("a" * 16, False), ("a/b", False), ("..", False), ("a b", False)])
def test_names_of_links(name: str, good: bool) -> None:
    assert devices.is_name(name) == good


@pytest.mark.parametrize(
    ("mac", "good"), [(MAC, True), ("01:00:5e:00:00:01", False), ("0" * 12, False), ("00:00:00:00:00:00", False), ("02:00:00:00:00:g1", False)]
)
def test_addresses_of_links(mac: str, good: bool) -> None:
    assert devices.is_mac(mac) == good


def test_addresses_are_written_as_the_kernel_writes_them() -> None:
    change = interfaces.check(Change(addresses=("10.0.0.2/24", "FD00:0::2/64"), removed=("10.0.0.3",)))
    assert (change.addresses, change.removed) == (("10.0.0.2/24", "fd00::2/64"), ("10.0.0.3/32",))
    for bad in (Change(addresses=("10.0.0.300/24",)), Change(removed=("x",)), Change(mac="ff:ff:ff:ff:ff:ff")):
        with pytest.raises(RunvError):
            interfaces.check(bad)
