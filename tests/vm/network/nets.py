"""A pod's network namespace and its peers, as an engine makes them; and what is left of us in it."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..harness import SLOW, Bundle, Runtime

MIB = 8
MAC = "02:00:5e:10:00:02"
_SERVER = f"""
import socket
listener = socket.create_server(("::", 8000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    link, _ = listener.accept()
    with link:
        link.sendall(b"x" * ({MIB} << 20))
"""
_SINK = """
import socket
listener = socket.create_server(("::", 8001), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
link, _ = listener.accept()
count = 0
while data := link.recv(65536):
    count += len(data)
print(count, flush=True)
"""


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20 * SLOW).stdout


@dataclass
class Net:
    """Network namespaces with links between them. ``pod`` is the container's, ``peer`` the rest of the world."""

    suffix: str = field(default_factory=lambda: secrets.token_hex(3))
    names: list[str] = field(default_factory=list)

    @property
    def pod(self) -> str:
        return f"rvpod{self.suffix}"

    @property
    def peer(self) -> str:
        return f"rvpeer{self.suffix}"

    @property
    def path(self) -> str:
        return f"/run/netns/{self.pod}"

    def make(self, name: str) -> None:
        ip("netns", "add", name)
        self.names.append(name)
        ip("-n", name, "link", "set", "lo", "up")

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, timeout=20 * SLOW)

    def in_pod(self, *words: str) -> str:
        return self.inside(self.pod, *words)

    def inside(self, name: str, *words: str) -> str:
        command = ["ip", "netns", "exec", name, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20 * SLOW).stdout

    def veth(self, name: str, subnet: int, *, far: str = "", mac: str = "", mtu: int = 1500) -> None:
        """A pair with 10.77.SUBNET.2 and fd00:77:SUBNET::2 in the pod, and .1 and ::1 at the peer's end."""
        far = far or f"far{subnet}"
        words = ["address", mac] if mac else []
        ip("-n", self.pod, "link", "add", name, *words, "type", "veth", "peer", "name", far, "netns", self.peer)
        self.configure(self.pod, name, subnet, 2, mtu)
        self.configure(self.peer, far, subnet, 1, mtu)

    def configure(self, namespace: str, link: str, subnet: int, number: int, mtu: int = 1500) -> None:
        ip("-n", namespace, "address", "add", f"10.77.{subnet}.{number}/24", "dev", link)
        ip("-n", namespace, "address", "add", f"fd00:77:{subnet}::{number}/64", "dev", link, "nodad")
        ip("-n", namespace, "link", "set", link, "mtu", str(mtu), "up")

    def links(self) -> list[str]:
        return sorted(link["ifname"] for link in json.loads(ip("-n", self.pod, "-j", "link", "show")))

    def nothing_of_ours(self) -> bool:
        return not any(name.startswith("runv") for name in self.links()) and "ingress" not in self.in_pod("tc", "qdisc")

    def server(self) -> contextlib.AbstractContextManager[None]:
        """Sends ``MIB`` to whoever connects to port 8000 of the peer."""
        return self.at_peer(_SERVER)

    @contextlib.contextmanager
    def at_peer(self, script: str) -> Iterator[None]:
        """A Python script that runs there, and says when it is ready."""
        command = ["ip", "netns", "exec", self.peer, sys.executable, "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
            process.kill()

    @contextlib.contextmanager
    def sink(self) -> Iterator[subprocess.Popen[str]]:
        """Counts, on its standard output, what the first to connect to port 8001 of the peer sends."""
        command = ["ip", "netns", "exec", self.peer, sys.executable, "-c", _SINK]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
            process.kill()


def in_namespace(bundle: Bundle, path: str) -> Bundle:
    """The bundle in the network namespace at ``path``, with what ping needs."""
    namespaces = [entry for entry in bundle.linux["namespaces"] if entry["type"] != "network"]
    bundle.linux["namespaces"] = [*namespaces, {"type": "network", "path": path}]
    return may_ping(bundle)


def may_ping(bundle: Bundle) -> Bundle:
    for names in bundle.process["capabilities"].values():
        names.append("CAP_NET_RAW")
    return bundle.save()


def run(runv: Runtime, bundle: Bundle, script: str) -> str:
    return runv.run_bundle(bundle.script(script)).ok().out
