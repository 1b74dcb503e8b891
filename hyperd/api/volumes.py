"""Named volumes."""

import asyncio

import msgspec

from hyperd import spec
from hyperd.api.call import Body, Call, Route
from hyperd.errors import ConflictError
from hyperd.volumes import Volume


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
    """Makes it larger, while no machine has it."""
    name = call.name()
    await asyncio.to_thread(call.services.volumes.find, name)
    if running := _running(call, name):
        raise ConflictError(f"volume {name} is attached to pod {running[0]}", hint="stop the pod, or detach the volume")
    return view(call, await asyncio.to_thread(call.services.volumes.resize, name, call.body.size))


def _running(call: Call, volume: str) -> list[str]:
    return [
        pod.book.pod.name
        for pod in call.services.manager.all()
        if pod.book.pod.phase in ("starting", "running", "stopping")
        and any(isinstance(one.source, spec.Named) and one.source.name == volume for one in pod.book.pod.spec.volumes)
    ]


async def snapshot(call: Call) -> VolumeView:
    """A copy of what it is now. Of one that is in use it is what a crash would leave."""
    return view(call, await call.services.volumes.snapshot(call.name(), call.body.name))


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
)
