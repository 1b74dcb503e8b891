"""Several layers as one: for images that have more than a machine takes."""

import stat

from hyperd.images.erofs import Directory, Node
from hyperd.images.lower import OPAQUE, Leaf, Stack, View
from hyperd.images.writer import Writer


def merge(stack: Stack, writer: Writer) -> int:
    """Writes the merged tree of a stack whose bottom is that of the image: nothing is left to hide. Returns the size of the new image."""
    copied: dict[tuple[int, int], Node] = {}
    root = _directory(stack.root)
    todo = [(stack.root, root)]
    while todo:
        view, target = todo.pop()
        for name in view.names():
            child = view.child(name)
            if isinstance(child, View):
                target.children[name] = below = _directory(child)
                todo.append((child, below))
            elif child is not None:
                target.children[name] = _once(child, writer, copied)
    return writer.finish(root)


def _directory(view: View) -> Directory:
    kept = tuple(each for each in view.attributes.xattrs if each[0] != OPAQUE)
    return Directory(view.attributes._replace(xattrs=kept))


def _once(leaf: Leaf, writer: Writer, copied: dict[tuple[int, int], Node]) -> Node:
    """Hard links stay such."""
    key = (id(leaf.image), leaf.inode.nid)
    if key not in copied:
        copied[key] = copy(leaf, writer)
    return copied[key]


def copy(leaf: Leaf, writer: Writer) -> Node:
    """The same file in another image."""
    inode = leaf.inode
    if inode.type == stat.S_IFREG:
        return writer.file(inode.attributes, inode.size, leaf.image.data(inode))
    if (target := leaf.target) is not None:
        return writer.symlink(inode.attributes, target)
    return writer.special(inode.attributes, inode.value >> 8 & 0xFFF, inode.value & 0xFF | inode.value >> 12 & 0xFFF00)
