"""Paths within a root, as the entries and links of layers have them."""

from hyperd.errors import InvalidError
from hyperd.images.erofs import NAME_MAX
from hyperd.images.tar import PATH_MAX, shown


class LayerError(InvalidError):
    """The layer asks for what cannot be, or for too much."""


def parts_of(name: bytes) -> list[bytes]:
    """The parts of a path within the root.

    :raise LayerError: it leads out of it, or is longer than Linux allows
    """
    if len(name) > PATH_MAX or b"\0" in name:
        raise LayerError(f"a path of {len(name)} bytes: {shown(name)}")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise LayerError(f"{shown(name)} leads out of the root")
            parts.pop()
        elif part not in (b"", b"."):
            if len(part) > NAME_MAX:
                raise LayerError(f"a name of {len(part)} bytes: {shown(name)}")
            parts.append(part)
    return parts


def cleaned(parts: list[bytes]) -> list[bytes]:
    """As :func:`parts_of`, but the parent of the root is the root: so it is for links."""
    found: list[bytes] = []
    for part in parts:
        if part == b"..":
            found = found[:-1]
        elif part not in (b"", b"."):
            found.append(part)
    return found
