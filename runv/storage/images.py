"""Disks of a container on the host: image files and block devices, told apart, checked, and opened for QEMU."""

import errno
import fcntl
import os
import stat
import struct

from runv.errors import ConfigError, reason
from runv.quick import NamedTuple

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from collections.abc import Iterable

# qcow2's header (docs/interop/qcow2.txt of QEMU): magic, version, offset of the backing file's name; incompatible features at 72.
_QCOW2_MAGIC = b"QFI\xfb"
_QCOW2_START = struct.Struct(">4sIQ")
_QCOW2_FEATURES = struct.Struct(">72xQ")
_QCOW2_EXTERNAL_DATA = 1 << 2
# QEMU's locks (block/file-posix.c): byte 100 + n is locked by who does n to the image, 200 + n by who lets nobody else do it.
_WRITES, _NO_READERS, _NO_WRITERS = 101, 200, 201
_FLOCK = struct.Struct("hhqqi4x")
_F_OFD_GETLK = 36


class Wish(NamedTuple):
    """A disk that a configuration names. ``serial`` tells which it is, however it is called: a letter and at most 25 of ``[0-9a-f.]``.
    ``alone``: no other container may use it at the same time."""

    serial: str
    path: str
    read_only: bool
    alone: bool = False


class Image(NamedTuple):
    """An opened disk. ``format``: ``raw`` or ``qcow2``. The descriptor is the holder's to close."""

    serial: str
    path: str
    fd: int
    format: str
    read_only: bool
    block_device: bool


def wish(path: str, *, read_only: bool) -> Wish:
    """Names the disk at ``path``, without opening it.

    :raise ConfigError: it is not there, or neither a block device nor a file
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise ConfigError(f"cannot attach disk {path}: {reason(error)}") from error
    if stat.S_ISBLK(status.st_mode):
        serial = device_serial(os.major(status.st_rdev), os.minor(status.st_rdev))
    elif stat.S_ISREG(status.st_mode):
        serial = f"f{status.st_dev:x}.{status.st_ino:x}"
    else:
        raise ConfigError(f"cannot attach disk {path}: neither a block device nor an image file")
    return Wish(serial, path, read_only)


def device_serial(major: int, minor: int) -> str:
    """The serial of a block device of the host."""
    return f"b{os.makedev(major, minor):x}"


def merge(wishes: "Iterable[Wish]") -> tuple[Wish, ...]:
    """Each disk once; writable if anything wants to write to it."""
    merged: dict[str, Wish] = {}
    for each in wishes:
        known = merged.get(each.serial, each)
        merged[each.serial] = known._replace(read_only=known.read_only and each.read_only)
    return tuple(merged.values())


def open_image(wanted: Wish) -> Image:
    """Opens a disk: for reading only where that is all that is wanted, or all the host allows.

    :raise ConfigError: it cannot be opened, is in use by somebody else, or is an image that refers to other files
    """
    fd, read_only = _open(wanted)
    try:
        block_device = stat.S_ISBLK(os.fstat(fd).st_mode)
        if os.lseek(fd, 0, os.SEEK_END) == 0:
            raise ConfigError(f"cannot attach disk {wanted.path}: it is empty")
        if is_locked(fd, read_only=read_only):
            raise ConfigError(f"cannot attach disk {wanted.path}: another machine uses it")
        image_format = "raw" if block_device else _format(wanted.path, os.pread(fd, _QCOW2_FEATURES.size, 0))
    except BaseException:
        os.close(fd)
        raise
    return Image(wanted.serial, wanted.path, fd, image_format, read_only, block_device)


def _open(wanted: Wish) -> tuple[int, bool]:
    """A descriptor, and whether it is for reading only."""
    if not wanted.read_only:
        # Exclusive: a block device that the host has mounted, and a machine writes to, is destroyed. Files do not know the flag.
        exclusive = os.O_EXCL if stat.S_ISBLK(os.stat(wanted.path).st_mode) else 0
        try:
            return os.open(wanted.path, os.O_RDWR | exclusive | os.O_CLOEXEC), False
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                hint = "the host has mounted it, or gives it to another machine" if error.errno == errno.EBUSY else ""
                raise ConfigError(f"cannot attach disk {wanted.path}: {reason(error)}", hint=hint) from error
    try:
        return os.open(wanted.path, os.O_RDONLY | os.O_CLOEXEC), True
    except OSError as error:
        raise ConfigError(f"cannot attach disk {wanted.path}: {reason(error)}") from error


def _format(path: str, head: bytes) -> str:
    """A guest can write any header to its raw disk. So the name, which is the host's, says what an image is, and the header must agree; and one that
    refers to other files is refused: whoever wrote it would choose what of the host is read."""
    is_qcow2 = head.startswith(_QCOW2_MAGIC)
    if is_qcow2 != path.endswith(".qcow2"):
        if not is_qcow2:
            raise ConfigError(f"cannot attach disk {path}: not a qcow2 image")
        raise ConfigError(
            f"cannot attach disk {path}: it begins like a qcow2 image, but is not called so",
            hint="a guest could have written that: if it was you, let its name end in .qcow2",
        )
    if not is_qcow2:
        return "raw"
    if len(head) < _QCOW2_FEATURES.size:
        raise ConfigError(f"cannot attach disk {path}: the qcow2 header is cut off")
    _, version, backing = _QCOW2_START.unpack_from(head)
    (features,) = _QCOW2_FEATURES.unpack_from(head)
    if version not in (2, 3):
        raise ConfigError(f"cannot attach disk {path}: qcow2 of version {version} is not supported")
    if backing:
        raise ConfigError(
            f"cannot attach disk {path}: it has a backing file", hint="`qemu-img convert` makes one image of the two"
        )
    if version == 3 and features & _QCOW2_EXTERNAL_DATA:
        raise ConfigError(f"cannot attach disk {path}: its data is in another file")
    return "qcow2"


def is_locked(fd: int, *, read_only: bool) -> bool:
    """Whether another QEMU holds the image in a way that would keep ours from opening it."""
    wanted = (_WRITES, _NO_READERS) if read_only else (_WRITES, _NO_READERS, _NO_WRITERS)
    return any(_byte_is_locked(fd, byte) for byte in wanted)


def _byte_is_locked(fd: int, byte: int) -> bool:
    # QEMU takes read locks: only who asks for a write lock, as it does, is told of them.
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        kind = _FLOCK.unpack(fcntl.fcntl(fd, _F_OFD_GETLK, asked))[0]
    except OSError:
        return False  # a file system without such locks; QEMU does without them as well
    return int(kind) != fcntl.F_UNLCK
