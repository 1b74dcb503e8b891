"""A server on a socket of its own, whose pods live in memory, and a client for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec

from hyperd.api.server import Server
from hyperd.api.services import Services
from hyperd.config import Api, Config
from hyperd.images import Images
from hyperd.pods.execs import Execs
from hyperd.volumes import Volumes

from ..pods.fakes import World, config, daemon

WAIT_S = 30.0
POD = {"name": "p", "containers": [{"name": "a", "image": "busybox"}]}


async def two_lines(path: Path, *, follow: bool, ended: asyncio.Event, **_: Any) -> AsyncIterator[tuple[str, str, str]]:
    """Two lines, and then, if that is wanted, a wait for the end."""
    yield "2026-01-01T00:00:00Z", "stdout", "one\n"
    yield "2026-01-01T00:00:01Z", "stderr", "two\n"
    if follow:
        await ended.wait()


class Answer(NamedTuple):
    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.text.splitlines()]


class Site:
    """A running server."""

    def __init__(self, world: World, services: Services, session: aiohttp.ClientSession) -> None:
        self.world = world
        self.services = services
        self.session = session

    async def ask(self, method: str, path: str, body: Any = None, **rest: Any) -> Answer:
        if body is not None:
            rest["data"] = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(method, f"http://hyperd/v1{path}", **rest) as response:
            return Answer(response.status, await response.text(errors="replace"), {name.lower(): value for name, value in response.headers.items()})

    async def run(self, spec: dict[str, Any] | None = None) -> Answer:
        return await self.ask("POST", "/pods?start=1", {"spec": spec or POD})


@asynccontextmanager
async def site(folder: Path, api: Api | None = None) -> AsyncIterator[Site]:
    socket = str(folder / "s")
    world = World(folder)
    settings: Config = msgspec.structs.replace(config(folder), api=msgspec.structs.replace(api or Api(), socket=socket, group=(api or Api(group="")).group))
    async with daemon(world, settings) as manager:
        with Images(folder / "images") as images:
            services = Services(settings, manager.tools, manager, Execs(manager.tools), two_lines, images, Volumes(folder / "volumes"), None)
            server = Server(services)
            await server.start([])
            try:
                async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket)) as session:
                    yield Site(world, services, session)
            finally:
                await server.close()
                await services.execs.close()


def serve(folder: Path, work: Callable[[Site], Awaitable[None]], api: Api | None = None, wait_s: float = WAIT_S) -> None:
    """Runs a test's coroutine against a server, with a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(wait_s), site(folder, api) as one:
            await work(one)

    asyncio.run(bounded())
