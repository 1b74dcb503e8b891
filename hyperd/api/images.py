"""Images."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from aiohttp import web

from hyperd.api.call import Body, Call, Params, Route
from hyperd.api.streams import Lines
from hyperd.errors import InvalidError, UnavailableError
from hyperd.images import Image, ImageConfig, Progress, Removed
from hyperd.images.credentials import Credentials as RegistryCredentials

# Progress is for people: more lines than this each second only cost.
_PROGRESS_S = 0.1
_CHUNK = 1 << 20


class ImageView(msgspec.Struct, frozen=True, kw_only=True):
    """An image."""

    id: str
    names: tuple[str, ...]
    digests: tuple[str, ...]
    created: str
    size: int
    architecture: str
    os: str
    config: ImageConfig
    layers: list[dict[str, Any]]
    containers: int


class RemovedView(msgspec.Struct, frozen=True):
    """What went, and how many bytes that freed."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]
    freed: int


class StepView(msgspec.Struct, frozen=True):
    """A step of an image's history."""

    created: str
    created_by: str
    comment: str
    empty: bool


class Credentials(Body, frozen=True):
    """For a registry; without any, those that are stored for it."""

    username: str = ""
    password: str = ""
    identity_token: str = ""


class PullBody(Body, frozen=True):
    """``policy``: always, missing or never. ``platform``: os/architecture[/variant]."""

    reference: str
    credentials: Credentials | None = None
    policy: Literal["always", "missing", "never"] = "always"
    platform: str = ""


class PushBody(Body, frozen=True):
    """``target``: the name to push as."""

    reference: str
    target: str = ""
    credentials: Credentials | None = None


class TagBody(Body, frozen=True):
    """One more name."""

    source: str
    target: str


class AuthBody(Body, frozen=True):
    """Checked with the registry, and stored."""

    registry: str
    username: str
    password: str


class LoadParams(Params, frozen=True):
    """``name`` replaces the name of the only image. ``references``: load those of these names only; may be repeated."""

    name: str = ""
    references: tuple[str, ...] = ()


class SaveParams(Params, frozen=True):
    """``names``: of images, may be repeated."""

    names: tuple[str, ...] = ()
    format: Literal["docker", "oci"] = "docker"


class RemoveImageParams(Params, frozen=True):
    """``force``: all its names, also while containers have it."""

    force: bool = False


class PruneImagesBody(Body, frozen=True):
    """``all``: also images with names, if no container has them."""

    all: bool = False


def view(call: Call, image: Image) -> ImageView:
    """As the API shows it."""
    used = [one for pod in call.services.manager.all() for one in pod.book.containers.values() if one.image == image.id]
    return ImageView(
        id=image.id,
        names=image.names,
        digests=image.digests,
        created=image.created,
        size=image.size,
        architecture=image.architecture,
        os=image.os,
        config=image.config,
        layers=[{"diff_id": layer.diff_id, "size": layer.size} for layer in image.layers],
        containers=len(used),
    )


def removed_view(removed: Removed) -> RemovedView:
    """As the API shows it."""
    return RemovedView(removed.untagged, removed.deleted, removed.freed)


async def listing(call: Call) -> list[ImageView]:
    """All."""
    return [view(call, image) for image in await asyncio.to_thread(call.services.images.list)]


async def show(call: Call) -> ImageView:
    """One."""
    return view(call, call.services.images.find(call.name()))


async def history(call: Call) -> list[StepView]:
    """The newest step first."""
    steps = call.services.images.history(call.name())
    return [StepView(one.created or "", one.created_by or "", one.comment or "", bool(one.empty_layer)) for one in steps]


async def remove(call: Call) -> RemovedView:
    """A name, or the image."""
    in_use = call.services.manager.images_in_use()
    removed = await call.services.images.remove(call.name(), force=call.params.force, in_use=in_use)
    for identity in removed.deleted:
        await call.services.tools.bus.publish("image", "remove", identity, call.name())
    return removed_view(removed)


async def tag(call: Call) -> ImageView:
    """One more name."""
    await call.services.images.tag(call.body.source, call.body.target)
    image = call.services.images.find(call.body.target)
    await call.services.tools.bus.publish("image", "tag", image.id, call.body.target)
    return view(call, image)


async def prune(call: Call) -> RemovedView:
    """What no container uses."""
    return removed_view(await call.services.images.gc(call.services.manager.images_in_use(), unused=call.body.all))


async def load(call: Call) -> web.StreamResponse:
    """The body is an archive."""
    with _temporary(call) as path:
        await _receive(call.request, path)
        lines = Lines(call)

        async def work(report: Callable[[Progress], None]) -> dict[str, Any]:
            images = await call.services.images.load(path, name=call.params.name or None, references=call.params.references, progress=report)
            for image in images:
                await call.services.tools.bus.publish("image", "load", image.id, (image.names or (image.id,))[0])
            return {"images": [view(call, image) for image in images]}

        return await _with_progress(lines, work)


async def _receive(request: web.Request, path: Path) -> None:
    try:
        with path.open("wb") as file:
            async for chunk in request.content.iter_chunked(_CHUNK):
                await asyncio.to_thread(file.write, chunk)
    except OSError as error:
        raise UnavailableError(f"cannot keep the archive: {error.strerror or error}") from error


@contextlib.contextmanager
def _temporary(call: Call) -> Iterator[Path]:
    folder = Path(call.services.config.root) / "tmp"
    folder.mkdir(mode=0o700, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=folder)
    os.close(fd)
    try:
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


async def save(call: Call) -> web.StreamResponse:
    """An archive of images."""
    if not call.params.names:
        raise InvalidError("parameter names is missing", hint="name an image")
    with _temporary(call) as path:
        await call.services.images.save(call.params.names, path, kind=call.params.format)
        return await send_file(call, path)


async def send_file(call: Call, path: Path) -> web.StreamResponse:
    """A tar file as the answer."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-tar", "Content-Length": str(path.stat().st_size)})
    await response.prepare(call.request)
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            await response.write(chunk)
    await response.write_eof()
    return response


async def pull(call: Call) -> web.StreamResponse:
    """From its registry."""
    body: PullBody = call.body
    lines = Lines(call)

    async def work(report: Callable[[Progress], None]) -> dict[str, Any]:
        image = await call.services.images.pull(
            body.reference, credentials=_credentials(body.credentials), policy=body.policy, platform=body.platform or None, progress=report
        )
        await call.services.tools.bus.publish("image", "pull", image.id, body.reference)
        return {"image": view(call, image)}

    return await _with_progress(lines, work)


async def push(call: Call) -> web.StreamResponse:
    """To its registry."""
    body: PushBody = call.body
    lines = Lines(call)

    async def work(report: Callable[[Progress], None]) -> dict[str, Any]:
        digest = await call.services.images.push(
            body.reference, target=body.target or None, credentials=_credentials(body.credentials), progress=report
        )
        await call.services.tools.bus.publish("image", "push", digest, body.target or body.reference)
        return {"digest": digest}

    return await _with_progress(lines, work)


async def auth(call: Call) -> dict[str, Any]:
    """Stores credentials that the registry takes."""
    await call.services.images.login(call.body.registry, call.body.username, call.body.password)
    return {}


def _credentials(given: Credentials | None) -> RegistryCredentials | None:
    return RegistryCredentials(given.username, given.password, given.identity_token) if given is not None else None


async def logout(call: Call) -> None:
    """Forgets credentials."""
    call.services.images.logout(call.name())


async def _with_progress(
    lines: Lines, work: Callable[[Callable[[Progress], None]], Awaitable[dict[str, Any]]]
) -> web.StreamResponse:
    """Lines about the work while it goes on, the last what came of it. A client that goes ends the work."""
    latest: dict[tuple[str, str], Progress] = {}

    def report(progress: Progress) -> None:
        latest[progress.what, progress.digest] = progress

    async with lines:
        task = asyncio.ensure_future(work(report))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_PROGRESS_S)
                if lines.closed:
                    break
                sent = list(latest.values())
                latest.clear()
                for progress in sent:
                    await lines.send({"progress": progress._asdict()})
            if task.done():
                await lines.send(task.result())
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    return lines.response


IMAGE = "/images/{name:.+}"

ROUTES = (
    Route("GET", "/images", listing, "List images", answer=list[ImageView]),
    Route("GET", "/images/save", save, "Write images into an archive", SaveParams, kind="tar"),
    Route("POST", "/images/load", load, "Load images from an archive", LoadParams, kind="ndjson", raw_body=True),
    Route("POST", "/images/pull", pull, "Pull an image", body=PullBody, kind="ndjson"),
    Route("POST", "/images/push", push, "Push an image", body=PushBody, kind="ndjson"),
    Route("POST", "/auth", auth, "Store credentials of a registry", body=AuthBody, answer=dict[str, Any]),
    Route("DELETE", "/auth/{name}", logout, "Forget the credentials of a registry", status=204),
    Route("POST", "/images/tag", tag, "Give an image one more name", body=TagBody, answer=ImageView),
    Route("POST", "/images/prune", prune, "Remove images that nobody uses", body=PruneImagesBody, answer=RemovedView, optional_body=True),
    Route("GET", IMAGE + "/history", history, "Show how an image was made", answer=list[StepView]),
    Route("GET", IMAGE, show, "Show an image", answer=ImageView),
    Route("DELETE", IMAGE, remove, "Remove an image or a name of it", RemoveImageParams, answer=RemovedView),
)
