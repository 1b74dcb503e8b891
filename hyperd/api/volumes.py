"""Named volumes."""

import asyncio
import functools

import msgspec

from hyperd.api.call import Body, Call, Route
from hyperd.api.pods import pod_of
from hyperd.api.views import timestamp
from hyperd.errors import ConflictError, InvalidError
from hyperd.pods import volumes as live
from hyperd.volumes import Volume
from hyperd.volumes.disks import Kind, settle


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
    """``container``: a name, or empty for all of the pod's."""

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
        created=timestamp(volume.created),
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
    """Makes it larger, and its file system: at once where a container has it, else when one mounts it."""
    volume = await asyncio.to_thread(call.services.volumes.find, call.name())
    settled = settle(Kind(volume.fstype, call.body.size)).size
    if settled < volume.size:
        raise InvalidError(f"volume {volume.name} has {volume.size} bytes, and cannot become smaller")
    if not await live.resize(call.services.manager.all(), volume, settled):
        return view(call, await asyncio.to_thread(call.services.volumes.resize, volume.name, settled))
    return view(call, await asyncio.to_thread(call.services.volumes.find, volume.name))


async def snapshot(call: Call) -> VolumeView:
    """A copy of what it is at this moment."""
    volume = await asyncio.to_thread(call.services.volumes.find, call.name())
    user = live.copier(call.services.manager.all(), volume)
    copy = functools.partial(live.copy, user) if user is not None else None
    made = await call.services.volumes.snapshot(volume.name, call.body.name, copy=copy)
    await call.services.tools.bus.publish("volume", "create", made.name, made.name)
    return view(call, made)


async def attach(call: Call) -> VolumeView:
    """A volume for a pod, at once where it runs; it stays one of the pod's."""
    pod = pod_of(call)
    volume = await asyncio.to_thread(call.services.volumes.find, call.name("volume"))
    body: AttachBody = call.body
    await live.attach(pod, volume, body.path, container=body.container, read_only=body.read_only)
    await call.services.tools.bus.publish("volume", "attach", volume.name, volume.name, pod=pod.book.pod.name)
    return view(call, volume)


async def detach(call: Call) -> VolumeView:
    """Takes a volume from all containers of a pod."""
    pod = pod_of(call)
    volume = await asyncio.to_thread(call.services.volumes.find, call.name("volume"))
    await live.detach(pod, volume.name)
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
    Route("POST", "/pods/{name}/volumes/{volume}", attach, "Give a pod a volume", body=AttachBody, answer=VolumeView),
    Route("DELETE", "/pods/{name}/volumes/{volume}", detach, "Take a volume from a pod", answer=VolumeView),
)
