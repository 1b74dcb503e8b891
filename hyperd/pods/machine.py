"""The machine of one pod: its network namespace, and the infra container that all others join."""

import asyncio
import contextlib
import logging
import os

from hyperd.errors import HyperError
from hyperd.pods.book import Book
from hyperd.pods.tools import Tools, now
from hyperd.store import PodRecord

_LOG = logging.getLogger(__name__)


class Machine:
    """Makes and removes what a pod's containers live in."""

    def __init__(self, tools: Tools, book: Book) -> None:
        self._tools = tools
        self._book = book

    def alive(self) -> bool:
        """Whether it was made completely, and runs."""
        return bool(self._book.pod.booted) and self._tools.runtime.status(self._book.pod.id) in ("running", "paused")

    async def boot(self) -> None:
        """Makes it anew, whatever was left of an earlier one; but one that is made and not started yet, as a ready one is, is taken as it is.

        :raise HyperError: the network or the machine cannot be made; nothing of either is left
        """
        if self._tools.runtime.status(self._book.pod.id) == "created":
            try:
                return await self._boot(made=True)
            except HyperError as error:
                _LOG.warning("a machine that was ready is of no use: %s", error.message, extra={"id": self._book.pod.id})
        await self.clear()
        await self._boot(made=False)

    async def _boot(self, *, made: bool) -> None:
        try:
            namespace, addresses = await self._tools.networks.set_up(self._book.pod)
            if not made:
                await create_infra(self._tools, self._book.pod, namespace)
            await self._tools.runtime.start(self._book.pod.id)
            await self._book.change(booted=now(), retry_at=0.0, namespace=namespace, addresses=addresses)
        except HyperError:
            await self.tear_down()
            raise

    async def clear(self) -> None:
        """Removes containers and machine; the files of the pod stay."""
        pod = self._book.pod.id
        await asyncio.gather(*(self.clear_process(pod, one) for one in self._book.containers))
        running = [one for one in self._book.execs.values() if one.phase in ("starting", "running")]
        await asyncio.gather(*(self.clear_process(pod, one.id) for one in running))
        await self._tools.runtime.delete(pod)

    async def clear_process(self, pod: str, container: str) -> None:
        """Removes what there is of a container in the runtime, also if it is only half made."""
        # The monitor first: what it is waiting for might otherwise make the container after we have removed it.
        await self._tools.monitors.end(self._tools.folder(pod, container))
        await self._tools.runtime.delete(container)

    async def tear_down(self) -> None:
        """Removes containers, machine and network. May be repeated."""
        await self.clear()
        await self._tools.networks.tear_down(self._book.pod)

    async def pause(self, wanted: bool) -> None:
        """Makes the machine stand still, or go on."""
        paused = self._tools.runtime.status(self._book.pod.id) == "paused"
        if paused != wanted:
            await self._tools.runtime.call("pause" if wanted else "resume", "--vm", self._book.pod.id)

    async def ended(self) -> None:
        """Waits until the process that stands for the machine has ended."""
        pid = self._tools.runtime.pid(self._book.pod.id)
        if not pid:
            return
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        try:
            loop.add_reader(fd, end.set)
            await end.wait()
        finally:
            with contextlib.suppress(OSError, ValueError):
                loop.remove_reader(fd)
            os.close(fd)


async def create_infra(tools: Tools, pod: PodRecord, namespace: str, *, record: bool = False) -> None:
    """Creates a pod's infra container, and with it its machine, in a network namespace that there is; it is not started. ``record``: what the machine
    translates is to be kept for others, if none has done so yet.

    :raise HyperError: it cannot be
    """
    bundle = await tools.preparer.infra(pod, namespace)
    async with tools.creating:
        await tools.runtime.create(pod.id, bundle, tools.config.timeouts.create_s, record=record)
