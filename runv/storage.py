"""From a bundle's root and mounts to what the host shares and what the guest is told. Pure but for looking at the files."""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from runv import sockets
from runv.errors import ConfigError, reason

if TYPE_CHECKING:
    from runv.spec.config import Config

GUEST_SHARE = "/run/runv/share"
TAG = "share"


class Shared(NamedTuple):
    """A path of the host and the name it gets under the share folder."""

    source: str
    name: str
    recursive: bool


class Carried(NamedTuple):
    """A socket of the host that a mount shows: the mount's place in the list, whose source is not known before the guest listens."""

    mount: int
    socket: sockets.Socket


class StoragePlan(NamedTuple):
    """What the host shares, and the container's root and mounts as the guest will see them, but for the sources of those in ``carried``."""

    rootfs: str
    shared: tuple[Shared, ...]
    root: dict[str, Any]
    mounts: list[dict[str, Any]]
    carried: tuple[Carried, ...] = ()


def plan(container: str, bundle: str, config: "Config", raw: dict[str, Any]) -> StoragePlan:
    """Settles where everything is.

    :raise ConfigError: the root file system or the source of a bind mount is missing
    """
    assert config.root is not None
    rootfs = os.path.realpath(os.path.join(bundle, config.root.path))
    if not os.path.isdir(rootfs):
        raise ConfigError(f"cannot use rootfs {rootfs}: {_why_not_folder(rootfs)}")
    shared = [Shared(rootfs, f"{container}/rootfs", True)]
    mounts: list[dict[str, Any]] = []
    carried: list[Carried] = []
    for index, mount in enumerate(config.mounts or []):
        entry = dict(raw["mounts"][index])
        mounts.append(entry)
        if not mount.is_bind:
            continue
        source = _source(bundle, mount.source)
        if (found := sockets.at(source)) is not None:
            carried.append(Carried(len(mounts) - 1, found))
            continue
        # The last part is what the guest's mountinfo gives as the source of the bind mount.
        name = f"{container}/{index}/{os.path.basename(source) or 'root'}"
        shared.append(Shared(source, name, "rbind" in (mount.options or [])))
        entry["source"] = f"{GUEST_SHARE}/{name}"
        for inner in sockets.below(source) if os.path.isdir(source) else ():
            # Over the file of the same name that the folder shows.
            where = os.path.join(mount.destination, os.path.relpath(inner.path, source))
            carried.append(Carried(len(mounts), inner))
            mounts.append({"destination": where, "type": "bind", "options": ["bind"]})
    root = {"path": f"{GUEST_SHARE}/{container}/rootfs", "readonly": config.root.readonly}
    return StoragePlan(rootfs, tuple(shared), root, mounts, tuple(carried))


def _why_not_folder(path: str) -> str:
    try:
        os.stat(path)
    except OSError as error:
        return reason(error)
    return "not a directory"


def _source(bundle: str, source: str) -> str:
    path = os.path.realpath(os.path.join(bundle, source))
    try:
        os.stat(path)
    except OSError as error:
        raise ConfigError(f"cannot mount {source}: {reason(error)}") from error
    return path
