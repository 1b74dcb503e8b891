"""Bridges, pairs of links and their queues, by netlink. Synchronous: callers run it in threads.

Everything may be asked for again: what is there already as it should be stays.
"""

import contextlib
import errno
import hashlib
import ipaddress
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hyperd.errors import ConflictError, HyperError

from . import addresses, netns
from .records import Attachment, Network

_NODAD = 0x02
_NO_ADDRESS = 1
_ROOT = 0x10000
_INGRESS = 0xFFFF0000
_ALL_PROTOCOLS = 3
_MATCH_ALL = ["0x0/0x0+0"]
_TABLE_LOCAL = 255
_UNICAST = 1
_LATENCY = "50ms"
_BURST_MIN = 32 << 10
_BURST_MAX = 4 << 20
_RATE_MAX = (1 << 32) - 1


class Names(NamedTuple):
    """What our links are called: 13 characters, of which 3 tell the installation and 8 the pod and network."""

    instance: str

    @property
    def prefixes(self) -> tuple[str, str]:
        tag = hashlib.sha256(self.instance.encode()).hexdigest()[:3]
        return f"hv{tag}", f"hi{tag}"

    def pair(self, pod: str, network: str) -> str:
        """The host's end of a pod's pair of links."""
        return self.prefixes[0] + hashlib.sha256(f"{pod}\0{network}".encode()).hexdigest()[:8]

    def bridge(self, network: str) -> str:
        return "hyper-" + hashlib.sha256(f"{self.instance}\0{network}".encode()).hexdigest()[:8]

    def ours(self, name: str) -> bool:
        return len(name) == 13 and name.startswith(self.prefixes)


def shaper(link: str) -> str:
    """The device that takes what a pod sends and lets it through at its rate."""
    return "hi" + link[2:]


@contextlib.contextmanager
def _netlink(what: str) -> Iterator[Any]:
    """A connection to the kernel of the thread's namespace; its errors become ours.

    :param what: what is done, for the message when it fails
    """
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as kernel:
        try:
            yield kernel
        except NetlinkError as error:
            text = os.strerror(error.code) if error.code else str(error)
            kind = ConflictError if error.code == errno.EEXIST else HyperError
            raise kind(f"cannot {what}: {text}") from error


def _index(kernel: Any, name: str) -> int:
    """0: there is no such link."""
    found = kernel.link_lookup(ifname=name)
    return int(found[0]) if found else 0


def _bridge_mac(instance: str, network: str) -> str:
    """By which we know a bridge as ours: it has it from the moment it is made."""
    return "02:" + hashlib.sha256(f"{instance}\0{network}".encode()).digest()[:5].hex(":")


def _is_ours(kernel: Any, index: int, instance: str, network: str) -> bool:
    return bool(kernel.get_links(index)[0].get_attr("IFLA_ADDRESS") == _bridge_mac(instance, network))


def ensure_bridge(network: Network, instance: str) -> None:
    """The bridge, up, with the gateways' addresses. :raise ConflictError: there is one of this name that is not ours"""
    with _netlink(f"make the bridge {network.bridge}") as kernel:
        index = _index(kernel, network.bridge)
        if index and not _is_ours(kernel, index, instance, network.name):
            raise ConflictError(
                f"bridge {network.bridge}: there is such a link, which is not ours", hint="name another"
            )
        if not index:
            mac = _bridge_mac(instance, network.name)
            kernel.link("add", ifname=network.bridge, kind="bridge", address=mac, br_stp_state=0)
            index = _index(kernel, network.bridge)
        kernel.link("set", index=index, ifalias=f"{instance}: network {network.name}", mtu=network.mtu, state="up")
        for gateway, subnet in zip(network.gateways, network.subnets, strict=True):
            _ensure_address(kernel, index, f"{gateway}/{subnet.split('/')[1]}")


def _ensure_address(kernel: Any, index: int, text: str) -> None:
    """IPv6 without the second in which the kernel looks for a duplicate: addresses are ours to hand out."""
    found = ipaddress.ip_interface(text)
    flags = {"flags": _NODAD} if found.version == 6 else {}
    kernel.addr("replace", index=index, address=str(found.ip), prefixlen=found.network.prefixlen, **flags)


def remove_bridge(name: str, network: str, instance: str) -> None:
    """Nothing there, or one that is not ours, is fine."""
    with _netlink(f"remove the bridge {name}") as kernel:
        index = _index(kernel, name)
        if index and _is_ours(kernel, index, instance, network):
            kernel.link("del", index=index)


def remove(names: Iterable[str]) -> None:
    """Links of ours, with their other ends. Those that are not there are fine."""
    with _netlink("remove links") as kernel:
        for name in names:
            if index := _index(kernel, name):
                _delete(kernel, index)


def _delete(kernel: Any, index: int) -> None:
    """The end of a namespace takes its links away at its own time."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        kernel.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def existing(names: Names) -> set[str]:
    """The links of ours that there are on the host."""
    with _netlink("list links") as kernel:
        found = (link.get_attr("IFLA_IFNAME") for link in kernel.get_links())
        return {name for name in found if names.ours(name)}


def ensure_pair(pod: str, path: str, network: Network, item: Attachment) -> bool:
    """The pair of links from the bridge into the namespace at ``path``, configured at both ends; true if it had to be made.

    The note at our end comes last: a pair without it was cut off half-way, and is made anew.

    :raise ConflictError: the namespace has a link of this name
    """
    what = f"connect pod {pod} to network {network.name}"
    note = f"pod {pod}, network {network.name}"
    with _netlink(what) as kernel:
        index = _index(kernel, item.link)
        if index and kernel.get_links(index)[0].get_attr("IFLA_IFALIAS") != note:
            kernel.link("del", index=index)
            index = 0
        made = not index
        if made:
            index = _make_pair(kernel, path, item)
            _set_ipv6(item.link, addr_gen_mode=_NO_ADDRESS)
            netns.inside(path, lambda: _configure(item, what))
        kernel.link("set", index=index, master=_index(kernel, network.bridge), state="up")
        # Where br_netfilter is on, a pod that asks for its own published port is sent back by the bridge itself.
        kernel.brport("set", index=index, mode=1)
        _limit(kernel, index, item)
        kernel.link("set", index=index, ifalias=note)
    return made


def _make_pair(kernel: Any, path: str, item: Attachment) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        peer = {"ifname": item.name, "address": item.mac, "mtu": item.mtu, "net_ns_fd": fd}
        near = "fe:" + hashlib.sha256(item.link.encode()).digest()[:5].hex(":")
        kernel.link("add", ifname=item.link, kind="veth", mtu=item.mtu, address=near, peer=peer)
    finally:
        os.close(fd)
    return _index(kernel, item.link)


def _configure(item: Attachment, what: str) -> None:
    """The pod's end. Everything is given: the namespace's own IPv6 looks for nothing.

    It must not take an address of its own either. The guest takes the same one, and would hear the namespace ask whether it is in use.
    """
    _set_ipv6(item.name, accept_ra=0, addr_gen_mode=_NO_ADDRESS)
    with _netlink(what) as kernel:
        kernel.link("set", index=1, state="up")
        index = _index(kernel, item.name)
        for text in item.addresses:
            _ensure_address(kernel, index, text)
        kernel.link("set", index=index, state="up")
        for gateway in item.gateways:
            family = {"family": 10} if ":" in gateway else {}
            kernel.route("replace", dst="::/0" if family else "0.0.0.0/0", gateway=gateway, oif=index, **family)


def _set_ipv6(link: str, **values: int) -> None:
    """Settings of a link's in the namespace of the thread. A kernel without IPv6 needs none."""
    for name, value in values.items():
        with contextlib.suppress(FileNotFoundError), open(f"/proc/sys/net/ipv6/conf/{link}/{name}", "w") as file:
            file.write(str(value))


def _limit(kernel: Any, index: int, item: Attachment) -> None:
    """To the pod: a token bucket at our end. From it: one at a device that our end's arrivals are redirected to."""
    if item.ingress_bandwidth:
        _bucket(kernel, index, item.ingress_bandwidth)
    if not item.egress_bandwidth:
        return
    name = shaper(item.link)
    device = _index(kernel, name)
    if not device:
        kernel.link("add", ifname=name, kind="ifb")
        device = _index(kernel, name)
    kernel.link("set", index=device, state="up", mtu=item.mtu)
    _bucket(kernel, device, item.egress_bandwidth)
    if any(queue["index"] == index and queue.get_attr("TCA_KIND") == "ingress" for queue in kernel.get_qdiscs()):
        kernel.tc("del", "ingress", index)
    kernel.tc("add", "ingress", index)
    redirect = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": device}
    kernel.tc(
        "add-filter",
        "u32",
        index,
        parent=_INGRESS,
        protocol=_ALL_PROTOCOLS,
        prio=1,
        target=_ROOT,
        keys=_MATCH_ALL,
        action=redirect,
    )


def _bucket(kernel: Any, index: int, bits: int) -> None:
    rate = min(max(bits // 8, 1), _RATE_MAX)
    burst = min(max(rate // 100, _BURST_MIN), _BURST_MAX)
    kernel.tc("replace", "tbf", index, _ROOT, rate=rate, burst=burst, latency=_LATENCY)


class Used(NamedTuple):
    """Where a host's subnet is used: ``what`` names the route or link."""

    subnet: addresses.Subnet
    what: str


def used_subnets(ours: set[str]) -> list[Used]:
    """The subnets that this host has routes to or addresses in, but for those of ``ours``' links."""
    with _netlink("list routes") as kernel:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in kernel.get_links()}
        found = [
            Used(net, f"route to {net} by {names.get(route.get_attr('RTA_OIF'), 'another way')}")
            for route in kernel.get_routes()
            if names.get(route.get_attr("RTA_OIF")) not in ours and (net := _destination(route)) is not None
        ]
        for item in kernel.get_addr():
            name = names.get(item["index"], "")
            text = item.get_attr("IFA_LOCAL") or item.get_attr("IFA_ADDRESS")
            net = ipaddress.ip_network(f"{text}/{item['prefixlen']}", strict=False)
            if name not in ours and not net.is_loopback and not net.is_link_local:
                found.append(Used(net, f"address {text} of {name}"))
        return found


def _destination(route: Any) -> addresses.Subnet | None:
    text = route.get_attr("RTA_DST")
    if not text or not route["dst_len"] or route["type"] != _UNICAST or route.get_attr("RTA_TABLE") == _TABLE_LOCAL:
        return None
    net = ipaddress.ip_network(f"{text}/{route['dst_len']}", strict=False)
    return None if net.is_loopback or net.is_link_local or net.is_multicast else net


def default_mtu() -> int:
    """The MTU of the link that the host's default route leaves by; 1500 if there is none."""
    with _netlink("find the default route") as kernel:
        for family in (2, 10):
            for route in kernel.get_default_routes(family=family):
                if index := route.get_attr("RTA_OIF"):
                    return int(kernel.get_links(index)[0].get_attr("IFLA_MTU"))
    return 1500
