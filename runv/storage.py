"""From a bundle's root and mounts to what the host shares and what the guest is told. Pure but for looking at the files."""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

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


class StoragePlan(NamedTuple):
    """What the host shares, and the container's root and mounts as the guest will see them."""

    rootfs: str
    shared: tuple[Shared, ...]
    root: dict[str, Any]
    mounts: list[dict[str, Any]]


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
    for index, mount in enumerate(config.mounts or []):
        entry = dict(raw["mounts"][index])
        if mount.is_bind:
            name = f"{container}/{index}"
            shared.append(Shared(_source(bundle, mount.source), name, "rbind" in (mount.options or [])))
            entry["source"] = f"{GUEST_SHARE}/{name}"
        mounts.append(entry)
    root = {"path": f"{GUEST_SHARE}/{container}/rootfs", "readonly": config.root.readonly}
    return StoragePlan(rootfs, tuple(shared), root, mounts)


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
