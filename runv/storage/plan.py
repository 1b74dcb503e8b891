"""From a bundle's root and mounts to what the host shares or attaches, and what the guest is told. Pure but for looking at the files."""

import errno
import os
import stat

from runv import linux, sockets
from runv.errors import ConfigError, reason
from runv.idmaps import IdMap, map_tree
from runv.quick import Any, NamedTuple
from runv.spec.annotations import COPY, LAYERS, ROOTFS_FSTYPE, is_infra
from runv.spec.mount_ids import WORDS, mount_ids
from runv.storage.images import Wish, merge, wish
from runv.storage.layers import read_layers
from runv.storage.memory import SharedMemory, named_memory, shared_memory
from runv.storage.words import COPY_UP, DISK_TYPES, SUBPATH, check_words, value_of

TYPE_CHECKING = False  # typing itself is too dear to import here
if TYPE_CHECKING:
    from runv.spec.config import Config, Mount

GUEST_SHARE = "/run/runv/share"
TAG = "share"
# Where a root is that the guest makes by itself.
_NOWHERE = "/none"


class Shared(NamedTuple):
    """A path of the host and the name it gets under the share folder."""

    source: str
    name: str
    recursive: bool
    idmap: IdMap | None = None


class Carried(NamedTuple):
    """A socket of the host that a mount shows: the mount's place in the list, whose source is not known before the guest listens."""

    mount: int
    socket: sockets.Socket


class StoragePlan(NamedTuple):
    """What the host shares and attaches, and the container's root and mounts as the guest will see them, but for two things. The sources of those
    in ``carried`` are not known yet; and what is on a disk has a member ``disk``, its serial, until ``placed_root`` and ``placed_mounts`` put the
    guest's name of it there. ``held``: descriptors of disks that have no name, to be closed when they were opened."""

    rootfs: str
    shared: tuple[Shared, ...]
    root: dict[str, Any]
    mounts: list[dict[str, Any]]
    carried: tuple[Carried, ...] = ()
    disks: tuple[Wish, ...] = ()
    memory: tuple[SharedMemory, ...] = ()
    held: tuple[int, ...] = ()


class GuestDisk(NamedTuple):
    """A disk as the guest has it: its device node, its numbers, and the file system on it (empty when it has none that is known)."""

    node: str
    major: int
    minor: int
    fstype: str


def plan(container: str, bundle: str, config: "Config", raw: dict[str, Any]) -> StoragePlan:
    """Settles where everything is.

    :raise ConfigError: the root file system, the source of a bind mount or a disk is missing
    """
    rootfs, root, shared, disks = _plan_root(container, bundle, config)
    held = [_copy_root(rootfs, root, shared, disks)] if _copies(config, rootfs) else []
    mounts: list[dict[str, Any]] = []
    carried: list[Carried] = []
    memory: list[SharedMemory] = []
    for index, mount in enumerate(config.mounts or []):
        entry = dict(raw["mounts"][index])
        mounts.append(entry)
        check_words(mount, f"config.json: $.mounts[{index}].options")
        if (by_name := named_memory(mount)) is not None:
            memory.append(by_name.memory)
            entry |= {"type": "bind", "source": by_name.memory.target, "options": by_name.options}
            continue
        disk = _disk_of(bundle, mount)
        if disk is not None:
            disks.append(disk)
            entry["disk"] = disk.serial
        idmap = mount_ids(mount, config.linux, f"config.json: $.mounts[{index}]")
        if disk is not None and idmap is not None:
            if mount.is_bind:
                raise ConfigError(f"config.json: $.mounts[{index}]: id-mapped mounts are not of devices")
            entry.update(_guest_ids(idmap), options=_without_words(mount))
        if disk is not None or not mount.is_bind:
            continue
        source = _source(bundle, mount.source)
        if idmap is not None and (sockets.at(source) is not None or shared_memory(mount.destination, source) is not None):
            raise ConfigError(f"config.json: $.mounts[{index}]: id-mapped mounts are of folders, files and disks, not of {source}")
        if (found := sockets.at(source)) is not None:
            carried.append(Carried(len(mounts) - 1, found))
            continue
        if (shared_by_path := shared_memory(mount.destination, source)) is not None:
            memory.append(shared_by_path)
            entry["source"] = shared_by_path.target
            continue
        # The last part is what the guest's mountinfo gives as the source of the bind mount.
        name = f"{container}/{index}/{os.path.basename(source) or 'root'}"
        shared.append(Shared(source, name, "rbind" in (mount.options or []), idmap))
        if idmap is not None:
            _check_idmap(shared[-1], f"config.json: $.mounts[{index}]")
            # The host maps them: to the guest it is a folder like others.
            entry.update(uidMappings=None, gidMappings=None, options=_without_words(mount))
        entry["source"] = f"{GUEST_SHARE}/{name}"
        for inner in sockets.below(source) if os.path.isdir(source) and not value_of(mount, SUBPATH) else ():
            # Over the file of the same name that the folder shows.
            where = os.path.join(mount.destination, os.path.relpath(inner.path, source))
            carried.append(Carried(len(mounts), inner))
            mounts.append({"destination": where, "type": "bind", "options": ["bind"]})
    return StoragePlan(rootfs, tuple(shared), root, mounts, tuple(carried), merge(disks), tuple(memory), tuple(held))


def _without_words(mount: "Mount") -> list[str]:
    return [word for word in mount.options or [] if word not in WORDS]


def _guest_ids(idmap: IdMap) -> dict[str, Any]:
    """The mappings as the guest reads them, also where they are the container's own."""
    both = {"uidMappings": idmap.uids, "gidMappings": idmap.gids}
    return {name: [{"containerID": one.disk, "hostID": one.shown, "size": one.size} for one in ranges] for name, ranges in both.items()}


def _check_idmap(shared: Shared, where: str) -> None:
    """:raise ConfigError: the host cannot map ids there"""
    if shared.idmap is None:
        return
    try:
        tree = linux.open_tree(shared.source, recursive=shared.recursive)
        try:
            map_tree(tree, shared.idmap)
        finally:
            os.close(tree)
    except OSError as error:
        hint = "not every file system has id-mapped mounts, nor have all that may be mounted below it" if error.errno == errno.EINVAL else ""
        raise ConfigError(f"{where}: cannot map the ids of {shared.source}: {reason(error)}", hint=hint) from error


def _plan_root(container: str, bundle: str, config: "Config") -> tuple[str, dict[str, Any], list[Shared], list[Wish]]:
    """Where the root is on the host, what the guest is told of it, and what it takes."""
    annotations = config.annotations or {}
    layered = read_layers(annotations)
    if is_infra(annotations) and layered is None:
        return "", {"path": _NOWHERE, "type": "tmpfs", "options": ["size=64k", "mode=755"], "readonly": True}, [], []
    rootfs = os.path.realpath(os.path.join(bundle, config.root.path)) if config.root else ""
    root: dict[str, Any] = {"readonly": config.root is not None and config.root.readonly}
    if layered is not None:
        root["layers"] = [layer.serial for layer in layered.layers]
        root |= {"upper": layered.upper.serial} if layered.upper else {}
        return rootfs, root, [], list(layered.disks)
    if _is_disk(rootfs):
        disk = wish(rootfs, read_only=root["readonly"])
        return rootfs, root | {"disk": disk.serial, "type": annotations.get(ROOTFS_FSTYPE, "")}, [], [disk]
    if os.path.isdir(rootfs):
        return rootfs, root | {"path": f"{GUEST_SHARE}/{container}/rootfs"}, [Shared(rootfs, f"{container}/rootfs", True)], []
    raise ConfigError(f"cannot use rootfs {rootfs}: {_why_not_folder(rootfs)}")


def _copies(config: "Config", rootfs: str) -> bool:
    """:raise ConfigError: a copy is wanted of what is no folder"""
    annotations = config.annotations or {}
    wanted = annotations.get(COPY)
    if wanted not in (None, "true", "false"):
        raise ConfigError(f"config.json: $.annotations: {COPY} must be true or false, not {wanted!r}")
    if wanted == "true" and (LAYERS in annotations or is_infra(annotations) or not os.path.isdir(rootfs)):
        raise ConfigError(f"config.json: $.annotations: {COPY} means nothing where the rootfs is no folder")
    return wanted == "true"


def _copy_root(rootfs: str, root: dict[str, Any], shared: list[Shared], disks: list[Wish]) -> int:
    """Puts a disk in the place of the shared root; returns the descriptor that holds it.

    :raise RunvError: it cannot be made
    """
    from runv.storage.rootcopy import copied_root

    fd = copied_root(rootfs)
    disk = wish(f"/proc/self/fd/{fd}", read_only=root["readonly"])._replace(alone=True)
    shared.clear()
    disks.append(disk)
    root.pop("path", None)
    root |= {"disk": disk.serial, "type": "ext4"}
    return fd


def placed_root(planned: StoragePlan, found: dict[str, GuestDisk]) -> dict[str, Any]:
    """The root with the guest's names of the disks that it is on. Pure.

    :raise ConfigError: there is no file system on it
    """
    root = dict(planned.root)
    if "layers" in root:
        names = {"layers": [found[serial].node for serial in root["layers"]]}
        return root | names | ({"upper": found[root["upper"]].node} if "upper" in root else {})
    if "disk" not in root:
        return root
    disk = found[root.pop("disk")]
    root |= {"path": disk.node, "type": root["type"] or disk.fstype}
    if not root["type"]:
        hint = f"the annotation {ROOTFS_FSTYPE} names one"
        raise ConfigError(f"cannot use rootfs {planned.rootfs}: no file system is known on it", hint=hint)
    return root


def placed_mounts(mounts: list[dict[str, Any]], found: dict[str, GuestDisk]) -> list[dict[str, Any]]:
    """Mounts with the guest's names of the disks in them. Pure."""
    return [_placed(mount, found[mount["disk"]]) if "disk" in mount else mount for mount in mounts]


def _placed(mount: dict[str, Any], disk: GuestDisk) -> dict[str, Any]:
    return {**{key: value for key, value in mount.items() if key != "disk"}, "source": disk.node}


def read_only(options: list[str] | None) -> bool:
    """Whether the last word of a mount's options on the matter is ``ro``."""
    words = [word for word in options or [] if word in ("ro", "rw")]
    return words[-1:] == ["ro"]


def _disk_of(bundle: str, mount: "Mount") -> Wish | None:
    """The disk that a mount is about: its file system, or (a bind mount of a device) its node."""
    if mount.is_bind:
        path = _source(bundle, mount.source)
        return wish(path, read_only=read_only(mount.options)) if _is_block_device(path) else None
    if mount.type not in DISK_TYPES:
        return None
    return volume(os.path.realpath(os.path.join(bundle, mount.source)), mount.options or [])


def volume(path: str, options: list[str]) -> Wish:
    """The disk at ``path``, mounted with these options.

    :raise ConfigError: it is none
    """
    return wish(path, read_only=read_only(options) and COPY_UP not in options)


def _is_disk(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISBLK(mode) or stat.S_ISREG(mode)


def _is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


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
