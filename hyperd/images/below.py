"""Brings the tree of a layer together with the layers below it, where its meaning depends on them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hyperd.images.erofs import Directory
from hyperd.images.lower import OPAQUE, Leaf, Stack, View
from hyperd.images.merging import copy
from hyperd.images.paths import LayerError, cleaned
from hyperd.images.tar import shown

if TYPE_CHECKING:
    from hyperd.images.tree import Tree

_LINKS_MAX = 40


class Below:
    """One tree, and the merged view of what lies below it."""

    def __init__(self, tree: "Tree", stack: Stack) -> None:
        self._tree = tree
        self._stack = stack

    def run(self) -> None:
        self._clear_root()
        for name, target in self._tree.take_pending():
            self._copy_up(name, target)
        for _ in range(_LINKS_MAX):
            if not self._relocate():
                break
        else:
            raise LayerError("directories that are symbolic links to one another")
        self._inherit()

    def _clear_root(self) -> None:
        """overlayfs merges the roots of its layers whatever they say, so an opaque one becomes a whiteout for each name."""
        root = self._tree.root
        if root.opaque:
            root.opaque = False
            root.whiteouts.update(self._stack.root.names() if self._stack.root.layers else [])

    def _copy_up(self, name: list[bytes], target: list[bytes]) -> None:
        """A hard link to a file below: both names come to be in this layer, as overlayfs itself would do it."""
        found = self._lower(target)
        if isinstance(found, View):
            raise LayerError(f"{shown(b'/'.join(name))} is a hard link to a directory")
        if found is None:
            raise LayerError(
                f"{shown(b'/'.join(name))} is a hard link to {shown(b'/'.join(target))}, which is in no layer"
            )
        node = copy(found, self._tree.writer)
        self._tree.place_node(target, node)
        self._tree.place_node(name, node)

    def _lower(self, target: list[bytes]) -> View | Leaf | None:
        folder = self._stack.find(b"/".join(target[:-1]))
        return folder.child(target[-1]) if isinstance(folder, View) else None

    def _relocate(self) -> bool:
        """Moves the contents of directories that nobody described, and that are symbolic links below, to where these lead."""
        moved = False
        for path, directory, below in list(self._pairs()):
            for name, child in list(directory.children.items()):
                if not isinstance(child, Directory) or child.attributes is not None or name in directory.whiteouts:
                    continue
                found = below.child(name) if below is not None and not directory.opaque else None
                if isinstance(found, Leaf):
                    if found.target is None:
                        raise LayerError(
                            f"{shown(b'/'.join([*path, name]))}, in which something is to be, is no directory"
                        )
                    del directory.children[name]
                    start = [] if found.target.startswith(b"/") else path
                    _join(child, self._tree.folder(cleaned([*start, *found.target.split(b"/")])))
                    moved = True
            if moved:
                return True
        return False

    def _inherit(self) -> None:
        """Directories that nobody described are as they are below; whiteouts of what is not there are dropped: they would be seen."""
        for _, directory, below in self._pairs():
            if directory.attributes is None and below is not None:
                xattrs = tuple(each for each in below.attributes.xattrs if each[0] != OPAQUE)
                directory.attributes = below.attributes._replace(xattrs=xattrs)
            for name in directory.whiteouts:
                child = directory.children.get(name)
                if isinstance(child, Directory):
                    child.opaque = True
            directory.whiteouts = {
                name
                for name in directory.whiteouts
                if below is not None and not directory.opaque and below.child(name) is not None
            }

    def _pairs(self) -> Iterator[tuple[list[bytes], Directory, View | None]]:
        """Every directory with its path and what is below it, parents first."""
        root = self._stack.root
        todo: list[tuple[list[bytes], Directory, View | None]] = [([], self._tree.root, root if root.layers else None)]
        while todo:
            path, directory, below = todo.pop()
            yield path, directory, below
            for name, child in directory.children.items():
                if isinstance(child, Directory):
                    found = below.child(name) if below is not None and not directory.opaque else None
                    shown_ = found if isinstance(found, View) and name not in directory.whiteouts else None
                    todo.append(([*path, name], child, shown_))


def _join(source: Directory, target: Directory) -> None:
    """Puts the contents of ``source`` into ``target``, where the same name counts more."""
    todo = [(source, target)]
    while todo:
        source, target = todo.pop()
        target.whiteouts |= source.whiteouts
        target.opaque = target.opaque or source.opaque
        target.attributes = source.attributes or target.attributes
        for name, child in source.children.items():
            here = target.children.get(name)
            if isinstance(here, Directory) and isinstance(child, Directory):
                todo.append((child, here))
            else:
                target.children[name] = child
