"""Who may speak to the daemon: on the unix socket by what the kernel says of the other side, on TCP by certificate."""

import errno
import grp
import logging
import os
import pwd
import socket
import struct

from aiohttp import web

from hyperd.errors import DeniedError, UnavailableError

_LOG = logging.getLogger(__name__)
_SO_PEERGROUPS = 59
# The most that getsockopt of Python's takes.
_GROUPS_SIZE = 1024
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
    if uid in (0, os.geteuid()) or (group >= 0 and group in (gid, *_groups(peer, uid, gid))):
        return
    raise DeniedError(f"user {uid} may not use this daemon", hint="it takes root, or membership of the group that the settings name")


def _groups(peer: socket.socket, uid: int, gid: int) -> tuple[int, ...]:
    try:
        data = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_SIZE)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        # More groups than Python takes from the kernel: then those that the user has by the host's files.
        return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    return struct.unpack(f"{len(data) // 4}I", data)
