"""A daemon that answers what a test says, and remembers what it was asked: for faults, and for output that is to be known to the letter."""

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from aiohttp import WSMsgType, web

from tests.hyperctl.contract import violation

WAIT_S = 20


class Asked(NamedTuple):
    """``body`` is decoded JSON, bytes, or None."""

    method: str
    path: str
    query: dict[str, str]
    body: Any


Stream = Callable[[web.WebSocketResponse], Awaitable[None]]
Answer = Any


class Lines(list[Any]):
    """An answer of one JSON value a line."""


class Status(NamedTuple):
    code: int
    value: Any


def refusal(code: int, kind: str, message: str, **more: Any) -> Status:
    return Status(code, {"error": {"kind": kind, "message": message, **more}})


class Fake:
    """``answers`` by ``"GET /pods"``: a value, Lines, bytes, a Status, or a function of Asked that gives one; ``streams`` by path."""

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self.socket = str(folder / "hyperd.sock")
        self.port = 0
        self._tls = tls
        self.answers: dict[str, Answer] = {}
        self.streams: dict[str, Stream] = {}
        self.asked: list[Asked] = []
        self.violations: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Fake":
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)

    def requests(self, method: str = "", path: str = "") -> list[Asked]:
        return [a for a in self.asked if a.method.startswith(method) and (not path or a.path == path)]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        await self._runner.cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{rest:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, self.socket).start()
        if self._tls is not None:
            for address in ("127.0.0.1", "127.0.0.2"):
                await web.TCPSite(self._runner, address, self.port, ssl_context=self._tls).start()
                self.port = self._runner.addresses[1][1]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0].removeprefix("/v1")
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request, path)
        asked = Asked(request.method, path, dict(request.query), await _body(request))
        self.asked.append(asked)
        self._check(request, path, asked.body)
        answer = self.answers.get(f"{request.method} {path}", refusal(404, "missing", f"{unquote(path)}: no such thing"))
        if callable(answer):
            answer = await asyncio.get_running_loop().run_in_executor(None, answer, asked)
        return _response(answer)

    def _check(self, request: web.Request, path: str, body: Any, method: str = "") -> None:
        query = {name: request.query.getall(name) for name in request.query}
        found = violation(method or request.method, path, query, body)
        if found:
            self.violations.append(found)

    async def _stream(self, request: web.Request, path: str) -> web.StreamResponse:
        self.asked.append(Asked("STREAM", path, dict(request.query), None))
        self._check(request, path, None, method="STREAM")
        if path not in self.streams:
            return _response(refusal(404, "missing", f"{unquote(path)}: no such stream"))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await self.streams[path](socket)
        await socket.close()
        return socket


async def _body(request: web.Request) -> Any:
    data = await request.read()
    return json.loads(data) if request.content_type == "application/json" and data else data or None


def _response(answer: Answer) -> web.Response:
    if isinstance(answer, Status):
        return web.json_response(answer.value, status=answer.code)
    if isinstance(answer, Lines):
        return web.Response(body="".join(json.dumps(value) + "\n" for value in answer).encode())
    if isinstance(answer, bytes):
        return web.Response(body=answer)
    return web.Response(status=204) if answer is None else web.json_response(answer)


def exits(code: int, out: bytes = b"", error: bytes = b"") -> Stream:
    """A process that says something and ends."""

    async def stream(socket: web.WebSocketResponse) -> None:
        for number, data in ((1, out), (2, error)):
            if data:
                await socket.send_bytes(bytes([number]) + data)
        await say(socket, exit={"code": code, "signal": None})

    return stream


def echoes(code: int, ending: bytes = b"") -> Stream:
    """A process that gives back what it reads, until the end of it, or what ends it."""

    async def stream(socket: web.WebSocketResponse) -> None:
        seen = b""
        async for message in socket:
            if message.type != WSMsgType.BINARY or message.data[:1] == b"\3":
                continue
            if message.data == b"\0":
                break
            seen += message.data[1:]
            await socket.send_bytes(b"\1" + message.data[1:])
            if ending and ending in seen:
                break
        await say(socket, exit={"code": code})

    return stream


async def say(socket: web.WebSocketResponse, **control: Any) -> None:
    await socket.send_bytes(b"\3" + json.dumps(control).encode())
