"""Paths in a tree of directories, as the kernel would resolve them if the tree were the root."""

from hyperd.images import tar
from hyperd.images.erofs import Directory, Node
from hyperd.images.paths import LayerError

_LINKS_MAX = 40
_DEPTH_MAX = tar.PATH_MAX // 2


def resolve(root: Directory, parts: list[bytes], *, make: bool, follow: bool) -> Node | Directory | None:
    """What is at ``parts``, or None: also where the way leads through a file, or through too many links.

    Symbolic links on the way are followed, the last name's only with ``follow``; none leads out of ``root``. With ``make`` directories that are missing
    are made, without attributes.

    :raise LayerError: directories deeper than a path can be long
    """
    trail = [root]
    todo = parts[::-1]
    links = 0
    while todo:
        name = todo.pop()
        if name == b"..":
            trail = trail[:-1] or [root]
            continue
        child = trail[-1].children.get(name)
        if child is None and make:
            child = trail[-1].children[name] = Directory()
        if isinstance(child, Directory):
            trail.append(child)
            if len(trail) > _DEPTH_MAX:
                raise LayerError("directories that are too deep")
            continue
        if child is None or not (todo or follow):
            return child
        links += 1
        if child.target is None or links > _LINKS_MAX:
            return None
        trail = [root] if child.target.startswith(b"/") else trail
        todo.extend(part for part in reversed(child.target.split(b"/")) if part not in (b"", b"."))
    return trail[-1]
