"""Taps, and the wire between a tap and an engine's link. Runs inside the namespace."""

import fcntl
import os
import struct

from runv.network.links import Link
from runv.network.names import tap_name
from runv.network.netlink import NLM_F_CREATE, NLM_F_EXCL, Netlink, attribute
from runv.quick import socket, suppress

_TUN = "/dev/net/tun"
_NUMBERS = 256
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP = 0x0002
_IFF_MULTI_QUEUE = 0x0100
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000

_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_NEWTFILTER = 36, 37, 44
_TC = struct.Struct("=BxxxiIII")
_TCA_KIND, _TCA_OPTIONS = 1, 2
_INGRESS_PARENT = 0xFFFFFFF1
_INGRESS_HANDLE = 0xFFFF0000
_PRIORITY = 1 << 16
# struct tc_u32_sel with one key, whose mask of zeros matches everything; the flag says that it decides.
_MATCH_ALL = struct.pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + bytes(16)
_TCA_U32_SEL, _TCA_U32_ACT = 5, 7
_TCA_ACT_KIND, _TCA_ACT_OPTIONS = 1, 2
_TCA_MIRRED_PARMS = 2
_TC_ACT_STOLEN = 4
_EGRESS_REDIRECT = 1


def open_tap(number: int, queues: int = 1, *, stays: bool = False) -> list[int]:
    """Makes a tap; returns a descriptor for each pair of its queues.

    :param stays: it lives as long as its namespace does, and not only until the last descriptor is closed. That is for namespaces of the
        sandbox's own: the kernel removes them, with all that is in them, when nobody waits. Who closes the last descriptor waits 17 ms.
    """
    name = tap_name(number)
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    fds: list[int] = []
    try:
        for _ in range(queues):
            fds.append(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
            fcntl.ioctl(fds[-1], _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        if stays:
            fcntl.ioctl(fds[0], _TUNSETPERSIST, 1)
    except OSError as error:
        for fd in fds:
            os.close(fd)
        raise OSError(error.errno, error.strerror, error.filename or name) from None
    # The host's kernel must not speak on the guest's wire: no link-local address, no solicitations.
    with suppress(FileNotFoundError), open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
        file.write("1")
    return fds


def numbers_in_use() -> set[int]:
    """The numbers of the taps that are here."""
    names = {name for _, name in socket.if_nameindex()}
    return {number for number in range(_NUMBERS) if tap_name(number) in names}


def connect(netlink: Netlink, link: Link, number: int) -> None:
    """Whatever comes in on the link goes out of the tap, and the other way round. Nothing of it reaches the host's own stack."""
    from runv.network import devices  # only where there is a link

    index = socket.if_nametoindex(tap_name(number))
    try:
        devices.change(netlink, index, up=True, mtu=link.mtu)
        _redirect(netlink, index, link.ifindex)
        _redirect(netlink, link.ifindex, index)
    except OSError as error:
        why = f" ({error.filename})" if error.filename else ""
        raise OSError(error.errno, error.strerror, f"{link.name}{why}") from None


def _redirect(netlink: Netlink, source: int, target: int) -> None:
    # A machine that ended without our help may have left its own.
    remove_ingress(netlink, source)
    flags = NLM_F_CREATE | NLM_F_EXCL
    netlink.request(_RTM_NEWQDISC, _ingress(source), flags)
    # struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex
    mirred = struct.pack("=IIiiiiI", 0, 0, _TC_ACT_STOLEN, 0, 0, _EGRESS_REDIRECT, target)
    action = attribute(_TCA_ACT_KIND, "mirred") + attribute(_TCA_ACT_OPTIONS, attribute(_TCA_MIRRED_PARMS, mirred))
    options = attribute(_TCA_U32_SEL, _MATCH_ALL) + attribute(_TCA_U32_ACT, attribute(1, action))
    header = _TC.pack(0, source, 0, _INGRESS_HANDLE, _PRIORITY | socket.htons(0x0003))  # ETH_P_ALL
    netlink.request(_RTM_NEWTFILTER, header + attribute(_TCA_KIND, "u32") + attribute(_TCA_OPTIONS, options), flags)


def _ingress(index: int) -> bytes:
    return _TC.pack(0, index, _INGRESS_HANDLE, _INGRESS_PARENT, 0) + attribute(_TCA_KIND, "ingress")


def remove_ingress(netlink: Netlink, index: int) -> None:
    """Takes the ingress qdisc and its filters off a link, if it has one."""
    with suppress(OSError):
        netlink.request(_RTM_DELQDISC, _ingress(index))
