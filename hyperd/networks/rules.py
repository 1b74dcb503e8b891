"""Our one table of nftables, as a text that follows from the records, and is replaced as a whole. Nothing outside it is touched."""

import contextlib
import json
import subprocess
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hyperd.errors import HyperError, UnavailableError

from .records import Network, Pod, PortMap

DEADLINE_S = 30.0
_INSTALL = "install the Debian package nftables"


class Target(NamedTuple):
    """One port of the host that leads to a pod. ``host_ip`` empty: each of the family's."""

    version: int
    host_ip: str
    protocol: str
    host_port: int
    address: str
    port: int


def targets(pod: Pod, port: PortMap) -> list[Target]:
    """What a published port of the pod's means for each family that both have."""
    item = pod.attachment(port.network)
    if item is None:
        return []
    wanted = port.host_ip.strip("[]")
    version = (6 if ":" in wanted else 4) if wanted else 0
    exact = "" if wanted in ("", "0.0.0.0", "::") else wanted
    own = [text.split("/")[0] for text in item.addresses]
    return [
        Target(family, exact, port.protocol, port.host_port + step, address, port.container_port + step)
        for address in own
        if version in (0, family := 6 if ":" in address else 4)
        for step in range(port.count)
    ]


def render(table: str, networks: Iterable[Network], pods: Iterable[Pod], mark: int) -> str:
    """The input of ``nft -f``: the table is emptied and made anew in one transaction."""
    nets = list(networks)
    found = [target for pod in pods for port in pod.ports for target in targets(pod, port)]
    lines = [f"table inet {table}", f"delete table inet {table}", f"table inet {table} {{"]
    lines += _set("bridges", [net.bridge for net in nets])
    lines += _set("internal", [net.bridge for net in nets if net.internal])
    lines += _set("open", [net.bridge for net in nets if not net.isolated and not net.internal])
    for version in (4, 6):
        lines += _maps(version, [target for target in found if target.version == version])
    lines += [*_PUBLISHED, *_postrouting(nets), *_forward(nets, mark), "}"]
    return "\n".join(lines) + "\n"


def _set(name: str, bridges: Sequence[str]) -> list[str]:
    return [f"set {name} {{", "type ifname", *_elements(f'"{bridge}"' for bridge in bridges), "}"]


def _maps(version: int, found: Sequence[Target]) -> list[str]:
    kind = f"ipv{version}_addr"
    exact = (f"{t.host_ip} . {t.protocol} . {t.host_port} : {t.address} . {t.port}" for t in found if t.host_ip)
    every = (f"{t.protocol} . {t.host_port} : {t.address} . {t.port}" for t in found if not t.host_ip)
    return [
        *(
            f"map exact{version} {{",
            f"type {kind} . inet_proto . inet_service : {kind} . inet_service",
            *_elements(exact),
            "}",
        ),
        *(f"map any{version} {{", f"type inet_proto . inet_service : {kind} . inet_service", *_elements(every), "}"),
    ]


def _elements(items: Iterable[str]) -> list[str]:
    text = ",\n".join(items)
    return [f"elements = {{ {text} }}"] if text else []


# Loopback's own addresses: only the host itself may use a port by them. IPv6 has no way to send them on: a proxy does (ports.py).
_PUBLISHED = """
chain published {
    dnat ip to ip daddr . meta l4proto . th dport map @exact4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @exact6
    dnat ip to meta l4proto . th dport map @any4
    dnat ip6 to meta l4proto . th dport map @any6
}
chain loopback {
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
    iifname @bridges ip saddr 127.0.0.0/8 drop
}
chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 127.0.0.0/8 return
    fib daddr type local meta l4proto { tcp, udp, sctp } jump published
}
chain output {
    type nat hook output priority -100; policy accept;
    ip6 daddr ::1 return
    fib daddr type local meta l4proto { tcp, udp, sctp } jump published
}
""".strip().splitlines()


def _postrouting(nets: Iterable[Network]) -> list[str]:
    """A pod that comes back to its own network by a published port must see the answer come from the host, too."""
    lines = ["chain postrouting {", "type nat hook postrouting priority srcnat; policy accept;"]
    lines.append("ip saddr 127.0.0.0/8 oifname @bridges masquerade")
    for net in nets:
        for subnet in net.subnets:
            family = "ip6" if ":" in subnet else "ip"
            lines.append(f'ct status dnat {family} saddr {subnet} oifname "{net.bridge}" masquerade')
            if net.masquerade and not net.internal:
                lines.append(f'{family} saddr {subnet} oifname != "{net.bridge}" masquerade')
    return [*lines, "}"]


def _forward(nets: Iterable[Network], mark: int) -> list[str]:
    """``pass`` leaves our mark, by which a firewall that comes later can know what we let through.

    A bridge's own frames come by where br_netfilter is on.
    """
    return [
        "chain pass {",
        f"meta mark set meta mark | {mark:#x} accept",
        "}",
        "chain forward {",
        "type filter hook forward priority filter - 5; policy accept;",
        *(f'iifname "{net.bridge}" oifname "{net.bridge}" goto pass' for net in nets),
        "iifname @internal drop",
        "oifname @internal drop",
        "iifname @bridges ct state established,related goto pass",
        "oifname @bridges ct state established,related goto pass",
        "iifname @open oifname @open goto pass",
        "oifname @bridges ct status dnat goto pass",
        "iifname @bridges oifname @bridges drop",
        # Other programs' bridges have rules of their own.
        'iifname @bridges meta oifkind != "bridge" goto pass',
        "}",
    ]


def apply(text: str) -> None:
    """:raise UnavailableError: there is no ``nft``, or the kernel refused"""
    _nft(["-f", "-"], text)


def remove(table: str) -> None:
    apply(f"table inet {table}\ndelete table inet {table}\n")


def dropping_chains() -> list[tuple[str, str, str]]:
    """Family, table and name of the chains that drop, unless a rule says otherwise, what is forwarded."""
    found = json.loads(_nft(["-j", "list", "chains"], ""))["nftables"]
    chains = [item["chain"] for item in found if "chain" in item]
    return [
        (chain["family"], chain["table"], chain["name"])
        for chain in chains
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["family"] in ("ip", "ip6", "inet")
    ]


def forget_flows(addresses: Iterable[str]) -> None:
    """Flows of UDP that are answered from these addresses. Without the program ``conntrack`` they end when they pause for half a minute."""
    for address in addresses:
        family = "ipv6" if ":" in address else "ipv4"
        with contextlib.suppress(FileNotFoundError, subprocess.TimeoutExpired):
            command = ["conntrack", "-D", "-f", family, "-p", "udp", "--reply-src", address]
            subprocess.run(command, capture_output=True, timeout=DEADLINE_S, check=False)  # 1: there was none


def _nft(args: list[str], text: str) -> str:
    try:
        done = subprocess.run(
            ["nft", *args], input=text, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
    except FileNotFoundError:
        raise UnavailableError("cannot set up packet filtering: nft is not installed", hint=_INSTALL) from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"cannot set up packet filtering: nft took more than {DEADLINE_S:g} s") from None
    if done.returncode != 0:
        raise HyperError(
            f"cannot set up packet filtering: nft: {done.stderr.strip().splitlines()[0] if done.stderr else done.returncode}"
        )
    return done.stdout
