"""The form of EROFS images, as far as we write and read it, and the records that make one up.

The format is in the kernel's fs/erofs/erofs_fs.h. What is used of it: blocks of 4 KiB, 64-byte inodes, files whose blocks lie in one row with the tail
behind the inode where it fits, extended attributes behind the inode. The number of an inode is where it lies, in units of 32 bytes; block 0 has the
superblock and the root.
"""

import stat
import struct
from typing import NamedTuple

from hyperd.errors import InvalidError

BLOCK = 4096
MAGIC = 0xE0F5E1E2
SUPER_OFFSET = 1024
SUPER = struct.Struct("<IIIBBHQQIIII16s16sI")
INODE = struct.Struct("<HHHHQIIIIqII16x")
DIRENT = struct.Struct("<QHBB")
XATTR_HEADER = 12
XATTR_ENTRY = struct.Struct("<BBH")
# Longest first: the prefix that a name has is a number in the image.
XATTR_PREFIXES = (
    (b"system.posix_acl_default", 3),
    (b"system.posix_acl_access", 2),
    (b"security.", 6),
    (b"trusted.", 4),
    (b"user.", 1),
)
PLAIN, INLINE = 0, 2
NAME_MAX = 255
MTIME = 2
SLOT = 32
ROOT_AT = SUPER_OFFSET + 128
ROOT_ROOM = BLOCK - ROOT_AT
BLOCKS_MAX = (1 << 32) - 1
NLINK_AT = 44
FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}


class ImageError(InvalidError):
    """It cannot be put into an EROFS image."""


class Attributes(NamedTuple):
    """``mode`` with the type. ``xattrs`` have their full names."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class Node:
    """A file of any kind but a directory, which is in the image already. ``target``: of a symbolic link."""

    __slots__ = ("nid", "target", "type")

    def __init__(self, nid: int, type_: int, target: bytes | None = None) -> None:
        self.nid = nid
        self.type = type_
        self.target = target


class Directory:
    """A directory, which is written by :meth:`Writer.finish`. ``attributes`` None: nobody has said them yet.

    ``opaque`` and ``whiteouts`` are what a layer says about those below.
    """

    __slots__ = ("attributes", "children", "opaque", "whiteouts")

    def __init__(self, attributes: Attributes | None = None) -> None:
        self.attributes = attributes
        self.children: dict[bytes, Node | Directory] = {}
        self.whiteouts: set[bytes] = set()
        self.opaque = False


def inode_bytes(
    attributes: Attributes, layout: int, size: int, value: int, number: int, links: int, extra: int
) -> bytes:
    """An inode of 64 bytes. ``value``: the first block, or the device. ``extra``: the length of what follows for extended attributes."""
    if not (0 <= attributes.uid < 1 << 32 and 0 <= attributes.gid < 1 << 32):
        raise ImageError(f"an owner {attributes.uid}:{attributes.gid}")
    count = 1 + (extra - XATTR_HEADER) // 4 if extra else 0
    seconds, nanoseconds = divmod(attributes.mtime_ns, 1_000_000_000)
    if not -(1 << 63) <= seconds < 1 << 63:
        seconds = 0
    return INODE.pack(
        1 | layout << 1,
        count,
        attributes.mode,
        0,
        size,
        value,
        number,
        attributes.uid,
        attributes.gid,
        seconds,
        nanoseconds,
        links,
    )


def xattr_area(xattrs: tuple[tuple[bytes, bytes], ...]) -> bytes:
    if not xattrs:
        return b""
    entries = [bytes(XATTR_HEADER)]
    for name, value in xattrs:
        prefix, index = next(((p, i) for p, i in XATTR_PREFIXES if name.startswith(p)), (b"", 0))
        rest = name[len(prefix) :]
        if not index or len(rest) > NAME_MAX or len(value) > 0xFFFF:
            raise ImageError(f"the extended attribute {name[:300]!r} of {len(value)} bytes")
        entry = XATTR_ENTRY.pack(len(rest), index, len(value)) + rest + value
        entries.append(entry.ljust(-(-len(entry) // 4) * 4, b"\0"))
    area = b"".join(entries)
    if len(area) > 0xFFFF * 4:
        raise ImageError(f"extended attributes of {len(area)} bytes")
    return area
