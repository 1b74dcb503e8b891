"""Named volumes."""

import asyncio

import msgspec

from hyperd import spec
from hyperd.api.call import Body, Call, Route
from hyperd.api.pods import pod_of
from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError
from hyperd.manifests.check import check_pod
from hyperd.pods.pod import Pod
from hyperd.pods.ports import Runtime
from hyperd.store import ContainerRecord
from hyperd.volumes import Volume

_SIZE_MAX = 1 << 50
_COPY_S = 3600.0


class VolumeView(msgspec.Struct, frozen=True, kw_only=True):
    """A volume. ``used``: what it takes on the host's disk. ``pods``: those that name it."""

    name: str
    size: int
    used: int
    fstype: str
    labels: dict[str, str]
    created: str
    pods: list[str]


class CreateVolumeBody(Body, frozen=True):
    """``size`` in bytes."""

    name: str
    size: int = 10 << 30
    fstype: str = "ext4"
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class ResizeBody(Body, frozen=True):
    """``size`` in bytes; it can only grow."""

    size: int


class SnapshotBody(Body, frozen=True):
    """What the copy is called."""

    name: str


class AttachBody(Body, frozen=True):
    """``path``: where. ``container``: which; the pod's first if it is not said."""

    path: str
    container: str = ""
    read_only: bool = False


class PrunedVolumes(msgspec.Struct, frozen=True):
    """Names of what went, and the bytes that this freed."""

    volumes: list[str]
    freed: int


def view(call: Call, volume: Volume) -> VolumeView:
    """As the API shows it."""
    return VolumeView(
        name=volume.name,
        size=volume.size,
        used=volume.used,
        fstype=volume.fstype,
        labels=dict(volume.labels),
        created=str(volume.created),
        pods=sorted(set(call.services.manager.volumes_in_use().get(volume.name, []))),
    )


async def listing(call: Call) -> list[VolumeView]:
    """All."""
    return [view(call, volume) for volume in await asyncio.to_thread(call.services.volumes.list)]


async def show(call: Call) -> VolumeView:
    """One."""
    return view(call, await asyncio.to_thread(call.services.volumes.find, call.name()))


async def create(call: Call) -> VolumeView:
    """One more."""
    body: CreateVolumeBody = call.body
    volume = await call.services.volumes.create(body.name, body.size, body.fstype, body.labels)
    await call.services.tools.bus.publish("volume", "create", volume.name, volume.name)
    return view(call, volume)


async def remove(call: Call) -> None:
    """One that no pod names."""
    name = call.name()
    await asyncio.to_thread(call.services.volumes.find, name)
    if pods := call.services.manager.volumes_in_use().get(name):
        raise ConflictError(f"volume {name} is in use by pod {pods[0]}", hint="remove the pod")
    await call.services.volumes.remove(name)
    await call.services.tools.bus.publish("volume", "remove", name, name)


async def resize(call: Call) -> VolumeView:
    """Makes it larger, its file system too: at once where a machine has it, else when it is mounted next."""
    volume = await asyncio.to_thread(call.services.volumes.find, call.name())
    holder = _holder(call, volume.name)
    if holder is None:
        return view(call, await asyncio.to_thread(call.services.volumes.resize, volume.name, call.body.size))
    if not volume.size <= call.body.size <= _SIZE_MAX:
        raise InvalidError(f"volume {volume.name} has {volume.size} bytes, and cannot have {call.body.size}")
    await _runtime(call).call("volume", "resize", holder.id, str(volume.path), str(call.body.size))
    return view(call, await asyncio.to_thread(call.services.volumes.find, volume.name))


def _runtime(call: Call) -> Runtime:
    return call.services.tools.runtime


def _holder(call: Call, volume: str) -> ContainerRecord | None:
    """A running container that has it mounted."""
    for pod in call.services.manager.all():
        names = _names_in(pod, volume)
        for record in pod.book.containers.values() if names and pod.book.pod.phase == "running" else ():
            if record.phase == "running" and any(mount.volume in names for mount in pod.book.specification(record).mounts):
                return record
    return None


def _names_in(pod: Pod, volume: str) -> set[str]:
    """What a named volume is called in a pod."""
    return {one.name for one in pod.book.pod.spec.volumes if isinstance(one.source, spec.Named) and one.source.name == volume}


async def snapshot(call: Call) -> VolumeView:
    """A copy of what it is now: of one that a machine has, as it would be after a power failure."""
    holder = _holder(call, call.name())

    async def copy(source: str, target: str) -> None:
        assert holder is not None
        await _runtime(call).call("volume", "snapshot", holder.id, source, target, timeout_s=_COPY_S)

    made = await call.services.volumes.snapshot(call.name(), call.body.name, copy=copy if holder is not None else None)
    await call.services.tools.bus.publish("volume", "create", made.name, made.name)
    return view(call, made)


async def attach(call: Call) -> VolumeView:
    """Mounts it in a container of a pod: in one that runs at once, else when it starts."""
    pod, body = pod_of(call), call.body
    volume = await asyncio.to_thread(call.services.volumes.find, call.name("volume"))
    record = _container(pod, body.container)
    own = pod.book.specification(record)
    names = _names_in(pod, volume.name)
    name = next(iter(names), volume.name)
    mount = spec.Mount(volume=name, path=body.path, read_only=body.read_only)
    if any(one.path.rstrip("/") == body.path.rstrip("/") for one in own.mounts):
        raise ConflictError(f"container {own.name} has a mount at {body.path} already")
    old = pod.book.pod.spec
    added = () if names else (spec.Volume(name=name, source=spec.Named(name=volume.name)),)
    wanted = _with_mounts(msgspec.structs.replace(old, volumes=(*old.volumes, *added)), own.name, (*own.mounts, mount))
    check_pod(wanted)
    await pod.book.change(spec=wanted)
    if record.phase == "running":
        words = ["-o", "ro" if body.read_only else "rw"]
        try:
            await _runtime(call).call("volume", "attach", "-t", volume.fstype, *words, record.id, str(volume.path), body.path)
        except HyperError:
            await pod.book.change(spec=old)
            raise
    await call.services.tools.bus.publish("volume", "attach", volume.name, volume.name, pod=pod.book.pod.name)
    return view(call, volume)


def _container(pod: Pod, name: str) -> ContainerRecord:
    mains = pod.book.of_kind("main")
    for record in mains:
        if name in ("", record.name, record.id):
            return record
    raise MissingError(f"pod {pod.book.pod.name} has no container{f' {name}' if name else ''}")


def _with_mounts(pod: spec.Pod, container: str, mounts: tuple[spec.Mount, ...]) -> spec.Pod:
    changed = {
        field: tuple(msgspec.structs.replace(one, mounts=mounts) if one.name == container else one for one in getattr(pod, field))
        for field in ("containers", "init_containers")
    }
    return msgspec.structs.replace(pod, **changed)


async def detach(call: Call) -> VolumeView:
    """Unmounts it in all containers of a pod."""
    pod = pod_of(call)
    volume = await asyncio.to_thread(call.services.volumes.find, call.name("volume"))
    names = _names_in(pod, volume.name)
    if not names:
        raise MissingError(f"pod {pod.book.pod.name} does not have volume {volume.name}")
    wanted = pod.book.pod.spec
    for record in pod.book.of_kind("main", "sidecar", "init"):
        own = pod.book.specification(record)
        for mount in own.mounts:
            if mount.volume in names and record.phase == "running":
                await _runtime(call).call("volume", "detach", record.id, mount.path)
        wanted = _with_mounts(wanted, own.name, tuple(mount for mount in own.mounts if mount.volume not in names))
    kept = tuple(one for one in wanted.volumes if one.name not in names)
    await pod.book.change(spec=msgspec.structs.replace(wanted, volumes=kept))
    await call.services.tools.bus.publish("volume", "detach", volume.name, volume.name, pod=pod.book.pod.name)
    return view(call, volume)


async def prune(call: Call) -> PrunedVolumes:
    """Those that no pod names."""
    return await prune_volumes(call)


async def prune_volumes(call: Call) -> PrunedVolumes:
    """As ``prune``."""
    used = call.services.manager.volumes_in_use()
    gone, freed = [], 0
    for volume in await asyncio.to_thread(call.services.volumes.list):
        if volume.name not in used:
            freed += await call.services.volumes.remove(volume.name)
            gone.append(volume.name)
            await call.services.tools.bus.publish("volume", "remove", volume.name, volume.name)
    return PrunedVolumes(gone, freed)


ROUTES = (
    Route("GET", "/volumes", listing, "List volumes", answer=list[VolumeView]),
    Route("POST", "/volumes", create, "Make a volume", body=CreateVolumeBody, answer=VolumeView, status=201),
    Route("POST", "/volumes/prune", prune, "Remove volumes that no pod names", answer=PrunedVolumes),
    Route("GET", "/volumes/{name}", show, "Show a volume", answer=VolumeView),
    Route("DELETE", "/volumes/{name}", remove, "Remove a volume", status=204),
    Route("PATCH", "/volumes/{name}", resize, "Make a volume larger", body=ResizeBody, answer=VolumeView),
    Route("POST", "/volumes/{name}/snapshot", snapshot, "Copy a volume", body=SnapshotBody, answer=VolumeView, status=201),
    Route("POST", "/pods/{name}/volumes/{volume}", attach, "Attach a volume to a pod", body=AttachBody, answer=VolumeView),
    Route("DELETE", "/pods/{name}/volumes/{volume}", detach, "Take a volume away from a pod", answer=VolumeView),
)
