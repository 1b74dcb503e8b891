"""Reading a namespace: the kernel's messages (rtnetlink(7)) become records. The functions on single messages are pure."""

import ipaddress
import os
import struct

from runv.network.links import Found, Hop, Link, Neighbour, Route, Rule
from runv.network.names import wanted
from runv.network.netlink import Netlink, attributes, number, text
from runv.quick import socket

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE, _RTM_GETNEIGH, _RTM_GETRULE = 18, 22, 26, 30, 34
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_HOP = struct.Struct("=HBBi")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")

_ARPHRD_ETHER = 1
_IFF_UP = 0x1
_IFF_NOARP = 0x80
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_INFO_KIND = 1
_MAC_BYTES = 6
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_SCOPE_LINK = 253
_SCOPE_HOST = 254
_TABLE_LOCAL = 255
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_METRICS, _RTA_MULTIPATH = 1, 4, 5, 6, 7, 8, 9
_RTA_TABLE, _RTA_VIA = 15, 18
_RTAX_MTU, _RTAX_ADVMSS = 2, 8
_RTPROT_KERNEL = 2
_RTM_F_CLONED = 0x200
_RTNH_F_ONLINK = 4
# What a route is, by rtnetlink's numbers. The others are the kernel's own (local, broadcast, ...).
_ROUTE_TYPES = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_PERMANENT = 0x80
_NTF_PROXY = 8
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_OIFNAME = 1, 2, 3, 6, 10, 15, 16, 17
_RULE_TYPES = {1: "lookup", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_FRA_SUPPRESS_PREFIXLEN, _FRA_PAD, _FRA_PROTOCOL = 14, 18, 21
# What these say of a rule we can say too; one that says more would mean something else without it.
_RULE_ATTRIBUTES = {
    _FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK, _FRA_OIFNAME,
    _FRA_SUPPRESS_PREFIXLEN, _FRA_PAD, _FRA_PROTOCOL,
}  # fmt: skip
_NOTHING_SUPPRESSED = 0xFFFFFFFF
_FIB_RULE_INVERT = 2
_PRIORITIES_OF_ITS_OWN = (0, 32766, 32767)
_EVERYTHING: dict[int, str] = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}

Attributes = dict[int, bytes]


def find(netlink: Netlink) -> Found:
    """Everything the guest is to have of the namespace that ``netlink`` is open in."""
    by_link = addresses(netlink)
    found = [link_of(message) for message in netlink.dump(_RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0))]
    links = {link.ifindex: link._replace(addresses=tuple(by_link.get(link.ifindex, ()))) for link in found if link}
    routes: list[Route | None] = []
    neighbours: list[Neighbour | None] = []
    rules: list[Rule | None] = []
    for family in _EVERYTHING:
        routes += [route_of(message, links) for message in _dump(netlink, _RTM_GETROUTE, _ROUTE, family)]
        neighbours += [neighbour_of(message, links) for message in _dump(netlink, _RTM_GETNEIGH, _NEIGHBOUR, family)]
        rules += [rule_of(message) for message in _dump(netlink, _RTM_GETRULE, _ROUTE, family)]
    return Found(
        tuple(links.values()),
        tuple(route for route in routes if route),
        tuple(neighbour for neighbour in neighbours if neighbour),
        tuple(rule for rule in rules if rule),
    )


def addresses(netlink: Netlink) -> dict[int, list[str]]:
    """The addresses of every link, by its index."""
    found: dict[int, list[str]] = {}
    for message in netlink.dump(_RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
        address = address_of(message)
        if address:
            found.setdefault(_ADDRESS.unpack_from(message)[4], []).append(address)
    return found


def _dump(netlink: Netlink, kind: int, header: struct.Struct, family: int) -> list[bytes]:
    try:
        return netlink.dump(kind, bytes([family]) + bytes(header.size - 1))
    except OSError:
        if family == socket.AF_INET6 and not os.path.exists("/proc/net/if_inet6"):
            return []  # a kernel without IPv6
        raise


def link_of(message: bytes) -> Link | None:
    """A link, without its addresses; None where it does not go into the guest: it is not Ethernet, or a port of a bridge or bond, which
    is carried as a whole."""
    _, hardware, index, flags, _ = _LINK.unpack_from(message)
    found = attributes(message[_LINK.size :])
    name, mac = text(found.get(_IFLA_IFNAME)), found.get(_IFLA_ADDRESS, b"")
    if not wanted(name) or hardware != _ARPHRD_ETHER or len(mac) != _MAC_BYTES or not any(mac) or _IFLA_MASTER in found:
        return None
    return Link(
        ifindex=index,
        name=name,
        mac=mac.hex(":"),
        mtu=number(found.get(_IFLA_MTU)),
        up=bool(flags & _IFF_UP),
        arp=not flags & _IFF_NOARP,
        kind=text(attributes(found.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND)),
    )


def address_of(message: bytes) -> str:
    """An address with its prefix length; empty for one that the guest's kernel gives itself."""
    family, prefix, _, scope, _ = _ADDRESS.unpack_from(message)
    if scope == _SCOPE_HOST or (scope == _SCOPE_LINK and family == socket.AF_INET6):
        return ""
    found = attributes(message[_ADDRESS.size :])
    own = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    return f"{_ip(family, own)}/{prefix}" if own else ""


def route_of(message: bytes, links: dict[int, Link]) -> Route | None:
    """A route through ``links`` or to nowhere; None for what the guest cannot have, or makes itself."""
    family, length, _, _, table, protocol, scope, kind, flags = _ROUTE.unpack_from(message)
    found = attributes(message[_ROUTE.size :])
    table = number(found.get(_RTA_TABLE), table)
    if kind not in _ROUTE_TYPES or table == _TABLE_LOCAL or flags & _RTM_F_CLONED:
        return None
    destination = _network(family, found.get(_RTA_DST), length)
    hops = list(_hops(family, found, flags, links)) if _ROUTE_TYPES[kind] == "unicast" else []
    if _ROUTE_TYPES[kind] == "unicast" and not hops:
        return None
    # The kernel makes these itself, when the link gets its addresses and comes up.
    if protocol == _RTPROT_KERNEL and (not hops or _comes_with_link(destination, hops[0].interface, links.values())):
        return None
    metrics = attributes(found.get(_RTA_METRICS, b""))
    route = Route(
        destination=destination,
        source=_ip(family, found.get(_RTA_PREFSRC)),
        scope=scope if family == socket.AF_INET else 0,
        metric=number(found.get(_RTA_PRIORITY)),
        type=_ROUTE_TYPES[kind],
        table=table,
        mtu=number(metrics.get(_RTAX_MTU)),
        advmss=number(metrics.get(_RTAX_ADVMSS)),
    )
    if len(hops) > 1:
        return route._replace(hops=tuple(hops))
    return route._replace(interface=hops[0].interface, gateway=hops[0].gateway, onlink=hops[0].onlink) if hops else route


def _hops(family: int, found: Attributes, flags: int, links: dict[int, Link]) -> "Iterator[Hop]":
    if _RTA_MULTIPATH not in found:
        index = number(found.get(_RTA_OIF))
        if index in links:
            yield Hop(links[index].name, _gateway(family, found), bool(flags & _RTNH_F_ONLINK))
        return
    data = found[_RTA_MULTIPATH]
    while len(data) >= _HOP.size:
        length, hop_flags, weight, index = _HOP.unpack_from(data)
        if length < _HOP.size:
            return
        if index in links:
            gateway = _gateway(family, attributes(data[_HOP.size : length]))
            yield Hop(links[index].name, gateway, bool(hop_flags & _RTNH_F_ONLINK), weight + 1)
        data = data[length + -length % 4 :]


def _gateway(family: int, found: Attributes) -> str:
    """Of an IPv4 route it may be an IPv6 address, which then says of which family it is."""
    via = found.get(_RTA_VIA)
    if via is not None:
        return _ip(int(struct.unpack_from("=H", via)[0]), via[2:])
    return _ip(family, found.get(_RTA_GATEWAY))


def _comes_with_link(destination: str, name: str, links: "Iterable[Link]") -> bool:
    network = ipaddress.ip_network(destination)
    own = [ipaddress.ip_interface(address).network for link in links if link.name == name for address in link.addresses]
    return network.is_link_local or network.is_multicast or network in own


def neighbour_of(message: bytes, links: dict[int, Link]) -> Neighbour | None:
    """A permanent neighbour on one of ``links``, else None."""
    family, index, state, flags, _ = _NEIGHBOUR.unpack_from(message)
    found = attributes(message[_NEIGHBOUR.size :])
    mac, address = found.get(_NDA_LLADDR, b""), found.get(_NDA_DST)
    if index not in links or len(mac) != _MAC_BYTES or not address or not state & _NUD_PERMANENT or flags & _NTF_PROXY:
        return None
    return Neighbour(links[index].name, _ip(family, address), mac.hex(":"))


def rule_of(message: bytes) -> Rule | None:
    """A rule that somebody made; None for the three that are always there, and for one that asks what we cannot pass on."""
    family, to_length, from_length, tos, table, _, _, action, flags = _ROUTE.unpack_from(message)
    found = attributes(message[_ROUTE.size :])
    priority = number(found.get(_FRA_PRIORITY))
    more = tos or not _RULE_ATTRIBUTES.issuperset(found)
    more = more or number(found.get(_FRA_SUPPRESS_PREFIXLEN), _NOTHING_SUPPRESSED) != _NOTHING_SUPPRESSED
    if more or action not in _RULE_TYPES or priority in _PRIORITIES_OF_ITS_OWN:
        return None
    return Rule(
        family=4 if family == socket.AF_INET else 6,
        priority=priority,
        type=_RULE_TYPES[action],
        table=number(found.get(_FRA_TABLE), table),
        source=_network(family, found[_FRA_SRC], from_length) if _FRA_SRC in found else "",
        destination=_network(family, found[_FRA_DST], to_length) if _FRA_DST in found else "",
        input=text(found.get(_FRA_IIFNAME)),
        output=text(found.get(_FRA_OIFNAME)),
        mark=number(found.get(_FRA_FWMARK)),
        mask=number(found.get(_FRA_FWMASK)),
        inverted=bool(flags & _FIB_RULE_INVERT),
    )


def _ip(family: int, value: bytes | None) -> str:
    return socket.inet_ntop(family, value) if value else ""


def _network(family: int, value: bytes | None, length: int) -> str:
    return f"{_ip(family, value)}/{length}" if value else _EVERYTHING[family]
