"""What an engine put into the network namespace is the guest's: addresses, routes, MTU, names; and nothing of ours stays behind."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .harness import SLOW, Bundle, Runtime, wait_until

pytestmark = pytest.mark.vm

_MIB = 8
_MAC = "02:00:5e:10:00:02"
_SERVER = f"""
import socket
listener = socket.create_server(("::", 8000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    link, _ = listener.accept()
    with link:
        link.sendall(b"x" * ({_MIB} << 20))
"""


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20 * SLOW).stdout


@dataclass
class Pair:
    """A namespace for a pod and one for its peer, with a veth pair between them."""

    pod: str
    peer: str

    def in_pod(self, *words: str) -> str:
        return subprocess.run(
            ["ip", "netns", "exec", self.pod, *words], check=True, capture_output=True, text=True, timeout=20
        ).stdout

    @property
    def path(self) -> str:
        return f"/run/netns/{self.pod}"


@pytest.fixture
def pair(nothing_left: None) -> Iterator[Pair]:
    suffix = secrets.token_hex(3)
    pair = Pair(f"rvpod{suffix}", f"rvpeer{suffix}")
    try:
        for name in (pair.pod, pair.peer):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip(
            "-n",
            pair.pod,
            "link",
            "add",
            "eth0",
            "address",
            _MAC,
            "type",
            "veth",
            "peer",
            "name",
            "far",
            "netns",
            pair.peer,
        )
        for name, link, number in ((pair.pod, "eth0", 2), (pair.peer, "far", 1)):
            ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", link)
            ip("-n", name, "address", "add", f"fd00:77::{number}/64", "dev", link, "nodad")
            ip("-n", name, "link", "set", link, "mtu", "1400", "up")
        ip("-n", pair.pod, "route", "add", "default", "via", "10.77.0.1")
        ip("-n", pair.pod, "-6", "route", "add", "default", "via", "fd00:77::1")
        ip("-n", pair.pod, "route", "add", "192.0.2.0/24", "via", "10.77.0.1", "metric", "7")
        ip(
            "-n",
            pair.pod,
            "neighbour",
            "add",
            "10.77.0.9",
            "lladdr",
            "02:00:00:00:00:09",
            "dev",
            "eth0",
            "nud",
            "permanent",
        )
        yield pair
    finally:
        for name in (pair.pod, pair.peer):
            subprocess.run(["ip", "netns", "delete", name], check=False, timeout=20 * SLOW)


@pytest.fixture
def server(pair: Pair) -> Iterator[None]:
    command = ["ip", "netns", "exec", pair.peer, sys.executable, "-c", _SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        process.kill()


def in_namespace(bundle: Bundle, path: str) -> Bundle:
    namespaces = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "network"]
    bundle.linux["namespaces"] = [*namespaces, {"type": "network", "path": path}]
    for names in bundle.process["capabilities"].values():  # for ping
        names.append("CAP_NET_RAW")
    return bundle.save()


def links(pair: Pair) -> list[str]:
    return sorted(link["ifname"] for link in json.loads(ip("-n", pair.pod, "-j", "link", "show")))


def veth(pair: Pair) -> list[str]:
    return ["type", "veth", "peer", "name", "far2", "netns", pair.peer]


def nothing_of_ours(pair: Pair) -> bool:
    return not any(name.startswith("runv") for name in links(pair)) and "ingress" not in pair.in_pod(
        "tc", "qdisc", "show"
    )


def run(runv: Runtime, bundle: Bundle, script: str) -> str:
    return runv.run_bundle(bundle.script(script)).ok().out


def test_the_guest_has_the_link(runv: Runtime, bundle: Bundle, pair: Pair) -> None:
    script = (
        "ip address show eth0; echo ROUTES; ip route; ip -6 route; echo NEIGHBOURS; ip neigh; ls /sys/class/net"
    )
    text = run(runv, in_namespace(bundle, pair.path), script)
    for part in (
        "mtu 1400", f"link/ether {_MAC}", "inet 10.77.0.2/24", "inet6 fd00:77::2/64",
        "default via 10.77.0.1 dev eth0", "192.0.2.0/24 via 10.77.0.1 dev eth0", "default via fd00:77::1 dev eth0",
        "10.77.0.9 dev eth0 lladdr 02:00:00:00:00:09",
    ):  # fmt: skip
        assert part in text, text
    assert text.split()[-2:] == ["eth0", "lo"]
    assert nothing_of_ours(pair)
    assert "10.77.0.2/24" in ip("-n", pair.pod, "address", "show", "eth0"), "the engine's own address is gone"


@pytest.mark.parametrize("address", ["10.77.0.1", "fd00:77::1"])
def test_packets_both_ways(runv: Runtime, bundle: Bundle, pair: Pair, server: None, address: str) -> None:
    script = f"ping -c1 -W5 {address} >/dev/null && nc {address} 8000 </dev/null | wc -c"
    assert run(runv, in_namespace(bundle, pair.path), script).split() == [str(_MIB << 20)]
    assert nothing_of_ours(pair)


def test_the_peer_reaches_the_guest(runv: Runtime, bundle: Bundle, pair: Pair) -> None:
    created = runv.start(in_namespace(bundle, pair.path).args("nc", "-l", "-p", "9000"))
    assert "runv-tap0" in links(pair)

    def sent() -> bool:
        send = "import socket; socket.create_connection(('10.77.0.2', 9000), 2).sendall(b'hello')"
        command = ["ip", "netns", "exec", pair.peer, sys.executable, "-c", send]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False, timeout=20 * SLOW).returncode == 0

    wait_until(sent, "a connection into the guest")
    created.wait_output(b"hello")
    created.wait()
    created.delete()
    assert nothing_of_ours(pair)


def test_a_hook_fills_the_namespace(runv: Runtime, bundle: Bundle, folder: Path) -> None:
    hook = folder / "hook"
    hook.write_text(
        "#!/bin/sh\n"
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')\n"
        "exec nsenter -t $pid -n sh -c 'ip link add name hooked address 02:00:5e:10:00:07 type veth peer name other &&"
        " ip address add 10.78.0.2/24 dev hooked && ip link set hooked up'\n"
    )
    hook.chmod(0o755)
    bundle.config["hooks"] = {"createRuntime": [{"path": str(hook)}]}
    assert "10.78.0.2/24" in run(runv, bundle, "ip address show hooked")


def test_two_links(runv: Runtime, bundle: Bundle, pair: Pair) -> None:
    ip("-n", pair.pod, "link", "add", "second", "address", "02:00:5e:10:00:08", *veth(pair))
    ip("-n", pair.pod, "address", "add", "10.79.0.2/32", "dev", "second")
    ip("-n", pair.pod, "link", "set", "second", "up")
    text = run(runv, in_namespace(bundle, pair.path), "ip -o -4 address show")
    assert "eth0    inet 10.77.0.2/24" in text
    assert "second    inet 10.79.0.2/32" in text
    assert nothing_of_ours(pair)


def test_links_with_one_address(runv: Runtime, bundle: Bundle, pair: Pair) -> None:
    ip("-n", pair.pod, "link", "add", "twin", "address", _MAC, *veth(pair))
    text = run(runv, in_namespace(bundle, pair.path), "ip -o link show")
    assert text.count(f"link/ether {_MAC}") == 2
    assert "eth0" in text
    assert "twin" in text
    assert nothing_of_ours(pair)


def test_after_a_killed_machine_the_namespace_serves_again(
    runv: Runtime, make_bundle: Callable[[], Bundle], pair: Pair
) -> None:
    created = runv.start(in_namespace(make_bundle(), pair.path).args("sleep", "100"))
    folder = runv.root / "@sandboxes"
    (pid_file,) = folder.glob("*/qemu.pid")
    os.kill(int(pid_file.read_text().split()[0]), 9)
    created.wait()
    created.delete()
    assert nothing_of_ours(pair)
    run(runv, in_namespace(make_bundle(), pair.path), "ping -c1 -W5 10.77.0.1")
    assert nothing_of_ours(pair)
