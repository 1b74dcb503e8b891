"""Reading a namespace by netlink: the kernel's messages become records. Each takes an open ``pyroute2.IPRoute``, or one of its messages."""

import ipaddress
import socket
from typing import Any

from runv.network.links import Found, Link, Neighbour, Route, wanted

_ARPHRD_ETHER = 1
_IFF_UP = 1
_SCOPE_LINK = 253
_SCOPE_HOST = 254
_TABLE_MAIN = 254
_RTN_UNICAST = 1
_RTPROT_KERNEL = 2
_RTM_F_CLONED = 0x200
_RTNH_F_ONLINK = 4
_NUD_PERMANENT = 0x80
_NTF_PROXY = 8
_FAMILIES = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
_NO_MAC = "00:00:00:00:00:00"


def find(ip: Any) -> Found:
    """Everything the guest is to have of the namespace that ``ip`` is open in."""
    addresses: dict[int, list[str]] = {}
    for message in ip.get_addr():
        text = address_of(message)
        if text:
            addresses.setdefault(message["index"], []).append(text)
    links = tuple(
        link_of(message, tuple(addresses.get(message["index"], ()))) for message in ip.get_links() if carried(message)
    )
    by_index = {link.ifindex: link for link in links}
    routes: list[Route] = []
    neighbours: list[Neighbour] = []
    for family in _FAMILIES:
        routes += filter(None, (route_of(message, by_index) for message in ip.get_routes(family=family)))
        neighbours += filter(None, (neighbour_of(message, by_index) for message in ip.get_neighbours(family=family)))
    return Found(links, tuple(routes), tuple(neighbours))


def carried(message: Any) -> bool:
    """Whether a link goes into the guest: Ethernet, and no port of a bridge or bond, which is carried as a whole."""
    return bool(
        wanted(message.get_attr("IFLA_IFNAME"))
        and message["ifi_type"] == _ARPHRD_ETHER
        and (message.get_attr("IFLA_ADDRESS") or _NO_MAC) != _NO_MAC
        and not message.get_attr("IFLA_MASTER")
    )


def link_of(message: Any, addresses: tuple[str, ...]) -> Link:
    """A link from its message."""
    return Link(
        ifindex=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=message.get_attr("IFLA_ADDRESS"),
        mtu=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & _IFF_UP),
        addresses=addresses,
    )


def address_of(message: Any) -> str:
    """An address with its prefix length; empty for one that the guest's kernel gives itself."""
    if message["scope"] == _SCOPE_HOST or (message["scope"] == _SCOPE_LINK and message["family"] == socket.AF_INET6):
        return ""
    return f"{message.get_attr('IFA_LOCAL') or message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}"


def route_of(message: Any, links: dict[int, Link]) -> Route | None:
    """A route of the main table through one of ``links``; None for what the guest cannot have, or makes itself."""
    hop = _first_hop(message)
    link = links.get(hop["oif"])
    table = message.get_attr("RTA_TABLE") or message["table"]
    if link is None or message["type"] != _RTN_UNICAST or table != _TABLE_MAIN:
        return None
    if message["flags"] & _RTM_F_CLONED or message.get_attr("RTA_VIA"):
        return None
    destination = f"{message.get_attr('RTA_DST') or _FAMILIES[message['family']]}/{message['dst_len']}"
    if message["proto"] == _RTPROT_KERNEL and _comes_with_link(destination, link):
        return None
    return Route(
        destination=destination,
        interface=link.name,
        gateway=hop["gateway"] or "",
        source=message.get_attr("RTA_PREFSRC") or "",
        scope=message["scope"] if message["family"] == socket.AF_INET else 0,
        metric=message.get_attr("RTA_PRIORITY") or 0,
        onlink=bool(hop["flags"] & _RTNH_F_ONLINK),
    )


def _first_hop(message: Any) -> dict[str, Any]:
    """Where a route goes. Of several hops the first: the agent's protocol has no more."""
    hops = message.get_attr("RTA_MULTIPATH")
    hop = hops[0] if hops else message
    return {
        "oif": hop["oif"] if hops else hop.get_attr("RTA_OIF"),
        "gateway": hop.get_attr("RTA_GATEWAY"),
        "flags": hop["flags"],
    }


def _comes_with_link(destination: str, link: Link) -> bool:
    network = ipaddress.ip_network(destination, strict=False)
    own = [ipaddress.ip_interface(address).network for address in link.addresses]
    return network.is_link_local or network.is_multicast or network in own


def neighbour_of(message: Any, links: dict[int, Link]) -> Neighbour | None:
    """A permanent neighbour on one of ``links``, else None."""
    link, mac = links.get(message["ifindex"]), message.get_attr("NDA_LLADDR")
    if link is None or not mac or not message["state"] & _NUD_PERMANENT or message["flags"] & _NTF_PROXY:
        return None
    return Neighbour(link.name, message.get_attr("NDA_DST"), mac)
