"""Answers that take their time: lines of JSON, and the streams of processes over a websocket.

A websocket's frames are binary; the first byte says what the rest is: 0 input, 1 output, 2 errors, 3 JSON of control. An empty frame of 0 ends
the input. Nobody's output is kept in memory for a client that does not read: then its process waits, as it would for a full pipe.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from hyperd.api.call import Call
from hyperd.errors import HyperError, InvalidError, UnavailableError
from hyperd.pods.ports import Streams

STDIN, STDOUT, STDERR, CONTROL = range(4)
_MESSAGE_MAX = 1 << 20
_HEARTBEAT_S = 30.0
_CONTROL_MAX = 4096
_SIZE_MAX = 65535


class Lines:
    """An answer of lines of JSON. ``send`` waits while the client does not read; ``closed`` is set when it has gone, or the daemon ends."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "X-Accel-Buffering": "no"})
        self._encoder = msgspec.json.Encoder()

    async def __aenter__(self) -> "Lines":
        take_stream(self._call)
        await self.response.prepare(self._call.request)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self._call.services.streams -= 1
        if isinstance(error, HyperError):
            # The status went out long ago: the last line says it.
            await self.send({"error": error_document(error)})
            error = None
        elif isinstance(error, ConnectionError):
            return True
        if error is None:
            with contextlib.suppress(ConnectionError):
                await self.response.write_eof()
        return error is None

    @property
    def closed(self) -> bool:
        """Whether going on is of no use."""
        transport = self._call.request.transport
        return transport is None or transport.is_closing() or self._call.services.closing.is_set()

    async def send(self, value: Any) -> None:
        """One line."""
        await self.response.write(self._encoder.encode(value) + b"\n")

    async def pause(self, seconds: float) -> None:
        """Waits, but not longer than the daemon lives."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._call.services.closing.wait()


def take_stream(call: Call) -> None:
    """Counts a stream; who took it gives it back by ``streams -= 1``.

    :raise UnavailableError: there are as many as there may be
    """
    if call.services.streams >= call.services.config.api.max_streams:
        raise UnavailableError("too many streams are open", hint="api.max_streams in the daemon's settings")
    call.services.streams += 1


_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "disk is full")
_ROOM = "`hyperctl prune` removes what nobody uses"


def error_document(error: HyperError) -> dict[str, Any]:
    """What the API says of an error."""
    hint = error.hint or (_ROOM if any(words in error.message for words in _FULL) else "")
    document: dict[str, Any] = {"kind": error.kind, "message": error.message, "hint": hint}
    code = getattr(error, "exit_code", None)
    return document if code is None else {**document, "exit_code": code}


async def until_closing(call: Call, source: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """What ``source`` gives, until the daemon ends or the client goes."""
    closing = asyncio.ensure_future(call.services.closing.wait())
    try:
        while True:
            item = asyncio.ensure_future(anext(source))
            await asyncio.wait({item, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not item.done():
                item.cancel()
                await asyncio.gather(item, return_exceptions=True)
                return
            try:
                yield item.result()
            except StopAsyncIteration:
                return
    finally:
        closing.cancel()


async def websocket(call: Call) -> web.WebSocketResponse:
    """Answers with a websocket.

    :raise InvalidError: the client did not ask for one
    """
    response = web.WebSocketResponse(max_msg_size=_MESSAGE_MAX, heartbeat=_HEARTBEAT_S, compress=False)
    if not response.can_prepare(call.request).ok:
        raise InvalidError("this address speaks websocket", hint="send the headers Upgrade and Connection")
    await response.prepare(call.request)
    return response


async def serve_process(
    call: Call,
    connect: Callable[[], Awaitable[Streams]],
    end: Callable[[], Awaitable[tuple[int, int]]],
) -> web.WebSocketResponse:
    """Carries a process's streams over a websocket until it has ended, or the client goes.

    :param connect: attaches to it; what that raises is the last frame
    :param end: exit status and signal, awaited when its streams have ended
    """
    take_stream(call)
    try:
        response = await websocket(call)
        with contextlib.suppress(ConnectionError):
            await _carry(call, response, connect, end)
            await response.close()
        return response
    finally:
        call.services.streams -= 1


async def _carry(
    call: Call, response: web.WebSocketResponse, connect: Callable[[], Awaitable[Streams]], end: Callable[[], Awaitable[tuple[int, int]]]
) -> None:
    try:
        attachment = await _unless_gone(call, response, connect())
        if attachment is None:
            return
        try:
            whole = await _both_ways(call, response, attachment)
        finally:
            await attachment.close()
        if whole:
            code, number = await end()
            await _control(response, {"exit": {"code": code, "signal": number}})
    except HyperError as error:
        await _control(response, {"error": error_document(error)})


async def _unless_gone(call: Call, response: web.WebSocketResponse, connecting: Awaitable[Streams]) -> Streams | None:
    """Waits for a connection, which may take as long as a container takes to start, but not for a client that is gone."""
    attempt = asyncio.ensure_future(connecting)
    transport = call.request.transport
    while not attempt.done():
        await asyncio.wait({attempt}, timeout=1.0)
        if not attempt.done() and (transport is None or transport.is_closing() or call.services.closing.is_set()):
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
            return None
    return attempt.result()


async def _both_ways(call: Call, response: web.WebSocketResponse, attachment: Streams) -> bool:
    """Whether all output came through; else the client went."""
    out = asyncio.create_task(_output(response, attachment))
    into = asyncio.create_task(_input(response, attachment))
    closing = asyncio.create_task(call.services.closing.wait())
    try:
        await asyncio.wait({out, into, closing}, return_when=asyncio.FIRST_COMPLETED)
        if into.done() and not out.done() and into.exception() is not None:
            into.result()
        if out.done():
            out.result()
            return True
        return False
    finally:
        for task in (out, into, closing):
            task.cancel()
        await asyncio.gather(out, into, closing, return_exceptions=True)


async def _output(response: web.WebSocketResponse, attachment: Streams) -> None:
    while (chunk := await attachment.read()) is not None:
        stream, data = chunk
        await response.send_bytes(bytes([stream]) + data)


async def _input(response: web.WebSocketResponse, attachment: Streams) -> None:
    """Returns when the client has gone."""
    async for message in response:
        if message.type is not WSMsgType.BINARY or not message.data:
            raise InvalidError("frames must be binary and not empty")
        data: bytes = message.data
        if data[0] == STDIN:
            await (attachment.write(data[1:]) if len(data) > 1 else attachment.end_input())
        elif data[0] == CONTROL:
            await _obey(data[1:], attachment)
        else:
            raise InvalidError(f"a client cannot send on stream {data[0]}")


async def _obey(data: bytes, attachment: Streams) -> None:
    try:
        wish = msgspec.json.decode(data[:_CONTROL_MAX], type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidError("a frame of control must be a JSON object") from None
    if "resize" in wish:
        await attachment.resize(*size_of(wish["resize"]))
    if "eof" in wish:
        await attachment.end_input()


def size_of(value: Any) -> tuple[int, int]:
    """Rows and columns of a terminal.

    :raise InvalidError: they are not two small numbers
    """
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(type(one) is int and 0 <= one <= _SIZE_MAX for one in value):
        raise InvalidError("resize must be [rows, columns]")
    return value[0], value[1]


async def _control(response: web.WebSocketResponse, document: dict[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):
        await response.send_bytes(bytes([CONTROL]) + msgspec.json.encode(document))
