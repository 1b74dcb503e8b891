"""Who may speak to the daemon: on the unix socket by what the kernel says of the other side, on TCP by certificate."""

import grp
import logging
import os
import socket
import struct

from aiohttp import web

from hyperd.errors import DeniedError, UnavailableError

_LOG = logging.getLogger(__name__)
_SO_PEERGROUPS = 59
_GROUPS_MAX = 65536
_CREDENTIALS = struct.Struct("3i")


def group_id(name: str) -> int:
    """The number of a group by name or number; -1 when there is none: then only root and the daemon's user may."""
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid if name else -1
    except KeyError:
        _LOG.warning("there is no group %s: only root may use the socket", name)
        return -1


def check_peer(request: web.Request, group: int) -> None:
    """On TCP the certificate was checked when the connection was made.

    :raise DeniedError: the other side of a unix socket is neither root, nor the daemon's user, nor in the group
    """
    peer: socket.socket | None = request.transport.get_extra_info("socket") if request.transport else None
    if peer is None:
        raise UnavailableError("the connection is gone")
    if peer.family != socket.AF_UNIX:
        return
    _, uid, gid = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if uid in (0, os.geteuid()) or (group >= 0 and group in (gid, *_groups(peer))):
        return
    raise DeniedError(f"user {uid} may not use this daemon", hint="it takes root, or membership of the group that the settings name")


def _groups(peer: socket.socket) -> tuple[int, ...]:
    data = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_MAX * 4)
    return struct.unpack(f"{len(data) // 4}I", data)
