"""Unix sockets of the host that a container is given: found among what its mounts share, and told apart.

A socket's file can be shared, but nobody can connect to it from another kernel: such connections are carried (``runv.sandbox.residents.relay``).
"""

import errno
import os
import stat

from runv.files import connect_unix
from runv.quick import NamedTuple, socket, suppress
from runv.quick import Socket as Link

# What is looked at below a folder: enough for what people share for its sockets, and nothing against the size of a file system.
_DEPTH_MAX = 3
_ENTRIES_MAX = 1000
_FOUND_MAX = 32


class Socket(NamedTuple):
    """A socket and how it looks: ``kind`` is ``stream``, ``seqpacket`` or ``dgram``. ``path`` has no symbolic links in it."""

    path: str
    kind: str
    mode: int
    uid: int
    gid: int


def at(path: str) -> Socket | None:
    """The socket at ``path``; None when it is anything else. One that nobody listens at counts as a stream's."""
    status = os.lstat(path)
    return _describe(path, status, _kind_of(path) or "stream") if stat.S_ISSOCK(status.st_mode) else None


def below(folder: str) -> list[Socket]:
    """The sockets in ``folder`` that somebody on the host has open now: the uppermost 32 of them, three levels deep, among the first 1000 entries.

    What a service left behind, or a container made, is left alone: another container may want to make its own there.
    """
    found: list[Socket] = []
    for path in _candidates(folder):
        with suppress(FileNotFoundError):
            status = os.lstat(path)
            kind = _kind_of(path) if stat.S_ISSOCK(status.st_mode) else ""
            if kind:
                found.append(_describe(path, status, kind))
        if len(found) == _FOUND_MAX:
            break
    return found


def _describe(path: str, status: os.stat_result, kind: str) -> Socket:
    return Socket(path, kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def _candidates(folder: str) -> list[str]:
    """What may be a socket, by what the directories themselves say: no file is looked at."""
    found: list[str] = []
    folders = [(folder, 1)]
    left = _ENTRIES_MAX
    while folders and left:
        path, depth = folders.pop(0)
        with suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                left -= 1
                if entry.is_dir(follow_symlinks=False):
                    if depth < _DEPTH_MAX:
                        folders.append((entry.path, depth + 1))
                elif not entry.is_symlink() and not entry.is_file(follow_symlinks=False):
                    found.append(entry.path)
                if not left:
                    break
    return found


def _kind_of(path: str) -> str:
    """Asked of the kernel: it looks for the socket before it compares the types. No service sees a connection by that, but for one of seqpackets. Empty: nobody."""
    if (number := _probe(path, socket.SOCK_DGRAM)) != errno.EPROTOTYPE:
        return "dgram" if number in (0, errno.EPERM) else ""
    return "stream" if _probe(path, socket.SOCK_SEQPACKET) == errno.EPROTOTYPE else "seqpacket"


def _probe(path: str, kind: int) -> int:
    with Link(socket.AF_UNIX, kind) as link:
        link.setblocking(False)
        try:
            connect_unix(link, path)
        except OSError as error:
            return error.errno or errno.EIO
    return 0
