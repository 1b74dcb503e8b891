"""A root file system of image layers: read-only EROFS images, and one writable disk that takes what the container changes.

The guest lays them over each other (overlayfs), so the host never mounts an image, and machines that run the same image share its files.
"""

import os

from runv.errors import ConfigError, reason
from runv.quick import NamedTuple, loads
from runv.spec.annotations import COPY, LAYERS, PREFIX, ROOTFS_FSTYPE, UPPER
from runv.storage.images import Wish, wish

LAYERS_MAX = 64

_KNOWN = frozenset({COPY, LAYERS, UPPER, ROOTFS_FSTYPE})
# Where a file system has its mark: offset and bytes, as in guest/disks.c.
_MARKS = {"EROFS": (1024, b"\xe2\xe1\xf5\xe0"), "ext4": (1080, b"\x53\xef")}


class Layers(NamedTuple):
    """``layers``: bottom first, each once. ``upper``: None where what is changed is kept in the guest's memory, and lost."""

    layers: tuple[Wish, ...]
    upper: Wish | None

    @property
    def disks(self) -> tuple[Wish, ...]:
        """All of them."""
        return (*self.layers, *([self.upper] if self.upper else []))


def read_layers(annotations: dict[str, str]) -> Layers | None:
    """What the annotations say of a root of layers; None where they say nothing. Looks at the images.

    :raise ConfigError: a name or a value is wrong, or an image is not one
    """
    unknown = sorted(name for name in annotations if name.startswith(PREFIX) and name not in _KNOWN)
    if unknown:
        raise ConfigError(f"config.json: $.annotations: unknown annotation {unknown[0]!r}", hint=f"there are {', '.join(sorted(_KNOWN))}")
    if LAYERS not in annotations:
        if UPPER in annotations:
            raise ConfigError(f"config.json: $.annotations: {UPPER} means nothing without {LAYERS}")
        return None
    paths = _paths(annotations[LAYERS])
    upper = _image(UPPER, annotations[UPPER], "ext4", read_only=False) if UPPER in annotations else None
    layers = _once([_image(f"{LAYERS}[{index}]", path, "EROFS", read_only=True) for index, path in enumerate(paths)])
    if upper is not None and any(layer.serial == upper.serial for layer in layers):
        raise ConfigError(f"config.json: $.annotations: {UPPER}: {upper.path} is one of the layers")
    return Layers(layers, upper)


def _paths(text: str) -> list[str]:
    try:
        paths = loads(text)
    except ValueError as error:
        raise ConfigError(f"config.json: $.annotations: {LAYERS} is not JSON: {error}") from error
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise ConfigError(f"config.json: $.annotations: {LAYERS} must be a JSON list of paths")
    return paths


def _once(layers: list[Wish]) -> tuple[Wish, ...]:
    """An image may have the same layer several times, overlayfs may not: the uppermost hides all that those below it could show."""
    kept = {layer.serial: layer for layer in reversed(layers)}
    if len(kept) > LAYERS_MAX:
        raise ConfigError(f"config.json: $.annotations: {LAYERS} has {len(kept)} layers; a guest takes at most {LAYERS_MAX}")
    return tuple(reversed(kept.values()))


def _image(name: str, path: str, kind: str, *, read_only: bool) -> Wish:
    if not path.startswith("/") or "\0" in path:
        raise ConfigError(f"config.json: $.annotations: {name}: must be an absolute path, not {path!r}")
    found = wish(path, read_only=read_only)
    if not path.endswith(".qcow2") and not _has_mark(path, *_MARKS[kind]):
        raise ConfigError(f"cannot use {path} for the rootfs: there is no {kind} on it")
    return found._replace(alone=not read_only)


def _has_mark(path: str, offset: int, mark: bytes) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"cannot attach disk {path}: {reason(error)}") from error
    try:
        return os.pread(fd, len(mark), offset) == mark
    finally:
        os.close(fd)
