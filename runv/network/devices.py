"""Changing the links of a namespace: what ``interface`` and ``linux.netDevices`` ask for. Every function works in the namespace of its
``Netlink``, and raises ``OSError``."""

import errno
import fcntl
import os
import struct

from runv.network import look
from runv.network.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Netlink, attribute
from runv.quick import Socket, socket

_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_DELADDR = 16, 17, 20, 21
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 0x02
_NAME_MAX = 15
_SIOCGIFFLAGS = 0x8913


def index_of(name: str) -> int:
    """The link called ``name`` in the namespace the caller is in."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        # Python's has no errno.
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), f"network interface {name}") from None


def is_up(name: str) -> bool:
    """Whether a link is up, by netdevice(7)."""
    with Socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        answer = fcntl.ioctl(link, _SIOCGIFFLAGS, struct.pack("16sH22x", os.fsencode(name), 0))
    return bool(struct.unpack_from("16sH", answer)[1] & _IFF_UP)


def is_mac(text: str) -> bool:
    """Whether ``text`` is an address that a link can have: not a group's, and not all zeros."""
    parts = text.split(":")
    try:
        numbers = [int(part, 16) for part in parts if len(part) == 2]
    except ValueError:
        return False
    return len(parts) == len(numbers) == 6 and not numbers[0] & 1 and any(numbers)


def is_name(name: str) -> bool:
    """Whether the kernel takes ``name`` for a link."""
    return 0 < len(os.fsencode(name)) <= _NAME_MAX and name not in (".", "..") and not any(c in "/:" or c.isspace() for c in name)


def change(netlink: Netlink, index: int, *, up: bool | None = None, mtu: int = 0, mac: str = "") -> None:
    """Changes what is given."""
    more = (attribute(_IFLA_MTU, mtu) if mtu else b"") + (attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))) if mac else b"")
    netlink.request(_RTM_NEWLINK, _header(index, up) + more)


def _header(index: int, up: bool | None = None) -> bytes:
    return _LINK.pack(0, 0, index, _IFF_UP if up else 0, 0 if up is None else _IFF_UP)


def move(netlink: Netlink, index: int, namespace_fd: int, name: str) -> None:
    """Moves a link into another namespace, where it is down and called ``name``."""
    change(netlink, index, up=False)
    netlink.request(_RTM_NEWLINK, _header(index) + attribute(_IFLA_NET_NS_FD, namespace_fd) + attribute(_IFLA_IFNAME, name))


def remove(netlink: Netlink, index: int) -> None:
    """Deletes a link that was made."""
    netlink.request(_RTM_DELLINK, _header(index))


def make_veth(netlink: Netlink, name: str, bridge: int, namespace_fd: int, peer: str) -> None:
    """Makes a pair: one end, up, is a port of a bridge here, the other, down, is called ``peer`` in the other namespace."""
    far = _header(0) + attribute(_IFLA_IFNAME, peer) + attribute(_IFLA_NET_NS_FD, namespace_fd)
    info = attribute(_IFLA_INFO_KIND, "veth") + attribute(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, far))
    near = attribute(_IFLA_IFNAME, name) + attribute(_IFLA_MASTER, bridge) + attribute(_IFLA_LINKINFO, info)
    netlink.request(_RTM_NEWLINK, _header(0, up=True) + near, NLM_F_CREATE | NLM_F_EXCL)


def addresses(netlink: Netlink, index: int) -> list[str]:
    """The addresses of a link, but for those that the kernel gives it itself."""
    return list(look.addresses(netlink).get(index, []))


def add_address(netlink: Netlink, index: int, address: str) -> None:
    """Gives a link an address (``10.0.0.2/24``), at once: it is not looked for who else may have it."""
    import ipaddress

    interface = ipaddress.ip_interface(address)
    more = b""
    if interface.version == 6:
        more = attribute(_IFA_FLAGS, _IFA_F_NODAD)
    elif interface.network.prefixlen < 31:
        more = attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    netlink.request(_RTM_NEWADDR, _address(index, address) + more, NLM_F_CREATE | NLM_F_REPLACE)


def remove_address(netlink: Netlink, index: int, address: str) -> None:
    """Takes an address off a link."""
    netlink.request(_RTM_DELADDR, _address(index, address))


def _address(index: int, address: str) -> bytes:
    import ipaddress

    interface = ipaddress.ip_interface(address)
    family = socket.AF_INET6 if interface.version == 6 else socket.AF_INET
    packed = interface.ip.packed
    header = _ADDRESS.pack(family, interface.network.prefixlen, 0, 0, index)
    return header + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
