"""Everything that nobody uses, at once."""

import msgspec

from hyperd.api.call import Body, Call, Route
from hyperd.api.networks import prune as prune_networks
from hyperd.api.volumes import prune_volumes


class PruneBody(Body, frozen=True):
    """``volumes``: also those that no pod names. ``all``: also images that have a name."""

    volumes: bool = False
    all: bool = False


class Pruned(msgspec.Struct, frozen=True):
    """Names or ids of what went, and the bytes that this freed."""

    pods: list[str]
    images: list[str]
    volumes: list[str]
    networks: list[str]
    freed: int


async def prune(call: Call) -> Pruned:
    """Stopped pods; images without names; networks that no pod names."""
    gone = [pod for pod in call.services.manager.all() if pod.book.pod.phase in ("stopped", "succeeded", "failed")]
    for pod in gone:
        await pod.ask_removal(force=False)
    for pod in gone:
        await pod.book.until(lambda book=pod.book: book.gone)  # type: ignore[misc]
    images = await call.services.images.gc(call.services.manager.images_in_use(), unused=call.body.all)
    networks = (await prune_networks(call)).networks if call.services.networks is not None else []
    volumes = await prune_volumes(call) if call.body.volumes else None
    return Pruned(
        [pod.book.pod.name for pod in gone],
        [*images.untagged, *images.deleted],
        volumes.volumes if volumes else [],
        networks,
        images.freed + (volumes.freed if volumes else 0),
    )


ROUTES = (Route("POST", "/prune", prune, "Remove what nobody uses", body=PruneBody, answer=Pruned, optional_body=True),)
