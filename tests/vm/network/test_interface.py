"""``runv interface`` on a running sandbox, and devices that the host lends."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from ..harness import Bundle, Created, Runtime
from .nets import MAC, Net, in_namespace, ip, may_ping

pytestmark = pytest.mark.vm


def listed(container: Created) -> dict[str, dict[str, Any]]:
    done = container.runtime.run("interface", "list", "--format", "json", container.id).ok()
    return {entry["name"]: entry for entry in json.loads(done.out)}


def interface(container: Created, action: str, *words: str) -> None:
    container.runtime.run("interface", action, container.id, *words).ok()


def pings(container: Created, address: str) -> bool:
    return container.exec("ping", "-c1", "-W5", address).code == 0


def test_list(runv: Runtime, bundle: Bundle, net: Net) -> None:
    created = runv.start(in_namespace(bundle, net.path).args("sleep", "1000"))
    assert listed(created) == {
        "eth0": {
            "name": "eth0", "link": "eth0", "mac": MAC, "mtu": 1400, "up": True,
            "addresses": ["10.77.0.2/24", "fd00:77::2/64"], "source": "namespace",
        }
    }  # fmt: skip
    table = runv.run("interface", "list", created.id).ok().out
    for part in ("eth0", MAC, "1400", "10.77.0.2/24"):
        assert part in table
    created.delete()


def test_add_and_remove(runv: Runtime, bundle: Bundle, net: Net) -> None:
    """More often than there are ports: what is removed makes room."""
    runv = dataclasses.replace(runv, env={**runv.env, "RUNV_HOTPLUG_PORTS": "1"})
    created = runv.start(in_namespace(bundle, net.path).args("sleep", "1000"))
    net.veth("eth1", 1)
    for _ in range(2):
        interface(created, "add", "eth1")
        assert sorted(listed(created)) == ["eth0", "eth1"]
        assert pings(created, "10.77.1.1")
        interface(created, "rm", "eth1")
        assert sorted(listed(created)) == ["eth0"]
        assert created.exec("ls", "/sys/class/net").out == "eth0\nlo\n"
        assert "ingress" not in net.in_pod("tc", "qdisc", "show", "dev", "eth1")
    # What was taken away does not come back because something else has changed.
    created.runtime.run("interface", "sync", created.id).ok()
    assert sorted(listed(created)) == ["eth0"]
    assert pings(created, "10.77.0.1")
    interface(created, "rm", "eth0")  # one that was there at boot
    assert listed(created) == {}
    assert net.nothing_of_ours()
    interface(created, "add", "eth0")
    assert pings(created, "10.77.0.1")
    created.delete()
    assert net.nothing_of_ours()


def test_update(runv: Runtime, bundle: Bundle, net: Net) -> None:
    created = runv.start(in_namespace(bundle, net.path).args("sleep", "1000"))
    change = ["--mtu", "1300", "--address", "10.77.5.2/24", "--address", "fd00:77:5::2/64", "--remove-address", "10.77.0.2/24"]
    interface(created, "update", *change, "eth0")
    entry = listed(created)["eth0"]
    assert (entry["mtu"], sorted(entry["addresses"])) == (1300, ["10.77.5.2/24", "fd00:77:5::2/64", "fd00:77::2/64"])
    shown = ip("-n", net.pod, "address", "show", "eth0")
    assert "mtu 1300" in shown
    assert "10.77.5.2/24" in shown
    assert "10.77.0.2/24" not in shown
    ip("-n", net.peer, "address", "add", "10.77.5.1/24", "dev", "far")
    assert pings(created, "10.77.5.1")
    interface(created, "update", "--mac", "02:00:5e:10:00:99", "eth0")
    assert listed(created)["eth0"]["mac"] == "02:00:5e:10:00:99"
    assert pings(created, "10.77.5.1")
    created.delete()


def test_what_cannot_be_done(runv: Runtime, bundle: Bundle, net: Net) -> None:
    created = runv.start(in_namespace(bundle, net.path).args("sleep", "1000"))
    ip("-n", net.pod, "tuntap", "add", "tun9", "mode", "tun")
    for words, message in (
        (["add", created.id, "eth9"], "there is none in the sandbox's network namespace"),
        (["add", "--host-device", "lo", created.id, "eth0"], "the sandbox has one of that name"),
        (["add", created.id, "tun9"], "it is no Ethernet link"),
        (["add", created.id, "a/b"], "not a name for a network interface"),
        (["add", "--host-device", "nonesuch0", created.id, "eth1"], "cannot find network device nonesuch0"),
        (["rm", created.id, "eth9"], "there is no network interface eth9"),
        (["update", "--address", "nonsense", created.id, "eth0"], "invalid address"),
        (["update", "--remove-address", "10.9.9.9/24", created.id, "eth0"], "10.9.9.9/24"),
        (["update", created.id], "needs the name"),
        (["paint", created.id, "eth0"], "no such action"),
        (["list", "nonesuch"], "container does not exist"),
    ):
        done = runv.run("interface", *words)
        assert done.code != 0, words
        assert message in done.err, done.err
    assert sorted(listed(created)) == ["eth0"]
    assert pings(created, "10.77.0.1")
    created.kill()
    created.wait()
    assert "container not running" in runv.run("interface", "list", created.id).err
    created.delete()
    assert net.nothing_of_ours()


@pytest.fixture
def device() -> Iterator[str]:
    """A device of the host's, with an address, whose other end has one too and lies in a namespace."""
    name = f"rvdev{os.getpid() % 10000}"
    ip("netns", "add", name)
    ip("link", "add", name, "mtu", "1450", "type", "veth", "peer", "name", "far", "netns", name)
    ip("address", "add", "10.79.0.2/24", "dev", name)
    ip("link", "set", name, "up")
    ip("-n", name, "address", "add", "10.79.0.1/24", "dev", "far")
    ip("-n", name, "link", "set", "far", "up")
    yield name
    ip("netns", "delete", name)


def is_as_it_was(device: str) -> bool:
    (link,) = json.loads(ip("-j", "address", "show", device))
    addresses = [entry["local"] for entry in link["addr_info"] if entry["family"] == "inet"]
    return "UP" in link["flags"] and link["mtu"] == 1450 and addresses == ["10.79.0.2"]


def test_net_devices(runv: Runtime, bundle: Bundle, device: str, empty: Net) -> None:
    bundle.linux["netDevices"] = {device: {"name": "lent0"}}
    created = runv.start(may_ping(bundle).script("ip -o address show lent0; ping -c1 -W5 10.79.0.1"))
    assert created.wait() == 0, created.output()
    assert b"10.79.0.2/24" in created.output()
    assert device not in ip("link", "show")
    created.delete()
    assert is_as_it_was(device)


def test_net_devices_of_a_create_that_fails(runv: Runtime, bundle: Bundle, device: str, empty: Net) -> None:
    bundle.linux["netDevices"] = {device: {}}
    done = runv.run_bundle(bundle.args("/nonesuch"))
    assert done.code != 0
    assert is_as_it_was(device)
    bundle.linux["netDevices"] = {"nonesuch0": {}}
    done = runv.run_bundle(bundle.save())
    assert "cannot find network device nonesuch0: no such device" in done.err
    bundle.linux["netDevices"] = {device: {"name": "x" * 16}}
    assert "is not a name for a network interface" in runv.run_bundle(bundle.save()).err


def test_a_device_of_the_host(runv: Runtime, bundle: Bundle, device: str, net: Net) -> None:
    created = runv.start(in_namespace(bundle, net.path).args("sleep", "1000"))
    interface(created, "add", "--host-device", device, "--mtu", "1440", "lent0")
    entry = listed(created)["lent0"]
    assert (entry["source"], entry["mtu"], entry["addresses"]) == ("host", 1440, ["10.79.0.2/24"])
    assert pings(created, "10.79.0.1")
    interface(created, "rm", "lent0")
    assert "10.79.0.2" in ip("address", "show", device)
    ip("link", "set", device, "mtu", "1450")
    interface(created, "add", "--host-device", device, "lent0")
    created.delete()
    assert is_as_it_was(device)
    assert net.nothing_of_ours()


def test_a_bridge_of_the_host(runv: Runtime, bundle: Bundle, net: Net) -> None:
    bridge = f"rvbr{os.getpid() % 10000}"
    ip("link", "add", bridge, "type", "bridge")
    try:
        ip("address", "add", "10.80.0.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        created = runv.start(in_namespace(bundle, net.path).args("sleep", "1000"))
        interface(created, "add", "--host-device", bridge, "--address", "10.80.0.2/24", "eth1")
        assert listed(created)["eth1"]["source"] == "bridge"
        assert pings(created, "10.80.0.1")
        interface(created, "rm", "eth1")
        assert "eth1" not in net.links()
        assert not json.loads(ip("-j", "link", "show", "master", bridge))
        interface(created, "add", "--host-device", bridge, "--address", "10.80.0.2/24", "eth1")
        created.delete()
        assert net.links() == ["eth0", "lo"]
        assert not json.loads(ip("-j", "link", "show", "master", bridge))
    finally:
        ip("link", "delete", bridge)
