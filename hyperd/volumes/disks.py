"""Sparse files with an empty file system. Blocking.

mkfs takes some 20 ms for any size, as much as a copy of a formatted file would with a UUID of its own: there is no need to keep one.
"""

import os
import subprocess
import tempfile
from typing import NamedTuple

from hyperd.errors import ConflictError, InvalidError, UnavailableError

MIB = 1 << 20
# What mkfs needs. ext4 gets at least this much, whoever asks for less; XFS is refused below it.
SMALLEST = {"ext4": 4 * MIB, "xfs": 300 * MIB}
LARGEST = 16 << 40
_MKFS_TIMEOUT_S = 120


class Kind(NamedTuple):
    """What a disk is to be; ``size`` in bytes. ``mode`` and ``gid`` are those of the root directory, which is root's. ``empty``: there is nothing in it,
    not even lost+found, over which the first start of PostgreSQL or MySQL stumbles; e2fsck makes it anew when it needs it."""

    fstype: str
    size: int
    mode: int = 0o755
    gid: int = 0
    empty: bool = True


def settle(kind: Kind) -> Kind:
    """``kind`` as it can be made: in whole MiB, and not too small. Pure.

    :raise InvalidError: there is no such file system, or a number is out of bounds
    """
    if kind.fstype not in SMALLEST:
        raise InvalidError(f"unknown file system {kind.fstype!r}", hint=f"there are {' and '.join(SMALLEST)}")
    if not 0 < kind.size <= LARGEST:
        raise InvalidError(f"a disk has between 1 byte and {LARGEST >> 40} TiB, not {kind.size} bytes")
    if kind.fstype == "xfs" and kind.size < SMALLEST["xfs"]:
        raise InvalidError(f"XFS needs at least {SMALLEST['xfs'] // MIB} MiB", hint="ext4 does with less")
    if not (0 <= kind.mode <= 0o7777 and 0 <= kind.gid < 2**32 - 1):
        raise InvalidError(f"mode {kind.mode:o} and group {kind.gid} cannot be those of a directory")
    return kind._replace(size=-(-max(kind.size, SMALLEST[kind.fstype]) // MIB) * MIB)


def make(path: str, wanted: Kind) -> None:
    """Makes a disk, mode 0600, at ``path``.

    :raise InvalidError: as of ``settle``
    :raise ConflictError: there is a file
    :raise UnavailableError: no space, or mkfs fails; nothing is left then
    """
    kind = settle(wanted)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise ConflictError(f"cannot make disk {path}: file exists") from error
    except OSError as error:
        raise UnavailableError(f"cannot make disk {path}: {error.strerror}") from error
    try:
        os.truncate(fd, kind.size)
        _format(path, kind)
        os.fsync(fd)
    except BaseException as error:
        os.unlink(path)
        if isinstance(error, OSError):
            raise UnavailableError(f"cannot make disk {path}: {error.strerror}") from error
        raise
    finally:
        os.close(fd)


def _format(path: str, kind: Kind) -> None:
    if kind.fstype == "xfs":
        with tempfile.TemporaryFile() as prototype:  # a pipe will not do
            prototype.write(_xfs_prototype(kind))
            prototype.flush()
            _run(["mkfs.xfs", "-q", "-p", f"/proc/self/fd/{prototype.fileno()}", path], path, prototype.fileno())
        return
    # Nothing is written that can be a hole, neither here nor by the guest later.
    _run(["mkfs.ext4", "-q", "-F", "-m", "0", "-E", f"lazy_journal_init=1,root_owner=0:{kind.gid}", path], path)
    changes = ["rmdir lost+found"] if kind.empty else []
    changes += [f"set_inode_field <2> mode 0{0o040000 | kind.mode:o}"] if kind.mode != 0o755 else []
    if changes:
        with tempfile.TemporaryFile() as script:
            script.write("".join(f"{line}\n" for line in changes).encode())
            script.flush()
            _run(["debugfs", "-w", "-f", f"/proc/self/fd/{script.fileno()}", path], path, script.fileno())


def _xfs_prototype(kind: Kind) -> bytes:
    """What the root directory is, as mkfs.xfs(8) wants it: the sticky bit is not for it."""
    bits = f"d{'u' if kind.mode & 0o4000 else '-'}{'g' if kind.mode & 0o2000 else '-'}{kind.mode & 0o777:03o}"
    return f"/\n0 0\n{bits} 0 {kind.gid}\n$\n".encode()


def _run(command: list[str], path: str, *keep: int) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MKFS_TIMEOUT_S, check=False, pass_fds=keep
        )
    except FileNotFoundError as error:
        raise UnavailableError(f"cannot make disk {path}: {command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"cannot make disk {path}: {command[0]} does not end") from error
    if done.returncode != 0:
        raise UnavailableError(f"cannot make disk {path}: {command[0]}: {(done.stderr.strip().splitlines() or [str(done.returncode)])[-1]}")
