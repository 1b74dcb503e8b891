"""setup's network, and what is asked of it later, on links of this machine's kernel."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from .client import AgentError, Json
from .harness import Guest

CARD = "0a:72:75:6e:76:00"
MAC = "02:00:5e:10:00:02"


def ip(guest: Guest, *words: str) -> str:
    command = ["nsenter", "-t", str(guest.pid), "-n", "ip", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def add_card(guest: Guest, card: str = CARD, name: str = "card0") -> None:
    ip(guest, "link", "add", name, "address", card, "type", "veth", "peer", "name", f"{name}peer")
    ip(guest, "link", "set", f"{name}peer", "up")


def interface(**members: Any) -> Json:
    return {"card": CARD, "mac": MAC, "name": "eth0", "addresses": ["10.0.0.2/24", "fd00::2/64"]} | members


def listed(guest: Guest) -> dict[str, Json]:
    return {entry["name"]: entry for entry in guest.control.call("interfaces")["interfaces"]}


def refusal(guest: Guest, op: str = "setup", **args: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        guest.control.call(op, **args)
    return caught.value


def test_a_card_becomes_its_link(guest: Guest) -> None:
    add_card(guest)
    ip(guest, "link", "set", "card0", "up")
    guest.control.call("setup", interfaces=[interface(mtu=1400)])
    entry = listed(guest)["eth0"]
    assert (entry["mac"], entry["mtu"], entry["up"]) == (MAC, 1400, True)
    assert {"10.0.0.2/24", "fd00::2/64"} <= set(entry["addresses"])
    assert "lo" not in listed(guest)


def test_without_arp_and_down(guest: Guest) -> None:
    add_card(guest)
    guest.control.call("setup", interfaces=[interface(arp=False, up=False)])
    (link,) = json.loads(ip(guest, "-j", "link", "show", "eth0"))
    assert "NOARP" in link["flags"]
    assert "UP" not in link["flags"]


def test_addresses_come_and_go(guest: Guest) -> None:
    add_card(guest, MAC)
    guest.control.call("setup", interfaces=[interface(card=MAC)])
    again = interface(card=MAC, addresses=["10.0.0.2/24", "10.0.0.3/24"], removed_addresses=["fd00::2/64"])
    guest.control.call("setup", interfaces=[again])
    addresses = [address for address in listed(guest)["eth0"]["addresses"] if not address.startswith("fe80")]
    assert sorted(addresses) == ["10.0.0.2/24", "10.0.0.3/24"]
    error = refusal(guest, interfaces=[interface(card=MAC, removed_addresses=["10.9.9.9/24"])])
    assert str(error) == "failed: cannot remove address 10.9.9.9/24: cannot assign requested address"


def test_routes_and_rules(guest: Guest) -> None:
    add_card(guest)
    add_card(guest, "0a:72:75:6e:76:01", "card1")
    second = {"card": "0a:72:75:6e:76:01", "mac": MAC, "name": "eth1", "addresses": ["10.1.0.2/24"]}
    hops = [{"interface": "eth0", "gateway": "10.0.0.1", "weight": 3}, {"interface": "eth1", "gateway": "10.9.0.1", "onlink": True}]
    network = {
        "routes": [
            {"destination": "0.0.0.0/0", "gateway": "10.0.0.1", "interface": "eth0", "mtu": 1300, "advmss": 1200},
            {"destination": "10.2.0.0/16", "hops": hops},
            {"destination": "10.3.0.0/16", "gateway": "10.1.0.1", "interface": "eth1", "table": 1000, "metric": 9},
            {"destination": "10.4.0.0/16", "type": "blackhole"},
            {"destination": "fd04::/64", "type": "unreachable"},
            {"destination": "10.5.0.0/16", "gateway": "fd00::1", "interface": "eth0"},
        ],
        "rules": [
            {"family": 4, "priority": 50, "table": 1000, "source": "10.1.0.0/24", "input": "eth1", "mark": 3, "mask": 7},
            {"family": 6, "priority": 51, "type": "prohibit", "destination": "fd09::/64", "inverted": True},
        ],
        "neighbours": [{"interface": "eth0", "address": "10.0.0.9", "mac": MAC}],
    }
    guest.control.call("setup", interfaces=[interface(), second])
    for _ in range(2):  # what is there is no error
        guest.control.call("setup", **network)
    shown = " ".join((ip(guest, "route", "show", "table", "all") + ip(guest, "-6", "route") + ip(guest, "rule") + ip(guest, "-6", "rule")).split())
    for part in (
        "default via 10.0.0.1 dev eth0 mtu 1300 advmss 1200",
        "10.2.0.0/16 nexthop via 10.0.0.1 dev eth0 weight 3 nexthop via 10.9.0.1 dev eth1 weight 1 onlink",
        "10.3.0.0/16 via 10.1.0.1 dev eth1 table 1000 metric 9",
        "blackhole 10.4.0.0/16",
        "unreachable fd04::/64",
        "10.5.0.0/16 via inet6 fd00::1 dev eth0",
        "50: from 10.1.0.0/24 fwmark 0x3/0x7 iif eth1 lookup 1000",
        "51: not from all to fd09::/64 prohibit",
    ):
        assert part in shown, shown
    assert shown.count("50: from") == 1
    assert f"10.0.0.9 dev eth0 lladdr {MAC} PERMANENT" in ip(guest, "neighbour")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"interfaces": [interface(card="x")]}, "args.interfaces[0].card is not a link address"),
        ({"interfaces": [interface(mac="0:1")]}, "args.interfaces[0].mac is not a link address"),
        ({"routes": [{"destination": "10.0.0.0/33"}]}, "args.routes[0].destination is not an address"),
        ({"routes": [{"destination": "10.0.0.0/8", "type": "odd"}]}, "args.routes[0].type is not one that is known"),
        ({"routes": [{"destination": "fd00::/8", "gateway": "10.0.0.1"}]}, "args.routes[0] mixes IPv4 and IPv6"),
        ({"routes": [{"destination": "10.0.0.0/8", "source": "fd00::1"}]}, "args.routes[0] mixes IPv4 and IPv6"),
        ({"routes": [{"destination": "10.0.0.0/8", "hops": [{}] * 33}]}, "args.routes[0].hops are more than 32"),
        ({"routes": [{"destination": "10.0.0.0/8", "hops": [{"weight": 257}]}]}, "args.routes[0].hops[0].weight"),
        ({"routes": [{"destination": "10.0.0.0/8", "interface": "none0"}]}, "cannot find network interface none0"),
        ({"rules": [{"priority": 1}]}, "args.rules[0].family"),
        ({"rules": [{"family": 4, "priority": 1, "source": "fd00::/8"}]}, "args.rules[0] mixes IPv4 and IPv6"),
        ({"rules": [{"family": 4, "priority": 1, "input": "i" * 16}]}, "args.rules[0] names an interface longer"),
    ],
)
def test_refused(guest: Guest, args: Json, message: str) -> None:
    assert message in str(refusal(guest, **args))


def test_thirty_two_hops_fit(guest: Guest) -> None:
    add_card(guest)
    hops = [{"interface": "eth0", "gateway": f"fd00::{number + 16:x}", "weight": 256} for number in range(32)]
    guest.control.call("setup", interfaces=[interface()], routes=[{"destination": "10.2.0.0/16", "hops": hops, "mtu": 1300}])
    assert ip(guest, "route", "show", "10.2.0.0/16").count("nexthop") == 32


def test_unplug(guest: Guest) -> None:
    error = refusal(guest, "unplug", card=CARD)
    assert error.kind == "not-found"
    add_card(guest)  # a link, but no card in a slot
    error = refusal(guest, "unplug", card=CARD)
    assert error.kind == "not-found"
    assert refusal(guest, "unplug", card="x").kind == "invalid"
    assert refusal(guest, "unplug").kind == "invalid"
