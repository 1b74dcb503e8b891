"""Id-mapped mounts: a copy of a mount whose files belong to others (mount_setattr(2), MOUNT_ATTR_IDMAP)."""

import errno
import os

from runv import linux
from runv.quick import NamedTuple, signal

# Nobody's: -1 is no id at all.
_SPARE = 2**32 - 2


class Range(NamedTuple):
    """So many ids of the file system, from ``disk`` on, appear as those from ``shown`` on (the specification's containerID and hostID)."""

    disk: int
    shown: int
    size: int


class IdMap(NamedTuple):
    """The ids of a mount; those in no range appear as nobody's. ``recursive``: of the mounts below as well."""

    uids: tuple[Range, ...]
    gids: tuple[Range, ...]
    recursive: bool = False


def with_root(idmap: IdMap) -> IdMap:
    """The same for a server that makes files as root and gives them away afterwards, as QEMU's 9p does: an id that is shown as nothing on the disk
    cannot make any. Pure."""
    return IdMap(_with_root(idmap.uids), _with_root(idmap.gids), idmap.recursive)


def _with_root(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    return ranges if any(one.shown == 0 for one in ranges) else (*ranges, Range(_SPARE, 0, 1))


def map_tree(tree: int, idmap: IdMap) -> None:
    """Maps the ids of a detached copy of mounts (``linux.open_tree``). Raises ``OSError``: EINVAL where the file system knows no such mounts."""
    namespace = _user_namespace(idmap)
    try:
        linux.map_ids(tree, namespace, recursive=idmap.recursive)
    finally:
        os.close(namespace)


def _user_namespace(idmap: IdMap) -> int:
    """A user namespace that nobody is in; raises ``OSError``. Only its maps matter."""
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            linux.unshare(linux.CLONE_NEWUSER)
            os.write(ready_write, b"x")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(ready_write)
    try:
        if not os.read(ready_read, 1):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), "a user namespace")
        for name, ranges in (("uid_map", idmap.uids), ("gid_map", idmap.gids)):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write("".join(f"{one.disk} {one.shown} {one.size}\n" for one in ranges))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready_read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
