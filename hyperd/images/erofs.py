"""Writes EROFS images: uncompressed, in one pass over the files, directories last.

The format is in the kernel's fs/erofs/erofs_fs.h. What is used of it: blocks of 4 KiB, 64-byte inodes, files whose blocks lie in one row with the tail
behind the inode where it fits, extended attributes behind the inode. The number of an inode is where it lies, in units of 32 bytes; block 0 has the
superblock and the root.
"""

import os
import stat
import struct
from collections.abc import Iterable, Iterator
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
_MTIME = 2
_SLOT = 32
_ROOT_AT = SUPER_OFFSET + 128
_ROOT_ROOM = BLOCK - _ROOT_AT
_BLOCKS_MAX = (1 << 32) - 1
_NLINK_AT = 44
_FLUSH_AT = 1 << 20
_HOLE_MIN = 1 << 16
_FILE_TYPES = {
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


class _Output:
    """Appends to a file with few system calls, and leaves holes."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.position = 0
        self._written = 0
        self._pending: list[bytes | bytearray | memoryview] = []

    def append(self, data: bytes | bytearray | memoryview) -> None:
        self._pending.append(data)
        self.position += len(data)
        if self.position - self._written >= _FLUSH_AT:
            self.flush()

    def align(self) -> None:
        if self.position % BLOCK:
            self.append(bytes(-self.position % BLOCK))

    def skip(self, size: int) -> None:
        """Zeros: a hole when there are many."""
        if size < _HOLE_MIN:
            self.append(bytes(size))
            return
        self.flush()
        self.position += size
        self._written = self.position

    def flush(self) -> None:
        for start in range(0, len(self._pending), 512):
            self._write(self._pending[start : start + 512])
        self._pending.clear()

    def _write(self, pieces: list[bytes | bytearray | memoryview]) -> None:
        total = sum(map(len, pieces))
        done = os.pwritev(self.fd, pieces, self._written)
        if done < total:
            rest = memoryview(b"".join(pieces))[done:]
            while rest:
                count = os.pwrite(self.fd, rest, self._written + total - len(rest))
                rest = rest[count:]
        self._written += total

    def settle(self, block: bytearray, offset: int) -> None:
        """``block`` was appended at ``offset``, changed since, and will not change again."""
        if offset < self._written:
            os.pwrite(self.fd, block, offset)

    def patch(self, data: bytes | bytearray, offset: int) -> None:
        """Changes what was appended before."""
        if offset + len(data) > self._written:
            self.flush()
        os.pwrite(self.fd, data, offset)


class Writer:
    """Makes one image in the empty file ``fd``. Raises :class:`ImageError`, and ``OSError`` as the file system does."""

    def __init__(self, fd: int) -> None:
        self._out = _Output(fd)
        self._out.append(bytes(BLOCK))
        self._block = bytearray()
        self._block_at = 0
        self._used = BLOCK
        self._count = 0

    def file(
        self,
        attributes: Attributes,
        size: int,
        data: Iterable[memoryview],
        segments: tuple[tuple[int, int], ...] | None = None,
    ) -> Node:
        """A regular file. ``data`` is all of it, or of its ``segments`` where it is sparse; the rest is zeros."""
        if segments is not None:
            return self._sparse(attributes, size, data, segments)
        extra = _xattr_area(attributes.xattrs)
        tail = size % BLOCK
        start = self._out.position
        if not tail or not self._inline(INODE.size + len(extra), tail):
            self._append_all(data, size)
            self._out.align()
            return self._inode(attributes, PLAIN, size, start // BLOCK, extra)
        pieces = _Pieces(iter(data))
        self._append_all(pieces.take(size - tail), size - tail)
        first = start // BLOCK if size > tail else 0xFFFFFFFF
        return self._inode(attributes, INLINE, size, first, extra, b"".join(pieces.take(tail)))

    def symlink(self, attributes: Attributes, target: bytes) -> Node:
        """A symbolic link; its mode is always 0777."""
        extra = _xattr_area(attributes.xattrs)
        attributes = attributes._replace(mode=stat.S_IFLNK | 0o777)
        if INODE.size + len(extra) + len(target) <= BLOCK:
            node = self._inode(attributes, INLINE, len(target), 0xFFFFFFFF, extra, target)
        else:
            start = self._out.position
            self._out.append(target)
            self._out.align()
            node = self._inode(attributes, PLAIN, len(target), start // BLOCK, extra)
        node.target = target
        return node

    def special(self, attributes: Attributes, major: int = 0, minor: int = 0) -> Node:
        """A device, a pipe or a socket."""
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise ImageError(f"a device with the numbers {major}:{minor}")
        device = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
        return self._inode(attributes, PLAIN, 0, device, _xattr_area(attributes.xattrs))

    def finish(self, root: Directory) -> int:
        """Writes the directories and the superblock. All directories have attributes by now. Returns the size of the image in bytes."""
        self._close_block()
        self._out.align()
        plan = _plan(root, self._out.position)
        area, links = _serialise(plan, self._out.position)
        self._out.append(area)
        self._out.flush()
        self._patch_links(links)
        self._count += len(plan)
        size = self._out.position
        if size // BLOCK > _BLOCKS_MAX:
            raise ImageError(f"an image of {size} bytes is larger than EROFS can be")
        self._out.patch(self._super(size) + _root_bytes(plan[0], plan), SUPER_OFFSET)
        os.ftruncate(self._out.fd, size)
        return size

    def _super(self, size: int) -> bytes:
        fields = (MAGIC, 0, _MTIME, 12, 0, _ROOT_AT // _SLOT, self._count, 0, 0, size // BLOCK, 0, 0, b"", b"", 0)
        return SUPER.pack(*fields).ljust(128, b"\0")

    def _patch_links(self, links: dict[int, int]) -> None:
        for nid, count in links.items():
            if count > 1:
                self._out.patch(struct.pack("<I", count), nid * _SLOT + _NLINK_AT)

    def _sparse(
        self, attributes: Attributes, size: int, data: Iterable[memoryview], segments: tuple[tuple[int, int], ...]
    ) -> Node:
        start, at = self._out.position, 0
        pieces = _Pieces(iter(data))
        for offset, length in segments:
            self._out.skip(offset - at)
            self._append_all(pieces.take(length), length)
            at = offset + length
        self._out.skip(size - at)
        self._out.align()
        return self._inode(attributes, PLAIN, size, start // BLOCK, _xattr_area(attributes.xattrs))

    def _append_all(self, data: Iterable[memoryview], size: int) -> None:
        for piece in data:
            self._out.append(piece)
            size -= len(piece)
        if size:
            raise ImageError("a file that ends before its size")

    def _inline(self, head: int, tail: int) -> bool:
        """Whether a tail goes behind its inode: it has to lie in one block, and a large one must not waste most of another."""
        return head + tail <= BLOCK and (self._used + head + tail <= BLOCK or tail <= BLOCK // 2)

    def _inode(
        self, attributes: Attributes, layout: int, size: int, value: int, extra: bytes, tail: bytes = b""
    ) -> Node:
        self._count += 1
        head = inode_bytes(attributes, layout, size, value, self._count, 1, len(extra))
        nid = self._put(head + extra + tail) // _SLOT
        return Node(nid, _FILE_TYPES[stat.S_IFMT(attributes.mode)])

    def _put(self, record: bytes) -> int:
        """Places inodes into blocks of their own among those of the files. Returns the offset."""
        if len(record) > BLOCK:
            self._close_block()
            at = self._out.position
            self._out.append(record)
            self._out.align()
            return at
        if self._used + len(record) > BLOCK:
            self._close_block()
            self._block = bytearray(BLOCK)
            self._block_at = self._out.position
            self._used = 0
            self._out.append(self._block)
        at = self._used
        self._block[at : at + len(record)] = record
        self._used = min(BLOCK, -(-(at + len(record)) // _SLOT) * _SLOT)
        return self._block_at + at

    def _close_block(self) -> None:
        if self._block:
            self._out.settle(self._block, self._block_at)
        self._block, self._used = bytearray(), BLOCK


class _Pieces:
    """Cuts a row of pieces anew."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def take(self, size: int) -> Iterator[memoryview]:
        while size:
            if not self._rest:
                self._rest = next(self._pieces)
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            yield piece


class _Placed(NamedTuple):
    """A directory with its place: ``at`` of the inode, ``data`` of its full blocks; the names of each of its blocks."""

    directory: Directory
    parent: int
    at: int
    data: int
    layout: int
    size: int
    extra: bytes
    blocks: list[list[bytes]]


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


def _xattr_area(xattrs: tuple[tuple[bytes, bytes], ...]) -> bytes:
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


def _plan(root: Directory, base: int) -> list[_Placed]:
    """Gives every directory its place, at and after ``base``; the root its own."""
    found: list[tuple[Directory, int]] = [(root, 0)]
    sized: list[tuple[int, bytes, list[list[bytes]], bool]] = []
    cursor = base
    for index, (directory, _) in enumerate(found):
        assert directory.attributes is not None
        found.extend((child, index) for child in directory.children.values() if isinstance(child, Directory))
        extra = _xattr_area(directory.attributes.xattrs)
        blocks = _split(directory)
        tail = _used(blocks[-1])
        head = INODE.size + len(extra)
        room = BLOCK if index else _ROOT_ROOM
        inline = head + tail <= room
        if not index:
            if head > room:
                raise ImageError("extended attributes of the root that are too large")
            sized.append((_ROOT_AT, extra, blocks, inline))
            continue
        length = head + (tail if inline else 0)
        if cursor % BLOCK + length > BLOCK:
            cursor = -(-cursor // BLOCK) * BLOCK
        sized.append((cursor, extra, blocks, inline))
        cursor = -(-(cursor + length) // _SLOT) * _SLOT
    cursor = -(-cursor // BLOCK) * BLOCK
    placed = []
    for (directory, parent), (at, extra, blocks, inline) in zip(found, sized, strict=True):
        size = (len(blocks) - 1) * BLOCK + _used(blocks[-1])
        placed.append(_Placed(directory, parent, at, cursor, INLINE if inline else PLAIN, size, extra, blocks))
        cursor += (len(blocks) - inline) * BLOCK
    return placed


def _split(directory: Directory) -> list[list[bytes]]:
    blocks: list[list[bytes]] = [[]]
    used = 0
    for name in sorted([b".", b"..", *directory.children]):
        length = DIRENT.size + len(name)
        if used + length > BLOCK:
            blocks.append([])
            used = 0
        blocks[-1].append(name)
        used += length
    return blocks


def _used(names: list[bytes]) -> int:
    return sum(map(len, names)) + DIRENT.size * len(names)


def _serialise(plan: list[_Placed], base: int) -> tuple[bytearray, dict[int, int]]:
    """The area of all directories but the root's inode, and how many names each other inode has."""
    last = plan[-1]
    end = max(
        last.data + (len(last.blocks) - (last.layout == INLINE)) * BLOCK,
        *(-(-(each.at + INODE.size + len(each.extra)) // BLOCK) * BLOCK for each in plan),
        base,
    )
    area = bytearray(end - base)
    numbers = {id(each.directory): each.at // _SLOT for each in plan}
    links: dict[int, int] = {}
    for each in plan:
        head, blocks = _directory_bytes(each, plan, numbers, links)
        if each.at >= base:
            area[each.at - base : each.at - base + len(head)] = head
        for index, block in enumerate(blocks):
            at = each.data - base + index * BLOCK
            area[at : at + len(block)] = block
    return area, links


def _root_bytes(root: _Placed, plan: list[_Placed]) -> bytes:
    return _directory_bytes(root, plan, {id(each.directory): each.at // _SLOT for each in plan}, {})[0]


def _directory_bytes(
    each: _Placed, plan: list[_Placed], numbers: dict[int, int], links: dict[int, int]
) -> tuple[bytes, list[bytes]]:
    """The inode with what lies behind it, and the full blocks."""
    own, parent = each.at // _SLOT, plan[each.parent].at // _SLOT
    blocks = []
    for names in each.blocks:
        offset = DIRENT.size * len(names)
        heads = []
        for name in names:
            nid, type_ = _entry(each.directory, name, own, parent, numbers)
            heads.append(DIRENT.pack(nid, offset, type_, 0))
            offset += len(name)
            if type_ != 2:
                links[nid] = links.get(nid, 0) + 1
        blocks.append(b"".join(heads + names))
    assert each.directory.attributes is not None
    tail = blocks.pop() if each.layout == INLINE else b""
    count = 2 + sum(isinstance(child, Directory) for child in each.directory.children.values())
    first = each.data // BLOCK if blocks else 0xFFFFFFFF
    head = inode_bytes(
        each.directory.attributes, each.layout, each.size, first, own & 0xFFFFFFFF, count, len(each.extra)
    )
    return head + each.extra + tail, blocks


def _entry(directory: Directory, name: bytes, own: int, parent: int, numbers: dict[int, int]) -> tuple[int, int]:
    if name == b".":
        return own, 2
    if name == b"..":
        return parent, 2
    child = directory.children[name]
    return (numbers[id(child)], 2) if isinstance(child, Directory) else (child.nid, child.type)
