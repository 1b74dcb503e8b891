"""Reads the EROFS images that :mod:`hyperd.images.erofs` wrote, one by one and as the guest's overlay shows them together."""

import mmap
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hyperd.errors import UnavailableError
from hyperd.images.erofs import (
    BLOCK,
    DIRENT,
    INLINE,
    INODE,
    MAGIC,
    SUPER,
    SUPER_OFFSET,
    XATTR_ENTRY,
    XATTR_HEADER,
    XATTR_PREFIXES,
    Attributes,
)

OPAQUE = b"trusted.overlay.opaque"
_LINKS_MAX = 40
_PIECE = 1 << 20
_CACHED = 4096


class Inode(NamedTuple):
    """``value``: the first block, or the device. ``tail``: where what is behind the inode begins."""

    nid: int
    attributes: Attributes
    size: int
    layout: int
    value: int
    tail: int

    @property
    def type(self) -> int:
        return stat.S_IFMT(self.attributes.mode)

    @property
    def whiteout(self) -> bool:
        return self.type == stat.S_IFCHR and self.value == 0

    @property
    def opaque(self) -> bool:
        return (OPAQUE, b"y") in self.attributes.xattrs


class Image:
    """One image, mapped. It has to be closed."""

    def __init__(self, path: Path) -> None:
        """:raise UnavailableError: it cannot be read, or is not one of ours"""
        self._path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise UnavailableError(f"cannot read layer {path}: {error}") from error
        fields = SUPER.unpack_from(self._map, SUPER_OFFSET)
        if fields[0] != MAGIC:
            raise UnavailableError(f"cannot read layer {path}: it is no EROFS image")
        self._root = fields[5]
        self._names: dict[int, dict[bytes, int]] = {}

    def close(self) -> None:
        self._map.close()

    def root(self) -> Inode:
        return self.inode(self._root)

    def inode(self, nid: int) -> Inode:
        at = nid * 32
        format_, count, mode, _, size, value, _, uid, gid, seconds, nanoseconds, _ = INODE.unpack_from(self._map, at)
        at += INODE.size
        xattrs = tuple(self._xattrs(at + XATTR_HEADER, at + XATTR_HEADER + 4 * (count - 1))) if count else ()
        tail = at + (XATTR_HEADER + 4 * (count - 1) if count else 0)
        attributes = Attributes(mode, uid, gid, seconds * 1_000_000_000 + nanoseconds, xattrs)
        return Inode(nid, attributes, size, format_ >> 1 & 7, value, tail)

    def data(self, inode: Inode) -> Iterator[memoryview]:
        full = inode.size // BLOCK * BLOCK if inode.layout == INLINE else inode.size
        start = inode.value * BLOCK
        for at in range(0, full, _PIECE):
            yield memoryview(self._map[start + at : start + min(at + _PIECE, full)])
        if full < inode.size:
            yield memoryview(self._map[inode.tail : inode.tail + inode.size - full])

    def names(self, inode: Inode) -> dict[bytes, int]:
        """What is in a directory, ``.`` and ``..`` included."""
        known = self._names.get(inode.nid)
        if known is None:
            known = {}
            text = b"".join(self.data(inode))
            for start in range(0, len(text), BLOCK):
                known.update(_block_names(text[start : start + BLOCK]))
            if len(self._names) > _CACHED:
                self._names.clear()
            self._names[inode.nid] = known
        return known

    def _xattrs(self, at: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        prefixes = {index: prefix for prefix, index in XATTR_PREFIXES}
        while at < end:
            length, index, size = XATTR_ENTRY.unpack_from(self._map, at)
            at += XATTR_ENTRY.size
            yield prefixes[index] + self._map[at : at + length], self._map[at + length : at + length + size]
            at += -(-(length + size) // 4) * 4


def _block_names(block: bytes) -> Iterator[tuple[bytes, int]]:
    count = DIRENT.unpack_from(block, 0)[1] // DIRENT.size
    heads = [DIRENT.unpack_from(block, index * DIRENT.size) for index in range(count)]
    ends = [head[1] for head in heads[1:]] + [len(block)]
    for (nid, start, _, _), end in zip(heads, ends, strict=True):
        yield block[start:end].rstrip(b"\0"), nid


class Leaf(NamedTuple):
    """Anything but a directory, and the image that it is in."""

    image: Image
    inode: Inode

    @property
    def target(self) -> bytes | None:
        return self.read(BLOCK) if self.inode.type == stat.S_IFLNK else None

    def read(self, limit: int) -> bytes:
        found = bytearray()
        for piece in self.image.data(self.inode):
            found += piece
            if len(found) > limit:
                break
        return bytes(found[:limit])


class View(NamedTuple):
    """A directory of the merged tree: those that make it up, the topmost first."""

    layers: tuple[tuple[Image, Inode], ...]

    @property
    def attributes(self) -> Attributes:
        return self.layers[0][1].attributes

    def child(self, name: bytes) -> "View | Leaf | None":
        merged: list[tuple[Image, Inode]] = []
        for image, directory in self.layers:
            nid = image.names(directory).get(name)
            if nid is None:
                continue
            inode = image.inode(nid)
            if inode.type == stat.S_IFDIR:
                merged.append((image, inode))
                if inode.opaque:
                    break
                continue
            if not merged and not inode.whiteout:
                return Leaf(image, inode)
            break
        return View(tuple(merged)) if merged else None

    def names(self) -> list[bytes]:
        """What is in it, in order."""
        every = {name for image, directory in self.layers for name in image.names(directory)} - {b".", b".."}
        return sorted(name for name in every if self.child(name) is not None)


class Stack:
    """The merged tree of ``paths``, which are given from the bottom up. A context manager."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._images: list[Image] = []
        try:
            for path in paths:
                self._images.insert(0, Image(path))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for image in self._images:
            image.close()

    @property
    def root(self) -> View:
        return View(tuple((image, image.root()) for image in self._images))

    def find(self, path: bytes) -> View | Leaf | None:
        """What is at ``path``. Symbolic links are followed, and lead nowhere but into the tree."""
        trail = [self.root]
        parts = _parts(path)
        links = 0
        while parts:
            name = parts.pop(0)
            if name == b"..":
                trail = trail[:-1] or [self.root]
                continue
            found = trail[-1].child(name)
            if isinstance(found, View):
                trail.append(found)
            elif found is None:
                return None
            elif (target := found.target) is not None:
                links += 1
                if links > _LINKS_MAX:
                    return None
                parts[:0] = _parts(target)
                trail = [self.root] if target.startswith(b"/") else trail
            else:
                return found if not parts else None
        return trail[-1]

    def read(self, path: bytes, limit: int) -> bytes:
        """At most ``limit`` bytes of the regular file at ``path``; none when there is no such file."""
        found = self.find(path)
        if isinstance(found, Leaf) and found.inode.type == stat.S_IFREG:
            return found.read(limit)
        return b""


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]
