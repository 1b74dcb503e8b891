"""Who tells a pod's actor that something has happened: the ends of its machine and processes, and what probes find."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from hyperd.errors import HyperError
from hyperd.pods.book import Book
from hyperd.pods.handlers import Handlers
from hyperd.pods.probes import Probes
from hyperd.pods.tools import Tools
from hyperd.store import ContainerRecord

_LOG = logging.getLogger(__name__)


class Watchers:
    """Tasks that wait. ``probes``: of the containers that run.

    :param wake: has the actor look again
    """

    def __init__(self, tools: Tools, book: Book, handlers: Handlers, wake: Callable[[], None]) -> None:
        self.probes: dict[str, Probes] = {}
        self._tools = tools
        self._book = book
        self._handlers = handlers
        self._wake = wake
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def container(self, record: ContainerRecord) -> Probes:
        """Watches over a running container, and asks how it is."""
        if record.id not in self.probes or record.id not in self._tasks:
            container = self._book.specification(record)
            probes = Probes(self._tools, self._handlers, record, container, self._book.pod.name, self._wake, lambda: self._stands_still(record))
            self.probes[record.id] = probes
            self.watch(record.id, self._watch_one(record, probes))
        return self.probes[record.id]

    def _stands_still(self, record: ContainerRecord) -> bool:
        return self._book.pod.paused or record.id in self._book.frozen

    async def _watch_one(self, record: ContainerRecord, probes: Probes) -> None:
        asking = asyncio.create_task(probes.run())
        try:
            await self._tools.monitors.wait(self._tools.folder(record.pod, record.id))
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def watch(self, name: str, waiting: Coroutine[Any, Any, None]) -> None:
        """Wakes the actor when ``waiting`` has ended."""
        if name in self._tasks:
            waiting.close()
            return

        async def watch() -> None:
            try:
                await waiting
            except HyperError as error:
                _LOG.warning("cannot watch %s: %s", name, error, extra={"id": self._book.pod.id})
            self._wake()

        self._tasks[name] = asyncio.create_task(watch(), name=f"{self._book.pod.name}/{name}")

    def forget(self, name: str) -> None:
        """Looks no longer."""
        if (task := self._tasks.pop(name, None)) is not None:
            task.cancel()
        self.probes.pop(name, None)

    def forget_all(self) -> None:
        """Looks at nothing any longer."""
        for name in list(self._tasks):
            self.forget(name)

    async def close(self) -> None:
        """Ends all tasks."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
