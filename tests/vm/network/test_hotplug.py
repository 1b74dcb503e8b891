"""Links that come when the machine runs already: Docker fills the namespace between create and start, CNI's connect later still."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from ..harness import Bundle, Runtime, qemu_of, wait_until
from .nets import MIB, Net, in_namespace, ip, may_ping

pytestmark = pytest.mark.vm

WHAT_IT_HAS = "ls /sys/class/net; ip -o -4 address show; ip route; ping -c1 -W5 10.77.0.1; nc fd00:77::1 8000 </dev/null | wc -c"


def fill(net: Net) -> None:
    net.veth("eth0", 0)
    ip("-n", net.pod, "route", "add", "default", "via", "10.77.0.1")


def test_links_between_create_and_start(runv: Runtime, bundle: Bundle, empty: Net) -> None:
    """One takes the card that was kept for it, the others are plugged in."""
    created = runv.create(in_namespace(bundle, empty.path).script(WHAT_IT_HAS + "; ping -c1 -W5 10.77.1.1; ping -c1 -W5 10.77.2.1"))
    fill(empty)
    empty.veth("eth1", 1)
    empty.veth("eth2", 2)
    with empty.server():
        created.start()
        assert created.wait() == 0
    text = created.output().decode()
    assert text.startswith("eth0\neth1\neth2\nlo\n"), text
    for part in ("eth0    inet 10.77.0.2/24", "default via 10.77.0.1 dev eth0", str(MIB << 20)):
        assert part in text
    assert text.count(" 0% packet loss") == 3, text
    created.delete()
    assert empty.nothing_of_ours()


def test_nothing_came(make_bundle: Callable[[], Bundle], runv: Runtime, empty: Net) -> None:
    """A card is kept all the same: unseen, also with all capabilities, and for the first link that comes, even without a port."""
    powers = {name: ["CAP_NET_ADMIN", "CAP_NET_RAW"] for name in ("bounding", "effective", "permitted")}
    bundle = in_namespace(make_bundle(), empty.path).args("sleep", "1000", capabilities=powers)
    runv = dataclasses.replace(runv, env={**runv.env, "RUNV_HOTPLUG_PORTS": "0"})
    created = runv.start(bundle)
    assert created.exec("sh", "-c", "ls /sys/class/net; ip -o link").out.splitlines()[0] == "lo"
    assert len(created.exec("ip", "-o", "link").out.splitlines()) == 1
    assert json.loads(runv.run("interface", "list", "--format", "json", created.id).ok().out) == []
    empty.veth("eth0", 0)
    # A link of the container's own is in the way.
    created.exec("ip", "link", "add", "eth0", "type", "bridge").ok()
    runv.run("interface", "add", created.id, "eth0").ok()
    assert created.exec("ping", "-c1", "-W5", "10.77.0.1").code == 0
    created.delete()
    assert empty.nothing_of_ours()


def test_a_link_more_than_at_create(runv: Runtime, bundle: Bundle, net: Net) -> None:
    created = runv.create(in_namespace(bundle, net.path).script("ping -c1 -W5 10.77.0.1 && ping -c1 -W5 10.77.1.1"))
    net.veth("eth1", 1)
    assert created.start().wait() == 0, created.output()
    created.delete()
    assert net.nothing_of_ours()


def test_in_a_namespace_of_its_own(runv: Runtime, bundle: Bundle, empty: Net) -> None:
    """As Docker does it: it enters the namespace by the pid it was told."""
    created = runv.create(may_ping(bundle).script("cat /sys/class/net/eth0/address; ping -c1 -W5 10.77.0.1"))
    ip("-n", empty.peer, "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", str(created.pid))
    empty.configure(empty.peer, "far", 0, 1)
    inside = ["nsenter", "-t", str(created.pid), "-n", "ip"]
    for words in ("address add 10.77.0.2/24 dev eth0", "link set eth0 address 02:42:ac:11:00:02", "link set eth0 up"):
        empty.inside(empty.peer, *inside, *words.split())
    assert created.start().wait() == 0
    assert created.output().startswith(b"02:42:ac:11:00:02\n")
    created.delete()


def test_more_links_than_ports(runv: Runtime, make_bundle: Callable[[], Bundle], net: Net) -> None:
    """Nothing starts with half of its network, and what was tried is undone."""
    created = runv.create(in_namespace(make_bundle(), net.path).script("ls /sys/class/net"))
    for number in range(1, 6):
        net.veth(f"eth{number}", number)
    done = runv.run("start", created.id)
    assert done.code != 0
    assert "every port is taken" in done.err
    assert created.status() == "created"
    assert "ingress" not in net.in_pod("tc", "qdisc", "show", "dev", "eth1")
    assert qemu_of(runv.root)
    created.delete()
    assert net.nothing_of_ours()


def test_links_that_come_and_go_while_it_runs(runv: Runtime, bundle: Bundle, empty: Net) -> None:
    """As `docker network connect` and `disconnect` do it: nobody tells the runtime."""
    created = runv.start(in_namespace(bundle, empty.path).args("sleep", "1000"))

    def has(link: str, address: str) -> bool:
        return f"inet {address}/" in created.exec("ip", "-o", "address", "show", link).out

    for round_ in range(2):
        fill(empty)
        wait_until(lambda: has("eth0", "10.77.0.2"), "the first link")
        # An engine that comes to another way out says so by the routes alone.
        wait_until(lambda: "default via 10.77.0.1" in created.exec("ip", "route").out, "its route")
        assert created.exec("ping", "-c1", "-W5", "10.77.0.1").code == 0
        if not round_:
            empty.veth("eth1", 1)
            wait_until(lambda: has("eth1", "10.77.1.2"), "the second link")
        ip("-n", empty.pod, "link", "delete", "eth0")
        wait_until(lambda: created.exec("ls", "/sys/class/net").out == "eth1\nlo\n", "the first link to go")
        assert created.exec("ping", "-c1", "-W5", "10.77.1.1").code == 0
    created.delete()
    ip("-n", empty.pod, "link", "delete", "eth1")
    assert empty.nothing_of_ours()
