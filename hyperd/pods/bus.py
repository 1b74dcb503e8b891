"""Events: each is written down, then handed to whoever listens."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Literal

from hyperd.errors import HyperError
from hyperd.store import Event, Store

Kind = Literal["pod", "container", "exec", "image", "volume", "network"]

# A listener that lags by more is let go of: it may read what it missed by its number.
_QUEUE = 1024
_PAGE = 1000
_LOG = logging.getLogger(__name__)


class Bus:
    """Events of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners: set[asyncio.Queue[Event | None]] = set()

    async def publish(self, kind: Kind, action: str, identity: str, name: str, **attributes: str) -> None:
        """Tells of something that has happened. That it cannot be written down is logged, and stops nobody."""
        event = Event(time=time.time(), kind=kind, action=action, id=identity, name=name, attributes=attributes)
        _LOG.info("%s %s", kind, action, extra={"id": identity, "object": name, **{f"event_{k}": v for k, v in attributes.items()}})
        try:
            event = await self._store.add_event(event)
        except HyperError as error:
            _LOG.error("cannot write an event: %s", error)
        for queue in list(self._listeners):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._drop(queue)

    def _drop(self, queue: asyncio.Queue[Event | None]) -> None:
        self._listeners.discard(queue)
        queue.get_nowait()
        queue.put_nowait(None)

    def close(self) -> None:
        """Ends all streams."""
        for queue in list(self._listeners):
            self._listeners.discard(queue)
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(None)

    async def stream(self, since: float, until: float, *, follow: bool) -> AsyncIterator[Event]:
        """Events of a time, each once; with ``follow`` also those to come, until ``until``."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_QUEUE)
        if follow:
            self._listeners.add(queue)
        try:
            last = 0
            while page := await self._store.events(since, until, last, _PAGE):
                for event in page:
                    last = event.sequence
                    yield event
            async for event in _queued(queue, until) if follow else _nothing():
                if event.sequence > last or not event.sequence:
                    yield event
        finally:
            self._listeners.discard(queue)


async def _queued(queue: asyncio.Queue[Event | None], until: float) -> AsyncIterator[Event]:
    while True:
        try:
            async with asyncio.timeout(None if until == float("inf") else max(0.0, until - time.time())):
                event = await queue.get()
        except TimeoutError:
            return
        if event is None:
            return
        yield event


async def _nothing() -> AsyncIterator[Event]:
    return
    yield
