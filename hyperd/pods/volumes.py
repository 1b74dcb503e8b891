"""Named volumes of pods that run: given to them, taken from them, resized and copied while they are written to. ``runv volume`` does it."""

import posixpath
from collections.abc import Iterable

import msgspec

from hyperd import spec
from hyperd.errors import ConflictError, InvalidError, MissingError
from hyperd.manifests.check import check_pod
from hyperd.pods.pod import Pod
from hyperd.pods.runv import RunvFailure
from hyperd.store import ContainerRecord
from hyperd.volumes import Volume
from runv.storage.words import COPY_UP, GROW

_MOUNT_S = 600.0
_COPY_S = 24 * 3600.0
_RUNNING = "running"


async def attach(pod: Pod, volume: Volume, path: str, *, container: str = "", read_only: bool = False) -> None:
    """Mounts a volume at ``path`` in all containers of a pod, or in one: at once where they run, and whenever they start. If one fails, none has it.

    :raise InvalidError: the path is not one
    :raise MissingError: there is no such container
    :raise ConflictError: something is mounted there, or the guest refuses
    """
    at = posixpath.normpath(path)
    if not path.startswith("/") or "\0" in path or at in ("/", "//"):
        raise InvalidError(f"path: {path!r} is no place for a volume", hint="it is an absolute path in the container, and not the root")
    chosen = [one for one in pod.book.pod.spec.containers if container in ("", one.name)]
    if not chosen:
        raise MissingError(f"pod {pod.book.pod.name} has no container {container or 'at all'}")
    for one in chosen:
        if any(posixpath.normpath(mount.path) == at for mount in one.mounts):
            raise ConflictError(f"container {one.name} has a volume at {at} already")
    mount = spec.Mount(volume=_name_in(pod, volume.name), path=at, read_only=read_only)
    names = [one.name for one in chosen]
    check_pod(_with_mount(pod.book.pod.spec, volume.name, names, mount))
    words = ["ro", COPY_UP] if read_only else ["rw", "discard", COPY_UP, GROW]
    done: list[ContainerRecord] = []
    try:
        for record in _running(pod, names):
            await _call(pod, "attach", record.id, volume.path, at, "-t", volume.fstype, "-o", ",".join(words))
            done.append(record)
        await pod.book.change(spec=_with_mount(pod.book.pod.spec, volume.name, names, mount))
    except BaseException:
        for record in done:
            await _quietly_detach(pod, record, at)
        raise


async def detach(pod: Pod, volume: str) -> None:
    """Takes a volume from all containers of a pod.

    :raise MissingError: it has no such volume
    :raise ConflictError: it is in use there; then those that had it still do, but for the first of them
    """
    named = _names_of(pod, volume)
    if not named:
        raise MissingError(f"pod {pod.book.pod.name} has no volume {volume}")
    for one in (*pod.book.pod.spec.containers, *pod.book.pod.spec.init_containers):
        for mount in one.mounts:
            if mount.volume in named:
                for record in _running(pod, [one.name]):
                    await _call(pod, "detach", record.id, posixpath.normpath(mount.path))
    wanted = pod.book.pod.spec
    kept = tuple(one for one in wanted.volumes if one.name not in named)
    lists = {
        field: tuple(
            msgspec.structs.replace(one, mounts=tuple(mount for mount in one.mounts if mount.volume not in named))
            for one in getattr(wanted, field)
        )
        for field in ("containers", "init_containers")
    }
    await pod.book.change(spec=msgspec.structs.replace(wanted, volumes=kept, **lists))


async def resize(pods: Iterable[Pod], volume: Volume, size: int) -> bool:
    """Lets a volume and its file system grow to ``size`` bytes in a pod that has it; False where none does.

    :raise ConflictError: the machine refuses
    """
    found = _user(pods, volume.name, writing=True)
    if found is None:
        return False
    pod, record = found
    await _call(pod, "resize", record.id, volume.path, str(size))
    return True


def copier(pods: Iterable[Pod], volume: Volume) -> "tuple[Pod, ContainerRecord] | None":
    """Who can copy the volume while it is written to; None where nobody has it."""
    return _user(pods, volume.name, writing=False)


async def copy(user: "tuple[Pod, ContainerRecord]", source: str, target: str) -> None:
    """Copies a volume of somebody's, as of the moment.

    :raise ConflictError: the machine refuses
    """
    pod, record = user
    await _call(pod, "snapshot", record.id, source, target, timeout_s=_COPY_S)


def _user(pods: Iterable[Pod], volume: str, *, writing: bool) -> tuple[Pod, ContainerRecord] | None:
    for pod in pods:
        named = _names_of(pod, volume)
        for one in (*pod.book.pod.spec.containers, *pod.book.pod.spec.init_containers):
            if any(mount.volume in named and not (writing and mount.read_only) for mount in one.mounts):
                for record in _running(pod, [one.name]):
                    return pod, record
    return None


def _running(pod: Pod, names: list[str]) -> list[ContainerRecord]:
    if pod.book.pod.phase not in ("starting", "running", "stopping"):
        return []
    return [one for one in pod.book.containers.values() if one.name in names and one.phase == _RUNNING]


def _names_of(pod: Pod, volume: str) -> set[str]:
    """What the pod calls a named volume."""
    return {one.name for one in pod.book.pod.spec.volumes if isinstance(one.source, spec.Named) and one.source.name == volume}


def _name_in(pod: Pod, volume: str) -> str:
    """What it calls it, or could."""
    known = _names_of(pod, volume)
    taken = {one.name for one in pod.book.pod.spec.volumes}
    return min(known) if known else next(name for name in (volume, *(f"{volume}-{number}" for number in range(len(taken) + 1))) if name not in taken)


def _with_mount(wanted: spec.Pod, volume: str, containers: list[str], mount: spec.Mount) -> spec.Pod:
    volumes = wanted.volumes
    if all(one.name != mount.volume for one in volumes):
        volumes = (*volumes, spec.Volume(name=mount.volume, source=spec.Named(name=volume)))
    changed = tuple(
        msgspec.structs.replace(one, mounts=(*one.mounts, mount)) if one.name in containers else one for one in wanted.containers
    )
    return msgspec.structs.replace(wanted, volumes=volumes, containers=changed)


async def _quietly_detach(pod: Pod, record: ContainerRecord, path: str) -> None:
    try:
        await _call(pod, "detach", record.id, path)
    except ConflictError:
        pass  # the container uses it by now, or has ended; it goes with the container


async def _call(pod: Pod, action: str, *arguments: str, timeout_s: float = _MOUNT_S) -> None:
    try:
        await pod.tools.runtime.call("volume", action, *arguments, timeout_s=timeout_s)
    except RunvFailure as failure:
        raise ConflictError(failure.message) from failure
