"""Taps, and the wire between a tap and an engine's link. Runs inside the namespace."""

import contextlib
import fcntl
import os
import socket
import struct
from typing import Any

from runv.network.links import TAP_PREFIX, Link

_TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_ETH_P_ALL = 0x0003
_INGRESS = 0xFFFF0000
# u32 wants a class for what it matches; an ingress qdisc has none, and looks at none.
_NO_CLASS = 0x10000


def open_tap(number: int) -> tuple[int, str]:
    """Makes a tap that lives as long as its descriptor is open; returns that and the tap's name."""
    name = f"{TAP_PREFIX}{number}"
    fd = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    except OSError as error:
        os.close(fd)
        raise OSError(error.errno, error.strerror, name) from None
    # The host's kernel must not speak on the guest's wire: no link-local address, no solicitations.
    with contextlib.suppress(FileNotFoundError), open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
        file.write("1")
    return fd, name


def connect(ip: Any, link: Link, tap: str) -> None:
    """Whatever comes in on the link goes out of the tap, and the other way round. Nothing of it reaches the host's own stack."""
    index = socket.if_nametoindex(tap)
    ip.link("set", index=index, mtu=link.mtu, state="up")
    _redirect(ip, index, link.ifindex)
    _redirect(ip, link.ifindex, index)


def _redirect(ip: Any, source: int, target: int) -> None:
    # A machine that ended without our help may have left its own.
    remove_ingress(ip, source)
    ip.tc("add", "ingress", index=source)
    action = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": target}
    match_all = {"keys": ["0x0/0x0+0"], "target": _NO_CLASS, "action": action}
    ip.tc("add-filter", "u32", index=source, parent=_INGRESS, prio=1, protocol=_ETH_P_ALL, **match_all)


def remove_ingress(ip: Any, index: int) -> None:
    """Takes the ingress qdisc and its filters off a link, if it has one."""
    from pyroute2.netlink.exceptions import NetlinkError

    with contextlib.suppress(NetlinkError):
        ip.tc("del", "ingress", index=index)
