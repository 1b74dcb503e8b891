"""What the entries of a layer's tar mean, and the form the guest's overlayfs wants it in.

Nothing of a layer is ever a file of the host: names are keys of a tree in memory, contents go into the image. So there is no path that could lead out,
no device that is made and no owner that is set. An error of the layer's is a :class:`hyperd.errors.InvalidError`.

Whiteouts become character devices 0:0 and opaque directories get ``trusted.overlay.opaque``; attributes of that name that the layer brings are
dropped. Some layers mean different things on different others: where they whiten something out, leave out the parents of what they bring, or link to
a file below. For these the layers below are looked at in the end, and ``dependent`` says so.
"""

import stat
from collections.abc import Callable, Iterator

from hyperd.images import tar
from hyperd.images.below import Below
from hyperd.images.erofs import Attributes, Directory, Node
from hyperd.images.lower import OPAQUE, Stack
from hyperd.images.paths import LayerError, parts_of
from hyperd.images.resolve import resolve
from hyperd.images.tar import Entry, Reader, shown
from hyperd.images.writer import Writer

_WHITEOUT = b".wh."
_AUFS = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_FORGED = (b"trusted.overlay.", b"user.overlay.")
_NAMESPACES = (b"user.", b"trusted.", b"security.")
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
_TYPES = {
    tar.FILE: stat.S_IFREG,
    tar.CHAR: stat.S_IFCHR,
    tar.BLOCK_DEVICE: stat.S_IFBLK,
    tar.DIRECTORY: stat.S_IFDIR,
    tar.FIFO: stat.S_IFIFO,
    tar.SYMLINK: stat.S_IFLNK,
}
_LEFT_OUT = Attributes(stat.S_IFDIR | 0o755)


class Tree:
    """Takes the entries one after the other; :meth:`finish` makes the image complete."""

    def __init__(self, writer: Writer, *, entries_max: int, bytes_max: int) -> None:
        self.dependent = False
        self._writer = writer
        self._root = Directory()
        self._whiteout: Node | None = None
        self._pending: list[tuple[list[bytes], list[bytes]]] = []
        self._entries_left = entries_max
        self._bytes_left = bytes_max
        self._folder: tuple[list[bytes], Directory] | None = None

    def add(self, entry: Entry, reader: Reader) -> None:
        """:raise LayerError: as the class says"""
        self._entries_left -= 1
        self._bytes_left -= entry.size
        if self._entries_left < 0:
            raise LayerError("the layer has too many files")
        if self._bytes_left < 0:
            raise LayerError("the files of the layer are too large")
        parts = parts_of(entry.name)
        if not parts:
            if entry.kind != tar.DIRECTORY:
                raise LayerError(f"{shown(entry.name)} would replace the root")
            self._root.attributes = _attributes(entry)
        elif any(part.startswith(_AUFS) and part != _OPAQUE for part in parts):
            pass  # aufs' own files
        elif parts[-1].startswith(_WHITEOUT):
            self._whiten(parts)
        elif entry.kind == tar.LINK:
            self._link(parts, parts_of(entry.target))
        else:
            self._place(parts, entry, reader)

    def finish(self, lower: Callable[[], Stack]) -> int:
        """Completes the image with what the layers below say, and returns its size. ``lower`` is called if they are needed.

        :raise LayerError: a hard link to nothing
        """
        self._pending = [
            links for links in self._pending if self._look(links[0]) is None and not self._link_here(*links)
        ]
        self.dependent = bool(self._pending) or _needs_lower(self._root)
        if self.dependent:
            with lower() as stack:
                Below(self, stack).run()
        self._settle(self._root)
        return self._writer.finish(self._root)

    def _settle(self, root: Directory) -> None:
        for directory in _walk(root):
            attributes = directory.attributes or _LEFT_OUT
            if directory.opaque:
                attributes = attributes._replace(xattrs=(*attributes.xattrs, (OPAQUE, b"y")))
            directory.attributes = attributes
            for name in directory.whiteouts - directory.children.keys():
                directory.children[name] = self._whiteout_node()

    def _whiteout_node(self) -> Node:
        if self._whiteout is None:
            self._whiteout = self._writer.special(Attributes(stat.S_IFCHR))
        return self._whiteout

    def _whiten(self, parts: list[bytes]) -> None:
        folder = self.folder(parts[:-1])
        if parts[-1] == _OPAQUE:
            folder.opaque = True
            return
        name = parts[-1][len(_WHITEOUT) :]
        if name in (b"", b".", b".."):
            raise LayerError(f"{shown(b'/'.join(parts))} removes what is no file")
        folder.whiteouts.add(name)

    def _place(self, parts: list[bytes], entry: Entry, reader: Reader) -> None:
        folder, name = self.folder(parts[:-1]), parts[-1]
        attributes = _attributes(entry)
        if entry.kind == tar.DIRECTORY:
            here = folder.children.get(name)
            if not isinstance(here, Directory):
                self._forget(here)
                here = folder.children[name] = Directory()
            here.attributes = attributes
            return
        self._forget(folder.children.get(name))
        folder.children[name] = self._node(attributes, entry, reader)

    def _forget(self, replaced: Node | Directory | None) -> None:
        if replaced is not None:
            self._folder = None

    def _node(self, attributes: Attributes, entry: Entry, reader: Reader) -> Node:
        if entry.kind == tar.FILE:
            return self._writer.file(attributes, entry.size, reader.data(), entry.segments)
        if entry.kind == tar.SYMLINK:
            if not 0 < len(entry.target) < tar.PATH_MAX or b"\0" in entry.target:
                raise LayerError(f"the symbolic link {shown(entry.name)} has a target of {len(entry.target)} bytes")
            return self._writer.symlink(attributes, entry.target)
        return self._writer.special(attributes, *entry.device)

    def folder(self, parts: list[bytes]) -> Directory:
        """The directory at ``parts``; what is missing of it is made, without attributes. Links on the way are followed within the tree."""
        if self._folder is not None and self._folder[0] == parts:
            return self._folder[1]
        found = resolve(self._root, parts, make=True, follow=True)
        if not isinstance(found, Directory):
            raise LayerError(f"{shown(b'/'.join(parts))}, in which something is to be, is no directory")
        self._folder = (parts, found)
        return found

    def _link(self, parts: list[bytes], target: list[bytes]) -> None:
        if not self._link_here(parts, target):
            # Whatever is there in the end came after the link.
            self._forget(self.folder(parts[:-1]).children.pop(parts[-1], None))
            self._pending.append((parts, target))

    def _link_here(self, parts: list[bytes], target: list[bytes]) -> bool:
        """Makes the hard link if its target is in this layer."""
        if not target:
            raise LayerError(f"{shown(b'/'.join(parts))} is a hard link to the root")
        node = self._look(target)
        if node is None:
            return False
        if isinstance(node, Directory):
            raise LayerError(f"{shown(b'/'.join(parts))} is a hard link to a directory")
        self.folder(parts[:-1]).children[parts[-1]] = node
        self._folder = None
        return True

    def _look(self, parts: list[bytes]) -> Node | Directory | None:
        """What this layer has at ``parts``; links on the way are followed, the last is not."""
        return resolve(self._root, parts, make=False, follow=False)

    @property
    def root(self) -> Directory:
        return self._root

    @property
    def writer(self) -> Writer:
        return self._writer

    def take_pending(self) -> list[tuple[list[bytes], list[bytes]]]:
        """The hard links whose targets are not in this layer: (name, target)."""
        pending, self._pending = self._pending, []
        return pending

    def place_node(self, parts: list[bytes], node: Node) -> None:
        self._folder = None
        self.folder(parts[:-1]).children[parts[-1]] = node


def _attributes(entry: Entry) -> Attributes:
    xattrs = _kept_xattrs(entry) if entry.xattrs else ()
    return Attributes(_TYPES[entry.kind] | entry.mode, entry.uid, entry.gid, entry.mtime_ns, xattrs)


def _kept_xattrs(entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
    plain = entry.kind in (tar.FILE, tar.DIRECTORY)
    return tuple(
        (name, value)
        for name, value in entry.xattrs
        if (name.startswith(_NAMESPACES) or name in _ACLS)
        and not name.startswith(_FORGED)
        and (plain or not name.startswith(b"user."))
    )


def _walk(root: Directory) -> Iterator[Directory]:
    todo = [root]
    while todo:
        directory = todo.pop()
        yield directory
        todo.extend(child for child in directory.children.values() if isinstance(child, Directory))


def _needs_lower(root: Directory) -> bool:
    return root.opaque or any(each.whiteouts or each.attributes is None for each in _walk(root))
