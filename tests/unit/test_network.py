"""What of a network namespace goes into the guest, and how its agent is told. Messages are as netlink's library gives them."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from runv.errors import HostError, RunvError
from runv.network import look, netns, plan
from runv.network.links import Found, Link, Neighbour, Route, from_json, names_in, to_json
from runv.sandbox import network
from runv.sandbox.layout import SandboxFolder

MAC = "02:00:00:00:00:01"
ETH0 = Link(3, "eth0", MAC, 1400, True, ("10.0.0.2/24", "fd00::2/64"))
NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
"""


class Message(dict[str, Any]):
    """Header fields in lower case are items; attributes are in upper case."""

    def get_attr(self, name: str) -> Any:
        return self.get(name)


def link(**changes: Any) -> Message:
    base = {"index": 3, "flags": 1, "ifi_type": 1, "IFLA_IFNAME": "eth0", "IFLA_ADDRESS": MAC, "IFLA_MTU": 1400}
    return Message({**base, **changes})


def route(**changes: Any) -> Message:
    base = {
        "family": socket.AF_INET, "dst_len": 0, "table": 254, "type": 1, "proto": 3, "scope": 0, "flags": 0,
        "RTA_OIF": 3, "RTA_GATEWAY": "10.0.0.1",
    }  # fmt: skip
    return Message({**base, **changes})


def neighbour(**changes: Any) -> Message:
    base = {"ifindex": 3, "state": 0x80, "flags": 0, "NDA_DST": "10.0.0.9", "NDA_LLADDR": MAC}
    return Message({**base, **changes})


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
    assert look.carried(link())
    assert look.link_of(link(), ETH0.addresses) == ETH0


@pytest.mark.parametrize(
    "changes",
    [
        {"IFLA_IFNAME": "lo"},
        {"IFLA_IFNAME": "gretap0"},
        {"IFLA_IFNAME": "runv-tap0"},
        {"ifi_type": 772},
        {"IFLA_ADDRESS": None},
        {"IFLA_ADDRESS": "00:00:00:00:00:00"},
        {"IFLA_MASTER": 7},
    ],
)
def test_links_that_stay(changes: dict[str, Any]) -> None:
    assert not look.carried(link(**changes))


@pytest.mark.parametrize(
    ("family", "scope", "address", "wanted"),
    [
        (socket.AF_INET, 0, "10.0.0.2", "10.0.0.2/24"),
        (socket.AF_INET, 253, "169.254.1.1", "169.254.1.1/24"),
        (socket.AF_INET, 254, "127.0.0.1", ""),
        (socket.AF_INET6, 0, "fd00::2", "fd00::2/24"),
        (socket.AF_INET6, 253, "fe80::2", ""),
    ],
)
def test_addresses(family: int, scope: int, address: str, wanted: str) -> None:
    message = Message({"family": family, "scope": scope, "prefixlen": 24, "IFA_ADDRESS": address})
    assert look.address_of(message) == wanted


def test_the_address_of_a_peer_is_not_ours() -> None:
    message = Message({"family": 2, "scope": 0, "prefixlen": 32, "IFA_ADDRESS": "10.0.0.1", "IFA_LOCAL": "10.0.0.2"})
    assert look.address_of(message) == "10.0.0.2/32"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, Route("0.0.0.0/0", "eth0", "10.0.0.1")),
        ({"flags": 4}, Route("0.0.0.0/0", "eth0", "10.0.0.1", onlink=True)),
        (
            {"RTA_DST": "192.0.2.0", "dst_len": 24, "RTA_PRIORITY": 7, "RTA_PREFSRC": "10.0.0.2"},
            Route("192.0.2.0/24", "eth0", "10.0.0.1", "10.0.0.2", metric=7),
        ),
        (
            {"RTA_DST": "10.0.0.1", "dst_len": 32, "RTA_GATEWAY": None, "scope": 253, "proto": 2},
            Route("10.0.0.1/32", "eth0", scope=253),
        ),
        ({"family": socket.AF_INET6, "RTA_GATEWAY": "fd00::1"}, Route("::/0", "eth0", "fd00::1")),
        (
            {"RTA_OIF": None, "RTA_GATEWAY": None, "RTA_MULTIPATH": [Message(oif=3, flags=0, RTA_GATEWAY="10.0.0.4")]},
            Route("0.0.0.0/0", "eth0", "10.0.0.4"),
        ),
    ],
)
def test_routes(changes: dict[str, Any], wanted: Route) -> None:
    assert look.route_of(route(**changes), {3: ETH0}) == wanted


@pytest.mark.parametrize(
    "changes",
    [
        {"RTA_OIF": 1},
        {"RTA_OIF": None},
        {"type": 6},
        {"table": 255},
        {"RTA_TABLE": 1000},
        {"flags": 0x200},
        {"RTA_VIA": {"family": 10, "addr": "fe80::1"}},
        {"proto": 2, "RTA_DST": "10.0.0.0", "dst_len": 24},
        {"proto": 2, "family": socket.AF_INET6, "RTA_DST": "fd00::", "dst_len": 64},
        {"proto": 2, "family": socket.AF_INET6, "RTA_DST": "fe80::", "dst_len": 64},
        {"proto": 2, "family": socket.AF_INET6, "RTA_DST": "ff00::", "dst_len": 8},
    ],
)
def test_routes_that_stay(changes: dict[str, Any]) -> None:
    assert look.route_of(route(**changes), {3: ETH0}) is None


def test_neighbours() -> None:
    assert look.neighbour_of(neighbour(), {3: ETH0}) == Neighbour("eth0", "10.0.0.9", MAC)
    for changes in ({"ifindex": 1}, {"state": 2}, {"flags": 8}, {"NDA_LLADDR": None}):
        assert look.neighbour_of(neighbour(**changes), {3: ETH0}) is None


FOUND = Found((ETH0,), (Route("0.0.0.0/0", "eth0", "10.0.0.1"),), (Neighbour("eth0", "10.0.0.9", MAC),))


def test_what_is_found_survives_json() -> None:
    assert from_json(json.loads(json.dumps(to_json(FOUND)))) == FOUND


def test_setup() -> None:
    interface = {
        "mac": plan.card_address(0), "new_mac": MAC, "name": "eth0", "mtu": 1400, "up": True, "addresses": ["10.0.0.2/24", "fd00::2/64"],
    }  # fmt: skip
    default = {
        "destination": "0.0.0.0/0", "interface": "eth0", "gateway": "10.0.0.1", "source": "", "scope": 0, "metric": 0,
        "onlink": False,
    }  # fmt: skip
    assert plan.setup(FOUND) == {
        "interfaces": [interface],
        "routes": [default],
        "neighbours": [{"interface": "eth0", "address": "10.0.0.9", "mac": MAC}],
    }
    assert plan.setup(Found()) == {}


def test_how_many_links_a_guest_can_have() -> None:
    plan.check(FOUND)
    plan.check(Found((ETH0, ETH0._replace(name="twin"))))
    many = tuple(ETH0._replace(mac=f"02:00:00:00:00:{number:02x}") for number in range(plan.MAX_LINKS + 1))
    with pytest.raises(RunvError, match="at most 16"):
        plan.check(Found(many))


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
    monkeypatch.setattr("runv.sandbox.network.read_text", lambda path: NET_DEV + "    lo: 0 0\n")
    monkeypatch.setattr("runv.network.wire.connect", lambda namespace: pytest.fail("looked at by netlink"))
    assert network.bring_in(sandbox, os.getpid(), "/run/netns/given") == ((), {})
    assert os.listdir(sandbox.folder) == []


@pytest.mark.parametrize(("change", "expected"), [(0, [("/proc/self/ns/net", ["eth0"])]), (1, [])])
def test_only_the_same_namespace_is_let_go(
    monkeypatch: pytest.MonkeyPatch, sandbox: SandboxFolder, change: int, expected: list[object]
) -> None:
    done: list[object] = []
    monkeypatch.setattr("runv.network.wire.disconnect", lambda namespace, names: done.append((namespace, names)))
    status = os.stat("/proc/self/ns/net")
    record = {"device": status.st_dev, "inode": status.st_ino + change, "links": ["eth0"]}
    Path(sandbox.path("network.json")).write_text(json.dumps({"namespace": "/proc/self/ns/net", **record}))
    network.let_go(sandbox)
    assert done == expected
