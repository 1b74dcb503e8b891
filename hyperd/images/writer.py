"""Writes EROFS images: uncompressed, in one pass over the files, directories last."""

import os
import stat
import struct
from collections.abc import Iterable, Iterator

from hyperd.images.directories import plan_of, root_bytes, serialise
from hyperd.images.erofs import (
    BLOCK,
    BLOCKS_MAX,
    FILE_TYPES,
    INLINE,
    INODE,
    MAGIC,
    MTIME,
    NLINK_AT,
    PLAIN,
    ROOT_AT,
    SLOT,
    SUPER,
    SUPER_OFFSET,
    Attributes,
    Directory,
    ImageError,
    Node,
    inode_bytes,
    xattr_area,
)

_FLUSH_AT = 1 << 20
_HOLE_MIN = 1 << 16


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
        extra = xattr_area(attributes.xattrs)
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
        extra = xattr_area(attributes.xattrs)
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
        return self._inode(attributes, PLAIN, 0, device, xattr_area(attributes.xattrs))

    def finish(self, root: Directory) -> int:
        """Writes the directories and the superblock. All directories have attributes by now. Returns the size of the image in bytes."""
        self._close_block()
        self._out.align()
        plan = plan_of(root, self._out.position)
        area, links = serialise(plan, self._out.position)
        self._out.append(area)
        self._out.flush()
        self._patch_links(links)
        self._count += len(plan)
        size = self._out.position
        if size // BLOCK > BLOCKS_MAX:
            raise ImageError(f"an image of {size} bytes is larger than EROFS can be")
        self._out.patch(self._super(size) + root_bytes(plan[0], plan), SUPER_OFFSET)
        os.ftruncate(self._out.fd, size)
        return size

    def _super(self, size: int) -> bytes:
        fields = (MAGIC, 0, MTIME, 12, 0, ROOT_AT // SLOT, self._count, 0, 0, size // BLOCK, 0, 0, b"", b"", 0)
        return SUPER.pack(*fields).ljust(128, b"\0")

    def _patch_links(self, links: dict[int, int]) -> None:
        for nid, count in links.items():
            if count > 1:
                self._out.patch(struct.pack("<I", count), nid * SLOT + NLINK_AT)

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
        return self._inode(attributes, PLAIN, size, start // BLOCK, xattr_area(attributes.xattrs))

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
        nid = self._put(head + extra + tail) // SLOT
        return Node(nid, FILE_TYPES[stat.S_IFMT(attributes.mode)])

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
        self._used = min(BLOCK, -(-(at + len(record)) // SLOT) * SLOT)
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
