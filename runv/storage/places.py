"""Where a bundle's disks are, whether they are there or not: those of a container that is restored may be yet to be made."""

import json
import os
import stat
from typing import TYPE_CHECKING

from runv.errors import ConfigError
from runv.spec.annotations import LAYERS, UPPER, is_infra
from runv.storage.words import DISK_TYPES

if TYPE_CHECKING:
    from runv.spec.config import Config


def disk_paths(bundle: str, config: "Config") -> list[str]:
    """The paths of the images and block devices that a configuration names, in an order that does not depend on where they are.

    :raise ConfigError: its layers are no list of paths
    """
    mounts = [mount for mount in config.mounts or [] if mount.type in DISK_TYPES or (mount.is_bind and _is_block_device(mount.source))]
    return [*_root_paths(bundle, config), *(_resolved(bundle, mount.source) for mount in mounts)]


def _root_paths(bundle: str, config: "Config") -> list[str]:
    annotations = config.annotations or {}
    if LAYERS in annotations:
        try:
            layers = json.loads(annotations[LAYERS])
        except ValueError as error:
            raise ConfigError(f"config.json: $.annotations: {LAYERS} is not JSON: {error}") from error
        if not isinstance(layers, list) or not all(isinstance(path, str) for path in layers):
            raise ConfigError(f"config.json: $.annotations: {LAYERS} must be a JSON list of paths")
        return [*layers, *([annotations[UPPER]] if UPPER in annotations else [])]
    if config.root is None or is_infra(annotations):
        return []
    path = _resolved(bundle, config.root.path)
    return [] if os.path.isdir(path) else [path]


def _resolved(bundle: str, path: str) -> str:
    return os.path.realpath(os.path.join(bundle, path))


def _is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False
