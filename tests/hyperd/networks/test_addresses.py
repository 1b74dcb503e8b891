"""Which addresses are handed out, and which networks can be: by logic alone."""

from __future__ import annotations

import ipaddress
import random

import pytest

from hyperd.errors import ConflictError, HyperError, InvalidError, UnavailableError
from hyperd.networks import NetworkSpec, Settings, planning
from hyperd.networks.addresses import subnet
from hyperd.networks.leases import Leases
from hyperd.networks.links import Names, Used
from hyperd.networks.records import Attachment, Network, Pod

PREFIX6 = "fd12:3456:789a::/48"


def plan(spec: NetworkSpec, *used: str, movable: bool = False) -> Network:
    host = [Used(subnet(text), f"route to {text} by eth0") for text in used]
    return planning.settle(spec, Settings(), host, bridge="hyper-1", mtu=1500, prefix6=PREFIX6, movable=movable)


def attach(leases: Leases, network: Network, name: str, *wanted: str, mac: str = "") -> Pod:
    found = leases.addresses(network, wanted)
    item = Attachment(
        network=network.name, name="eth0", link="x", mtu=1500,
        addresses=tuple(f"{item}/{text.split('/')[1]}" for item, text in zip(found, network.subnets, strict=True)),
        mac=leases.mac(network, mac, found),
    )  # fmt: skip
    pod = Pod(id=name, netns="", attachments=(item,))
    leases.add(pod)
    return pod


def hosts(pods: list[Pod], version: int) -> set[str]:
    found = [ipaddress.ip_interface(text).ip for pod in pods for item in pod.attachments for text in item.addresses]
    return {str(item) for item in found if item.version == version}


def test_three_hundred_pods_in_a_larger_subnet() -> None:
    network, leases = plan(NetworkSpec(name="big", subnets=("10.1.0.0/22",))), Leases()
    pods = [attach(leases, network, f"p{number}") for number in range(300)]
    assert len(hosts(pods, 4)) == len(hosts(pods, 6)) == len({pod.attachments[0].mac for pod in pods}) == 300
    assert "10.1.1.45" in hosts(pods, 4)
    assert not hosts(pods, 4) & {"10.1.0.0", "10.1.0.1", "10.1.3.255"}
    assert pods[0].attachments[0].addresses == ("10.1.0.2/22", "fd12:3456:789a::2/64")


def test_a_full_network_says_so_and_what_comes_back_is_used_again() -> None:
    network, leases = plan(NetworkSpec(name="small", subnets=("10.1.0.0/29",), ipv6=False)), Leases()
    pods = [attach(leases, network, f"p{number}") for number in range(5)]
    with pytest.raises(UnavailableError, match="no address is free"):
        attach(leases, network, "one too many")
    leases.drop(pods[2])
    again = attach(leases, network, "again")
    assert again.attachments[0].addresses == pods[2].attachments[0].addresses
    assert again.attachments[0].mac == pods[2].attachments[0].mac, "neighbours would remember another"


def test_a_thousand_changes_leak_nothing() -> None:
    """What an index that was changed a thousand times hands out is what one that is made from the records does."""
    random.seed(7)
    network, leases = plan(NetworkSpec(name="n", subnets=("10.1.0.0/26",))), Leases()
    pods: list[Pod] = []
    for number in range(1000):
        if pods and random.random() < 0.5:
            leases.drop(pods.pop(random.randrange(len(pods))))
        elif len(pods) < 61:
            pods.append(attach(leases, network, f"p{number}"))
    assert len(hosts(pods, 4)) == len(pods)
    assert leases.addresses(network, ()) == Leases(pods).addresses(network, ())


def test_static_addresses_and_exclusions() -> None:
    spec = NetworkSpec(
        name="n",
        subnets=("10.1.0.0/24",),
        gateways=("10.1.0.254",),
        excluded=("10.1.0.0-10.1.0.9", "10.1.0.12/31", "10.1.0.15"),
    )
    network, leases = plan(spec), Leases()
    one = attach(leases, network, "one", "10.1.0.5", mac="02:00:00:00:00:05")
    assert one.attachments[0].addresses[0] == "10.1.0.5/24", "an excluded address may be asked for"
    pods = [attach(leases, network, f"p{number}") for number in range(4)]
    assert hosts(pods, 4) == {"10.1.0.10", "10.1.0.11", "10.1.0.14", "10.1.0.16"}
    for wanted, kind, text in (
        (("10.1.0.5",), ConflictError, "in use by another pod"),
        (("10.1.0.254",), ConflictError, "the gateway's"),
        (("10.1.0.255",), InvalidError, "not one of a host"),
        (("10.2.0.5",), InvalidError, "not one of a host"),
        (("10.1.0.20", "10.1.0.21"), InvalidError, "more than one"),
        (("nonsense",), InvalidError, "nonsense"),
    ):
        with pytest.raises(HyperError, match=text) as caught:
            attach(leases, network, "bad", *wanted)
        assert type(caught.value) is kind
    for mac, kind, text in (
        ("02:00:00:00:00:05", ConflictError, "in use in network n"),
        ("03:00:00:00:00:05", InvalidError, "a group's"),
        ("02:00", InvalidError, "six bytes"),
    ):
        with pytest.raises(HyperError, match=text) as caught:
            attach(leases, network, "bad", mac=mac)
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("spec", "kind", "text"),
    [
        (NetworkSpec(name="UP"), InvalidError, "network name"),
        (NetworkSpec(name="../x"), InvalidError, "network name"),
        (NetworkSpec(name="n", subnets=("10.1.0.1/24",)), InvalidError, "host bits"),
        (NetworkSpec(name="n", subnets=("10.1.0.0/31",)), InvalidError, "smaller than"),
        (NetworkSpec(name="n", subnets=("224.0.0.0/24",)), InvalidError, "hosts can live"),
        (NetworkSpec(name="n", subnets=("10.1.0.0/24", "10.2.0.0/24")), InvalidError, "more than one subnet"),
        (NetworkSpec(name="n", subnets=("192.0.2.128/25",)), ConflictError, "overlaps with the route to 192.0.2.0/24 by eth0"),
        (NetworkSpec(name="n", subnets=("192.0.0.0/16",)), ConflictError, "overlaps with the route"),
        (NetworkSpec(name="n", subnets=("10.1.0.0/24",), gateways=("10.2.0.1",)), InvalidError, "gateway 10.2.0.1"),
        (NetworkSpec(name="n", subnets=("10.1.0.0/24",), gateways=("10.1.0.255",)), InvalidError, "gateway 10.1.0.255"),
        (NetworkSpec(name="n", subnets=("10.1.0.0/24",), excluded=("10.2.0.1",)), InvalidError, "range 10.2.0.1"),
        (NetworkSpec(name="n", excluded=("10.1.0.9-10.1.0.1",)), InvalidError, "before its start"),
        (NetworkSpec(name="n", bridge="a/b"), InvalidError, "bridge name"),
        (NetworkSpec(name="n", bridge="all"), InvalidError, "bridge name"),
        (NetworkSpec(name="n", mtu=1000), InvalidError, "MTU 1000"),
        (NetworkSpec(name="n", domain="a b"), InvalidError, "domain"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be(spec: NetworkSpec, kind: type[HyperError], text: str) -> None:
    with pytest.raises(HyperError, match=text) as caught:
        plan(spec, "192.0.2.0/24")
    assert type(caught.value) is kind


def test_subnets_that_nobody_named_are_free_ones() -> None:
    first = plan(NetworkSpec(name="n"), "10.210.0.0/24", "10.210.1.128/25", "fd12:3456:789a::/64")
    assert first.subnets == ("10.210.2.0/24", "fd12:3456:789a:1::/64")
    assert first.gateways == ("10.210.2.1", "fd12:3456:789a:1::1")
    moved = plan(Settings().default, "192.168.0.0/16", movable=True)
    assert moved.subnets[0] == "10.210.0.0/24"
    assert plan(Settings().default, movable=True).subnets[0] == "192.168.123.0/24"
    assert plan(NetworkSpec(name="six", subnets=("fd00:1::/64",))).subnets == ("fd00:1::/64",)
    with pytest.raises(UnavailableError, match="no subnet is free"):
        plan(NetworkSpec(name="n"), "10.0.0.0/8")


def test_names_of_links_tell_installations_apart() -> None:
    one, other = Names("hyperd"), Names("hyperd2")
    link = one.pair("pod", "default")
    assert len(link) == 13
    assert one.ours(link) and not other.ours(link)
    assert len({one.pair(f"p{number}", net) for number in range(500) for net in ("a", "b")}) == 1000
    assert len(one.bridge("x" * 63)) <= 15
