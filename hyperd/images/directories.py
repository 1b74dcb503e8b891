"""Where the directories of an EROFS image go, and what is in them: inodes and small ones close together, then full blocks of names."""

from typing import NamedTuple

from hyperd.images.erofs import (
    BLOCK,
    DIRENT,
    INLINE,
    INODE,
    PLAIN,
    ROOT_AT,
    ROOT_ROOM,
    SLOT,
    Directory,
    ImageError,
    inode_bytes,
    xattr_area,
)


class Placed(NamedTuple):
    """A directory with its place: ``at`` of the inode, ``data`` of its full blocks; the names of each of its blocks."""

    directory: Directory
    parent: int
    at: int
    data: int
    layout: int
    size: int
    extra: bytes
    blocks: list[list[bytes]]


def plan_of(root: Directory, base: int) -> list[Placed]:
    """Gives every directory its place, at and after ``base``; the root its own."""
    found: list[tuple[Directory, int]] = [(root, 0)]
    sized: list[tuple[int, bytes, list[list[bytes]], bool]] = []
    cursor = base
    for index, (directory, _) in enumerate(found):
        assert directory.attributes is not None
        found.extend((child, index) for child in directory.children.values() if isinstance(child, Directory))
        extra = xattr_area(directory.attributes.xattrs)
        blocks = _split(directory)
        tail = _used(blocks[-1])
        head = INODE.size + len(extra)
        room = BLOCK if index else ROOT_ROOM
        inline = head + tail <= room
        if not index:
            if head > room:
                raise ImageError("extended attributes of the root that are too large")
            sized.append((ROOT_AT, extra, blocks, inline))
            continue
        length = head + (tail if inline else 0)
        if cursor % BLOCK + length > BLOCK:
            cursor = -(-cursor // BLOCK) * BLOCK
        sized.append((cursor, extra, blocks, inline))
        cursor = -(-(cursor + length) // SLOT) * SLOT
    cursor = -(-cursor // BLOCK) * BLOCK
    placed = []
    for (directory, parent), (at, extra, blocks, inline) in zip(found, sized, strict=True):
        size = (len(blocks) - 1) * BLOCK + _used(blocks[-1])
        placed.append(Placed(directory, parent, at, cursor, INLINE if inline else PLAIN, size, extra, blocks))
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


def serialise(plan: list[Placed], base: int) -> tuple[bytearray, dict[int, int]]:
    """The area of all directories but the root's inode, and how many names each other inode has."""
    last = plan[-1]
    end = max(
        last.data + (len(last.blocks) - (last.layout == INLINE)) * BLOCK,
        *(-(-(each.at + INODE.size + len(each.extra)) // BLOCK) * BLOCK for each in plan),
        base,
    )
    area = bytearray(end - base)
    numbers = {id(each.directory): each.at // SLOT for each in plan}
    links: dict[int, int] = {}
    for each in plan:
        head, blocks = _directory_bytes(each, plan, numbers, links)
        if each.at >= base:
            area[each.at - base : each.at - base + len(head)] = head
        for index, block in enumerate(blocks):
            at = each.data - base + index * BLOCK
            area[at : at + len(block)] = block
    return area, links


def root_bytes(root: Placed, plan: list[Placed]) -> bytes:
    return _directory_bytes(root, plan, {id(each.directory): each.at // SLOT for each in plan}, {})[0]


def _directory_bytes(
    each: Placed, plan: list[Placed], numbers: dict[int, int], links: dict[int, int]
) -> tuple[bytes, list[bytes]]:
    """The inode with what lies behind it, and the full blocks."""
    own, parent = each.at // SLOT, plan[each.parent].at // SLOT
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
