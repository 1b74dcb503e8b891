"""The mounts of a container: Docker's own, the pod's volumes, and small files; parents before what lies in them."""

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from hyperd.bundle.records import Disk, Folder, HostFile, Memory, Source
from hyperd.errors import InvalidError
from hyperd.spec import Container, Mount, Pod
from runv.spec.default import default_config
from runv.storage.words import COPY_UP, GROW, SHARED, SUBPATH

Json = dict[str, Any]

_PROPAGATION = {"": "rprivate", "none": "rprivate", "host-to-container": "rslave"}


def mounts_of(
    pod: Pod,
    container: Container,
    sources: Mapping[str, Source],
    anonymous: Mapping[str, Source],
    files: Iterable[tuple[str, HostFile]],
) -> list[Json]:
    """``mounts`` of config.json. What is said later about a place goes before what was said earlier: the default, the image's volumes, the pod's, files.

    :raise InvalidError: a volume has no source, or is not what it is mounted as
    """
    found: dict[str, Json] = {mount["destination"]: mount for mount in _defaults(container.security.privileged)}
    for path, source in anonymous.items():
        found[posixpath.normpath(path)] = _entry(Mount(volume="", path=path), source)
    for index, mount in enumerate(container.mounts):
        at = posixpath.normpath(mount.path)
        if mount.volume not in sources:
            raise InvalidError(f"containers: {container.name}: mounts[{index}].volume: {mount.volume!r} has no source")
        found[at] = _entry(mount, sources[mount.volume], read_only=_is_read_only(pod, mount))
    for path, file in files:
        found[path] = _bind(path, file.path, ["bind", "ro", "rprivate"])
    # Sorting keeps the order of what is equally deep.
    return sorted(found.values(), key=lambda mount: posixpath.normpath(mount["destination"]).count("/"))


def _is_read_only(pod: Pod, mount: Mount) -> bool:
    """Some volumes can only be read, whatever the mount says."""
    source = next((volume.source for volume in pod.volumes if volume.name == mount.volume), None)
    return mount.read_only or bool(getattr(source, "read_only", False)) or hasattr(source, "files")


def _defaults(privileged: bool) -> list[Json]:
    """runv's default ones, but /dev/shm is the pod's. A privileged container may write to /sys and its cgroups."""
    mounts: list[Json] = default_config()["mounts"]
    for mount in mounts:
        if mount["destination"] == "/dev/shm":
            mount["options"].append(f"{SHARED}=shm")
        elif privileged and mount["type"] in ("sysfs", "cgroup"):
            mount["options"].remove("ro")
    return mounts


def _entry(mount: Mount, source: Source, *, read_only: bool = False) -> Json:
    at = posixpath.normpath(mount.path)
    access = "ro" if read_only else "rw"
    inner = [f"{SUBPATH}={mount.sub_path}"] if mount.sub_path else []
    if isinstance(source, Folder):
        return _bind(at, source.path, ["rbind", access, _PROPAGATION[mount.propagation], *inner])
    if isinstance(source, Disk):
        # What is deleted is given back to the host.
        words = [] if read_only else ["discard"]
        fill = [COPY_UP] if source.populate and not mount.sub_path else []
        # Its file may have become larger since.
        fill += [GROW] if source.populate and not read_only else []
        return {"destination": at, "type": source.fstype, "source": source.path, "options": [access, *words, *fill, *inner]}
    return {"destination": at, "type": "tmpfs", "source": "tmpfs", "options": [access, *_memory(source), *inner]}


def _memory(source: Memory) -> list[str]:
    shared = [f"{SHARED}={source.shared}"] if source.shared else []
    size = [f"size={source.size}"] if source.size else []
    return ["nosuid", "nodev", f"mode={source.mode:o}", *([f"gid={source.gid}"] if source.gid else []), *size, *shared]


def _bind(destination: str, source: str, options: list[str]) -> Json:
    return {"destination": destination, "type": "bind", "source": source, "options": options}
