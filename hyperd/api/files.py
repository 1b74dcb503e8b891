"""Files of containers: copied in and out, what a container has changed, and images made of that.

The guest does it (``runv archive``): this host takes no tar apart, and no link leads anywhere but within the container.
"""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web

from hyperd.api.call import Body, Call, Params, Route
from hyperd.api.containers import container_of
from hyperd.api.images import ImageView, view
from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError, UnavailableError
from hyperd.images.instructions import changes_of
from hyperd.pods.looking import reached
from hyperd.pods.pod import Pod
from hyperd.pods.runv import message_of
from hyperd.store import ContainerRecord

_CHUNK = 1 << 16
_ERRORS_MAX = 1 << 16
_END_S = 60.0
_NOT_THERE = 2
_PATH_MAX = 4096


class ArchiveParams(Params, frozen=True):
    """``path``: from the container's root. GET: of a file or folder; PUT: of a folder."""

    path: str


class CommitBody(Body, frozen=True):
    """``changes``: instructions of a Dockerfile that make no layer. ``pause``: the container stands still while it is read."""

    reference: str = ""
    message: str = ""
    author: str = ""
    changes: tuple[str, ...] = ()
    pause: bool = True


class Change(msgspec.Struct, frozen=True):
    """``kind``: ``added`` (or changed, which the container's own layer does not tell apart) or ``removed``."""

    kind: str
    path: str


class Archiver:
    """One ``runv archive`` at work. What it reads and writes is a tar stream."""

    def __init__(self, process: asyncio.subprocess.Process, errors: "asyncio.Task[bytes]", what: str) -> None:
        self._process = process
        self._errors = errors
        self._what = what

    async def read(self, size: int = _CHUNK) -> bytes:
        """At most so many bytes; none at the end.

        :raise HyperError: it ended with an error
        """
        assert self._process.stdout is not None
        data = await self._process.stdout.read(size)
        if not data:
            await self.end()
        return data

    async def write(self, data: bytes) -> bool:
        """Whether it takes more."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except ConnectionError:
            return False
        return True

    async def end(self) -> None:
        """Nothing more is written to it, and it has ended.

        :raise MissingError: the path is not there
        :raise UnavailableError: anything else went wrong
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(_END_S):
            code = await self._process.wait()
        said = message_of(await self._errors)
        if code == _NOT_THERE:
            raise MissingError(said or f"{self._what}: no such file or directory")
        if code:
            raise UnavailableError(said or f"{self._what}: it failed with status {code}")


@contextlib.asynccontextmanager
async def archiver(
    call: Call, pod: Pod, record: ContainerRecord, action: str, path: str = "", *, still: bool = False
) -> AsyncIterator[Archiver]:
    """Within it, the program that does it; it ends with the block. ``still``: the container stands still meanwhile.

    :raise ConflictError: the container was never started, or its pod is on its way
    """
    if path and (not path.startswith("/") or "\0" in path or len(path) > _PATH_MAX):
        raise InvalidError("path: it must be one from the container's root")
    async with reached(pod, record, still=still) as identity:
        command = call.services.tools.runtime.command("archive", action, identity, *([path] if path else []))
        async with _running(command, f"{record.name}:{path}") as one:
            yield one


@contextlib.asynccontextmanager
async def _running(command: list[str], what: str) -> AsyncIterator[Archiver]:
    # It must not outlive the daemon.
    prefix = [shutil.which("setpriv") or "/usr/bin/setpriv", "--pdeathsig", "KILL", "--"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*prefix, *command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stderr is not None
    errors = asyncio.ensure_future(_all_of(process.stderr))
    try:
        yield Archiver(process, errors, what)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await asyncio.shield(process.wait())
        errors.cancel()
        await asyncio.gather(errors, return_exceptions=True)


async def _all_of(stream: asyncio.StreamReader) -> bytes:
    """Reads to the end and keeps the beginning."""
    kept = b""
    while data := await stream.read(_CHUNK):
        kept = (kept + data)[:_ERRORS_MAX]
    return kept


async def get(call: Call) -> web.StreamResponse:
    """A file or folder, as a tar stream."""
    pod, record = container_of(call)
    async with archiver(call, pod, record, "get", call.params.path) as one:
        data = await one.read()  # an error comes before the first byte, mostly
        response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await response.prepare(call.request)
        try:
            while data:
                await response.write(data)
                data = await one.read()
        except (HyperError, TimeoutError):
            # The status went out long ago: only a stream that breaks off says that it is not whole.
            if call.request.transport is not None:
                call.request.transport.abort()
            return response
        await response.write_eof()
        return response


async def put(call: Call) -> None:
    """Takes a tar stream apart in a folder."""
    pod, record = container_of(call)
    async with archiver(call, pod, record, "put", call.params.path) as one:
        async for data in call.request.content.iter_chunked(_CHUNK):
            if not await one.write(data):
                break
        await one.end()


async def diff(call: Call) -> list[Change]:
    """What is other than in the image."""
    import tarfile
    import tempfile

    pod, record = container_of(call)
    with tempfile.TemporaryFile(dir=call.services.config.root) as file:
        async with archiver(call, pod, record, "diff") as one:
            while data := await one.read():
                await asyncio.to_thread(file.write, data)
        file.seek(0)

        def names() -> list[Change]:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                return [_change(member.name) for member in archive]

        try:
            return await asyncio.to_thread(names)
        except tarfile.TarError as error:
            raise UnavailableError(f"container {record.name}: what it changed cannot be read: {error}") from None


def _change(name: str) -> Change:
    folder, slash, last = name.rstrip("/").rpartition("/")
    if last.startswith(".wh.") and last != ".wh..wh..opq":
        return Change("removed", f"/{folder}{slash}{last.removeprefix('.wh.')}")
    return Change("added", f"/{folder}" if last == ".wh..wh..opq" else f"/{folder}{slash}{last}")


async def commit(call: Call) -> ImageView:
    """An image: that of the container, and what it has changed."""
    body: CommitBody = call.body
    pod, record = container_of(call)
    if not record.image:
        raise ConflictError(f"container {record.name} was never started: it has no files yet", hint="start it, or tag its image")
    parent = call.services.images.find(record.image)
    config: dict[str, Any] = changes_of(parent.config, body.changes)
    async with archiver(call, pod, record, "diff", still=body.pause) as one:
        image = await call.services.images.commit(
            parent.id, one, reference=body.reference or None, config=config, message=body.message, author=body.author
        )
    await call.services.tools.bus.publish("image", "commit", image.id, body.reference or image.id, container=record.name)
    return view(call, image)


ROUTES = (
    Route("GET", "/containers/{name}/archive", get, "Copy files out of a container", ArchiveParams, kind="tar"),
    Route("PUT", "/containers/{name}/archive", put, "Copy files into a container", ArchiveParams, raw_body=True, status=204),
    Route("GET", "/containers/{name}/diff", diff, "List what a container has changed", answer=list[Change]),
    Route("POST", "/containers/{name}/commit", commit, "Make an image of a container", body=CommitBody, answer=ImageView, status=201),
)
