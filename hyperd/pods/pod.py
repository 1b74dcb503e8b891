"""One pod: a task that makes what is there what is wanted, again and again, and the requests that change what is wanted.

Each pass looks at what is there, does the next thing, and writes it down before it does it. A pass that is cut short, by a request that wants
something else or by the end of the daemon, is no different from one that never began: the next one cleans up after it.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from typing import Any

import msgspec

from hyperd import spec
from hyperd.errors import ConflictError, HyperError
from hyperd.pods import policy
from hyperd.pods.book import Book
from hyperd.pods.keeper import Keeper, PassOver
from hyperd.pods.machine import Machine
from hyperd.pods.ports import Streams
from hyperd.pods.probes import Health
from hyperd.pods.tools import Tools
from hyperd.store import ContainerRecord

_LOG = logging.getLogger(__name__)
_RETRY_S = 5.0
_NOTED_S = 5.0
# What a stop takes beside the grace: kills, and the end of the machine.
_STOP_S = 60.0


class Pod:
    """The actor of one pod."""

    def __init__(self, tools: Tools, book: Book) -> None:
        self.book = book
        self.tools = tools
        self.on_gone: Callable[[], None] = lambda: None
        self._keeper = Keeper(tools, book, wake=self.wake, on_gone=lambda: self.on_gone())
        self._wake = asyncio.Event()
        self._work: asyncio.Task[float | None] | None = None
        self._interrupted = False

    @property
    def machine(self) -> Machine:
        """What its containers live in."""
        return self._keeper.machine

    def health(self, container: str) -> Health | None:
        """What the probes of a running container have found."""
        probes = self._keeper.watchers.probes.get(container)
        return probes.health if probes is not None else None

    # What others ask for

    def wake(self) -> None:
        """Has the actor look again."""
        self._wake.set()
        self.book.notify()

    def interrupt(self) -> None:
        """Cuts short what the actor is doing: something else is wanted."""
        if self._work is not None and not self._work.done():
            self._interrupted = True
            self._work.cancel()
        self.wake()

    async def ask_start(self) -> None:
        """Wants the pod to run; nothing when it does already. Containers that had ended begin anew."""
        pod = self.book.pod
        if pod.desired == "removed":
            raise ConflictError(f"pod {pod.name} is being removed")
        if pod.desired == "running" and pod.phase in ("starting", "running"):
            return
        if pod.phase == "stopping":
            raise ConflictError(f"pod {pod.name} is being stopped", hint="wait until it has stopped")
        await self.book.begin()
        self.wake()

    async def ask_stop(self, grace_s: float | None = None, *, resume: bool = False) -> None:
        """Wants the pod to stop: ``grace_s`` for its containers to end by themselves, None as it says itself. ``resume``: until the next daemon starts."""
        pod = self.book.pod
        if pod.desired == "removed" or pod.phase in policy.AT_REST:
            return
        self._keeper.grace_s = grace_s
        await self.book.change(desired="stopped", restarting=False, resume=resume)
        self.interrupt()

    async def ask_restart(self, grace_s: float | None = None) -> None:
        """Wants it to stop, and to start again; one that does not run is started."""
        pod = self.book.pod
        if pod.desired == "removed" or pod.phase in policy.AT_REST:
            await self.ask_start()
            return
        self._keeper.grace_s = grace_s
        await self.book.change(desired="stopped", restarting=True)
        self.interrupt()

    async def ask_removal(self, *, force: bool) -> None:
        """Wants it gone.

        :raise ConflictError: it runs, and ``force`` is not set
        """
        if not force:
            await self._ends_noted()
            await self._stop_over()
        pod = self.book.pod
        if pod.phase in ("starting", "running", "stopping") and not force and not self._is_over():
            raise ConflictError(f"pod {pod.name} is {policy.state_of(pod)}", hint="stop it first, or force its removal")
        await self.book.change(desired="removed")
        self.interrupt()

    async def _ends_noted(self) -> None:
        """Waits until ends that monitors have seen are written down: whoever was attached knows of them before."""

        def pending() -> bool:
            return any(
                one.phase == "running" and self.tools.monitors.state(self.tools.folder(one.pod, one.id)) == "exited"
                for one in self.book.containers.values()
            )

        if pending():
            self.wake()
            try:
                async with asyncio.timeout(_NOTED_S):
                    await self.book.until(lambda: not pending())
            except TimeoutError:
                _LOG.warning("an end was not noted in time", extra={"id": self.book.pod.id})

    async def _stop_over(self) -> None:
        """Waits for the end of a stop that is under way, so that one need not ask twice; as long as it may take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.book.pod.spec.termination_grace_s + _STOP_S):
                await self.book.until(lambda: self.book.gone or self.book.pod.phase != "stopping" or self._is_over())

    def _is_over(self) -> bool:
        """Whether all that it was for has ended, though its machine may still be there."""
        mains = self.book.of_kind("main")
        return bool(mains) and all(one.phase == "exited" and not one.retry_at for one in mains)

    async def ask_pause(self, paused: bool) -> None:
        """Wants all of it to stand still, or go on."""
        if self.book.pod.phase != "running":
            raise ConflictError(f"pod {self.book.pod.name} is {policy.state_of(self.book.pod)}", hint="start it first")
        await self.book.change(paused=paused)
        self.wake()
        await self.book.until(lambda: self.book.pod.phase != "running" or self._paused() == paused)

    async def ask_container(self, record: ContainerRecord, desired: str, grace_s: float | None = None) -> None:
        """Wants one container to run, to stop within ``grace_s``, or gone."""
        if grace_s is not None:
            self._keeper.graces[record.id] = grace_s
        changes: dict[str, Any] = {"desired": desired}
        if desired == "running" and record.phase not in policy.ALIVE:
            changes |= {"phase": "waiting", "failures": 0, "restarts": 0, "retry_at": 0.0, "message": "", "code": -1}
            self.book.failures.pop(record.id, None)
        await self.book.change_container(record.id, **changes)
        self.wake()

    async def connect(self, card: spec.Interface) -> None:
        """Gives a pod that runs one card more."""
        pod = self.book.pod
        attachment = await self.tools.networks.attach(pod, pod.namespace, card)
        try:
            await self.tools.runtime.call("interface", "add", pod.id, attachment.name)
        except HyperError:
            await self.tools.networks.detach(pod.id, card.network)
            raise
        wanted = msgspec.structs.replace(self.book.pod.spec, interfaces=(*self.book.pod.spec.interfaces, card))
        await self.book.change(spec=wanted, addresses=self.tools.networks.addresses(pod.id))

    async def disconnect(self, network: str) -> None:
        """Takes the pod's card in a network away."""
        pod = self.book.pod
        for attachment in self.tools.networks.attachments(pod.id):
            if attachment.network == network and pod.phase == "running":
                await self.tools.runtime.call("interface", "rm", pod.id, attachment.name)
        await self.tools.networks.detach(pod.id, network)
        kept = tuple(one for one in pod.spec.interfaces if one.network != network)
        wanted = msgspec.structs.replace(self.book.pod.spec, interfaces=kept)
        await self.book.change(spec=wanted, addresses=self.tools.networks.addresses(pod.id))

    async def started(self, patience_s: float = math.inf) -> None:
        """Waits until a start has come to something.

        :param patience_s: how long at most it waits for init containers and sidecars; then the pod is still "starting"
        :raise HyperError: what it failed with
        """

        def done() -> bool:
            return self.book.gone or not (self.book.pod.restarting or self.book.pod.phase == "starting")

        await self.book.until(lambda: done() or bool(self.book.waiting_since))
        if not done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self.book.waiting_since + patience_s if math.isfinite(patience_s) else None):
                    await self.book.until(done)
        if self.book.failure is not None and self.book.pod.phase == "failed":
            raise self.book.failure

    async def rested(self) -> None:
        """Waits until nothing of it runs."""
        await self.book.until(lambda: self.book.gone or self.book.pod.phase in policy.AT_REST)

    async def attach(self, record: ContainerRecord, *, stdin: bool, stdout: bool, stderr: bool, hold: bool) -> Streams:
        """The streams of a container; of one that does not run yet as soon as it is made, before its program runs.

        :raise HyperError: it could not be started
        """
        self._keeper.containers.expect(record.id)
        try:
            await self.book.until(lambda: self._attachable(record.id))
            now_known = self.book.containers.get(record.id, record)
            if now_known.phase not in ("starting", "running", "stopping"):
                raise self.book.failures.get(record.id) or self.book.failure or ConflictError(f"container {record.name} is not running")
            return await self.tools.monitors.attach(
                self.tools.folder(record.pod, record.id), stdin=stdin, stdout=stdout, stderr=stderr, hold=hold
            )
        finally:
            self._keeper.containers.arrived(record.id)

    def _attachable(self, container: str) -> bool:
        """Whether it can be attached to now, or never."""
        record = self.book.containers.get(container)
        if record is None or self.book.gone or self.book.pod.phase in ("stopped", "succeeded", "failed", "removing"):
            return True
        return record.phase in ("starting", "running", "stopping") or (record.phase == "exited" and not record.retry_at)

    def _paused(self) -> bool:
        return self.tools.runtime.status(self.book.pod.id) == "paused"

    # The actor

    async def run(self) -> None:
        """Works until the pod is removed, or it is cancelled; that leaves everything as it is."""
        try:
            while not self.book.gone:
                self._wake.clear()
                delay = await self._pass()
                if not self._wake.is_set() and not self.book.gone:
                    await self._sleep(delay)
        finally:
            await self._keeper.watchers.close()

    async def _sleep(self, delay: float | None) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass  # that was the wish

    async def _pass(self) -> float | None:
        """One look; seconds until the next, None: when something happens."""
        self._interrupted = False
        self._work = asyncio.create_task(self._keeper.look())
        try:
            return await self._work
        except asyncio.CancelledError:
            if not self._interrupted:
                self._work.cancel()
                await asyncio.gather(self._work, return_exceptions=True)
                raise
            return 0.0
        except PassOver:
            return 0.0
        except HyperError as error:
            _LOG.error("%s; once more in %g s", error.message, _RETRY_S, extra={"id": self.book.pod.id})
        except Exception:
            _LOG.exception("a mistake of ours; once more in %g s", _RETRY_S, extra={"id": self.book.pod.id})
        finally:
            self.book.notify()
        return _RETRY_S
