"""Every kind of link that an engine may make."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ..harness import Bundle, Runtime
from .nets import Net, in_namespace, ip, run

pytestmark = pytest.mark.vm

PINGS = "ip -o link show net0; ping -c1 -W5 10.78.0.1; ping -c1 -W5 fd00:78::1"


def outside(net: Net) -> str:
    return f"rvout{net.suffix}"


def add(net: Net, kind: str, *options: str) -> None:
    """``net0`` in the pod, on ``up0`` in the peer, whose other end is ``far0`` outside of both."""
    net.make(outside(net))
    ip("-n", net.peer, "link", "add", "up0", "type", "veth", "peer", "name", "far0", "netns", outside(net))
    ip("-n", net.peer, "link", "set", "up0", "up")
    for words in ("link set far0 up", "address add 10.78.0.1/24 dev far0", "address add fd00:78::1/64 dev far0 nodad"):
        ip("-n", outside(net), *words.split())
    ip("-n", net.peer, "link", "add", "link", "up0", "name", "net0", "type", kind, *options)
    ip("-n", net.peer, "link", "set", "net0", "netns", net.pod)
    give(net)


def give(net: Net, link: str = "net0", number: int = 2) -> None:
    for words in (f"link set {link} up", f"address add 10.78.0.{number}/24 dev {link}", f"address add fd00:78::{number}/64 dev {link} nodad"):
        ip("-n", net.pod, *words.split())


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
def test_macvlan(runv: Runtime, bundle: Bundle, empty: Net, mode: str) -> None:
    add(empty, "macvlan", "mode", mode)
    text = run(runv, in_namespace(bundle, empty.path), PINGS)
    assert text.count(" 0% packet loss") == 2
    assert empty.nothing_of_ours()


def needs(net: Net, kind: str) -> None:
    """Skips where the host's kernel has no such links."""
    ip("-n", net.peer, "link", "add", "name", "probe0", "type", "veth", "peer", "name", "probe1")
    parent = ["link", "probe0"] if kind == "ipvlan" else []
    try:
        ip("-n", net.peer, "link", "add", *parent, "name", "probe2", "type", kind)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this host's kernel makes no {kind}: {error.stderr}")
    ip("-n", net.peer, "link", "delete", "probe2")
    ip("-n", net.peer, "link", "delete", "probe0")


@pytest.mark.parametrize("mode", ["l2", "l3"])
def test_ipvlan(runv: Runtime, bundle: Bundle, empty: Net, mode: str) -> None:
    """Two siblings: each has its parent's MAC address."""
    needs(empty, "ipvlan")
    add(empty, "ipvlan", "mode", mode)
    ip("-n", empty.peer, "link", "add", "link", "up0", "name", "net1", "type", "ipvlan", "mode", mode)
    ip("-n", empty.peer, "link", "set", "net1", "netns", empty.pod)
    ip("-n", empty.pod, "link", "set", "net1", "up")
    ip("-n", empty.pod, "address", "add", "10.78.0.3/32", "dev", "net1")
    if mode == "l3":
        # Where the parent is, packets are routed; and nobody there is asked for addresses: whoever sends has to know where to.
        mac = json.loads(ip("-n", empty.peer, "-j", "link", "show", "up0"))[0]["address"]
        for own, guest in (("10.78.0.9/24", "10.78.0.2"), ("fd00:78::9/64", "fd00:78::2")):
            ip("-n", empty.peer, "address", "add", own, "dev", "up0", *(["nodad"] if ":" in own else []))
            ip("-n", outside(empty), "neighbour", "replace", guest, "lladdr", mac, "dev", "far0", "nud", "permanent")
    text = run(runv, in_namespace(bundle, empty.path), PINGS + "; ping -c1 -W5 -I 10.78.0.2 10.78.0.1; cat /sys/class/net/net*/address")
    assert text.count(" 0% packet loss") == 3, text
    first, second = text.split()[-2:]
    assert first == second
    assert empty.nothing_of_ours()


def test_a_dummy(runv: Runtime, bundle: Bundle, empty: Net) -> None:
    needs(empty, "dummy")
    ip("-n", empty.pod, "link", "add", "net0", "type", "dummy")
    give(empty)
    assert "10.78.0.2/24" in run(runv, in_namespace(bundle, empty.path), "ip -o address show net0")


def test_a_tap(runv: Runtime, bundle: Bundle, empty: Net) -> None:
    """One that somebody else reads and writes, as slirp4netns and pasta do."""
    ip("-n", empty.pod, "tuntap", "add", "net0", "mode", "tap")
    give(empty)
    ip("-n", empty.pod, "link", "set", "net0", "address", "02:00:5e:10:00:44")
    text = run(runv, in_namespace(bundle, empty.path), "ip address show net0")
    assert "02:00:5e:10:00:44" in text
    assert "10.78.0.2/24" in text
    assert empty.nothing_of_ours()


def test_a_bridge_is_carried_and_its_ports_are_not(runv: Runtime, bundle: Bundle, empty: Net) -> None:
    empty.veth("port0", 0)
    ip("-n", empty.pod, "address", "flush", "dev", "port0")
    ip("-n", empty.pod, "link", "add", "net0", "type", "bridge")
    ip("-n", empty.pod, "link", "set", "port0", "master", "net0")
    empty.configure(empty.pod, "net0", 0, 2)
    text = run(runv, in_namespace(bundle, empty.path), "ls /sys/class/net; ping -c1 -W5 10.77.0.1")
    assert text.startswith("lo\nnet0\n")
    assert " 0% packet loss" in text


def test_a_link_without_ethernet_stays(runv: Runtime, bundle: Bundle, net: Net) -> None:
    ip("-n", net.pod, "tuntap", "add", "tun9", "mode", "tun")
    assert run(runv, in_namespace(bundle, net.path), "ls /sys/class/net") == "eth0\nlo\n"


def test_the_hosts_own_network_is_refused(runv: Runtime, bundle: Bundle, root: Path) -> None:
    done = runv.run_bundle(in_namespace(bundle, "/proc/self/ns/net").args("true"))
    assert done.code != 0
    assert "a virtual machine cannot use the host's own network" in done.err
