"""One pod: a task that makes what is there what is wanted, again and again, and the requests that change what is wanted.

Each pass looks at what is there, does the next thing, and writes it down before it does it. A pass that is cut short, by a request that wants
something else or by the end of the daemon, is no different from one that never began: the next one cleans up after it.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import msgspec

from hyperd import spec
from hyperd.errors import ConflictError, HyperError, UnavailableError
from hyperd.pods import policy
from hyperd.pods.book import Book
from hyperd.pods.containers import Containers, failure_code
from hyperd.pods.handlers import Handlers
from hyperd.pods.machine import Machine
from hyperd.pods.ports import Exit, Streams
from hyperd.pods.probes import Probes
from hyperd.pods.tools import Tools, now
from hyperd.store import ContainerRecord

_LOG = logging.getLogger(__name__)
_RETRY_S = 5.0
_AT_REST = ("created", "stopped", "succeeded", "failed")
_ALIVE = ("creating", "starting", "running", "stopping")


class _PassOver(Exception):
    """What this pass worked for has come to nothing, and somebody may want it anew by now: nothing more is done in it."""


class Pod:
    """The actor of one pod."""

    def __init__(self, tools: Tools, book: Book) -> None:
        self.book = book
        self.tools = tools
        self.handlers = Handlers(tools, book)
        self.machine = Machine(tools, book)
        self.containers = Containers(tools, book, self.machine, self.handlers)
        self.probes: dict[str, Probes] = {}
        self.on_gone: Callable[[], None] = lambda: None
        # Containers that could not be started, and why: for those who wait for it.
        self.failures: dict[str, HyperError] = {}
        self._grace_s: float | None = None
        self._graces: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._work: asyncio.Task[float | None] | None = None
        self._interrupted = False
        self._watchers: dict[str, asyncio.Task[None]] = {}

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
        self.book.failure = None
        self.failures.clear()
        self.probes.clear()
        fresh = {"phase": "waiting", "desired": "running", "code": -1, "signal": 0, "failures": 0, "restarts": 0, "retry_at": 0.0}
        fresh |= {"started": 0.0, "finished": 0.0, "message": "", "oom": False}
        changes = {"desired": "running", "phase": "starting", "started": 0.0, "finished": 0.0, "boots": 0, "retry_at": 0.0, "message": ""}
        await self.book.change_all(changes | {"paused": False}, {one: fresh for one in self.book.containers})
        self.wake()

    async def ask_stop(self, grace_s: float | None = None) -> None:
        """Wants the pod to stop: ``grace_s`` for its containers to end by themselves, None as it says itself."""
        pod = self.book.pod
        if pod.desired == "removed" or pod.phase in _AT_REST:
            return
        self._grace_s = grace_s
        await self.book.change(desired="stopped")
        self.interrupt()

    async def ask_removal(self, *, force: bool) -> None:
        """Wants it gone.

        :raise ConflictError: it runs, and ``force`` is not set
        """
        pod = self.book.pod
        if pod.phase in ("starting", "running", "stopping") and not force:
            raise ConflictError(f"pod {pod.name} is {policy.state_of(pod)}", hint="stop it first, or force its removal")
        await self.book.change(desired="removed")
        self.interrupt()

    async def ask_pause(self, paused: bool) -> None:
        """Wants all of it to stand still, or go on."""
        if self.book.pod.phase != "running":
            raise ConflictError(f"pod {self.book.pod.name} is {policy.state_of(self.book.pod)}")
        await self.book.change(paused=paused)
        self.wake()
        await self.book.until(lambda: self.book.pod.phase != "running" or self._paused() == paused)

    async def ask_container(self, record: ContainerRecord, desired: str, grace_s: float | None = None) -> None:
        """Wants one container to run, to stop within ``grace_s``, or gone."""
        if grace_s is not None:
            self._graces[record.id] = grace_s
        changes: dict[str, Any] = {"desired": desired}
        if desired == "running" and record.phase not in _ALIVE:
            changes |= {"phase": "waiting", "failures": 0, "retry_at": 0.0, "message": "", "code": -1}
            self.failures.pop(record.id, None)
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

    async def started(self) -> None:
        """Waits until a start has come to something.

        :raise HyperError: what it failed with
        """
        await self.book.until(lambda: self.book.gone or self.book.pod.phase != "starting")
        if self.book.failure is not None and self.book.pod.phase == "failed":
            raise self.book.failure

    async def rested(self) -> None:
        """Waits until nothing of it runs."""
        await self.book.until(lambda: self.book.gone or self.book.pod.phase in _AT_REST)

    async def attach(self, record: ContainerRecord, *, stdin: bool, stdout: bool, stderr: bool, hold: bool) -> Streams:
        """The streams of a container; of one that does not run yet as soon as it is made, before its program runs.

        :raise HyperError: it could not be started
        """
        self.containers.expect(record.id)
        try:
            await self.book.until(lambda: self._attachable(record.id))
            now_known = self.book.containers.get(record.id, record)
            if now_known.phase not in ("starting", "running", "stopping"):
                raise self.failures.get(record.id) or self.book.failure or ConflictError(f"container {record.name} is not running")
            return await self.tools.monitors.attach(
                self.tools.folder(record.pod, record.id), stdin=stdin, stdout=stdout, stderr=stderr, hold=hold
            )
        finally:
            self.containers.arrived(record.id)

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
            for task in self._watchers.values():
                task.cancel()
            await asyncio.gather(*self._watchers.values(), return_exceptions=True)

    async def _sleep(self, delay: float | None) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            pass  # that was the wish

    async def _pass(self) -> float | None:
        """One look; seconds until the next, None: when something happens."""
        self._interrupted = False
        self._work = asyncio.create_task(self._reconcile())
        try:
            return await self._work
        except asyncio.CancelledError:
            if not self._interrupted:
                self._work.cancel()
                await asyncio.gather(self._work, return_exceptions=True)
                raise
            return 0.0
        except _PassOver:
            return 0.0
        except HyperError as error:
            _LOG.error("%s; once more in %g s", error.message, _RETRY_S, extra={"id": self.book.pod.id})
        except Exception:
            _LOG.exception("a mistake of ours; once more in %g s", _RETRY_S, extra={"id": self.book.pod.id})
        finally:
            self.book.notify()
        return _RETRY_S

    async def _reconcile(self) -> float | None:
        if self.book.pod.desired == "removed":
            return await self._remove()
        if self.book.pod.desired == "stopped":
            return await self._stop()
        return await self._keep_running()

    async def _keep_running(self) -> float | None:
        pod = self.book.pod
        if pod.phase in ("succeeded", "failed"):
            return await self._rest()
        if pod.phase == "stopping":  # a finish that was cut short
            return await self._finish()
        if not self.machine.alive():
            if pod.booted:
                await self._machine_lost()
                return 0.0
            if pod.retry_at > now():
                return pod.retry_at - now()
            if not await self._boot():
                return 0.0
        self._watch("machine", self.machine.ended())
        await self.machine.pause(self.book.pod.paused)
        if self.book.pod.paused:
            return None
        return await self._attend_all()

    async def _rest(self) -> float | None:
        if self.book.pod.booted:
            await self.machine.tear_down()
            await self.book.change(booted=0.0)
        if self.book.pod.auto_remove and self.book.pod.phase != "created":
            await self.book.change(desired="removed")
            return 0.0
        return None

    async def _boot(self) -> bool:
        try:
            await self.machine.boot()
        except HyperError as error:
            if not self.book.pod.started:
                await self._fail(error)
            await self._boot_later(error.message)
            return False
        await self._tell("boot")
        return True

    async def _boot_later(self, message: str) -> None:
        boots = self.book.pod.boots + 1
        pause = policy.pause_s(boots, self.tools.config.restart)
        await self.book.change(phase="starting", booted=0.0, boots=boots, retry_at=now() + pause, message=message)

    async def _machine_lost(self) -> None:
        """The machine ended, and nobody had asked for it: the host was started anew, QEMU was killed, the guest's kernel panicked."""
        await self._tell("die")
        for record in list(self.book.containers.values()):
            if record.phase in ("running", "stopping"):
                await self._note_lost(record)
        ran_s = now() - self.book.pod.booted
        if ran_s >= self.tools.config.restart.reset_s:
            await self.book.change(boots=0)
        await self.machine.tear_down()
        self._forget_watchers()
        again = [one for one in self.book.of_kind("main") if self._runs_again(one)]
        if again or (not self.book.of_kind("main") and self.book.pod.spec.restart != "never"):
            early = [one.id for one in self.book.of_kind("init", "sidecar")]
            waiting = {"phase": "waiting", "retry_at": 0.0}
            await self.book.change_all({}, {one: waiting for one in [*early, *(record.id for record in again)]})
            await self._boot_later("its machine ended")
        else:
            self.book.failure = UnavailableError(f"pod {self.book.pod.name}: its machine ended")
            failed = {one.id: {"phase": "exited", "code": 137} for one in self.book.containers.values() if one.phase in _ALIVE or one.phase == "waiting"}
            await self.book.change_all({"phase": "failed", "finished": now(), "booted": 0.0, "message": "its machine ended"}, failed)

    async def _note_lost(self, record: ContainerRecord) -> None:
        """With the status that its monitor saw, if it saw one."""
        end = Exit(137, 9, finished=now())
        folder = self.tools.folder(record.pod, record.id)
        if self.tools.monitors.state(folder) == "exited":
            seen = await self.tools.monitors.wait(folder)
            end = seen if seen.code else end
        await self.containers.note_exit(record, end, message="its machine ended", restart=False)

    def _runs_again(self, record: ContainerRecord) -> bool:
        if record.desired != "running":
            return False
        if record.phase == "exited" and not record.retry_at and record.message != "its machine ended":
            return False  # it was done before
        code = record.code if record.phase == "exited" else 137
        return policy.restarts(policy.restart_policy(self.book.pod.spec, self.book.specification(record), record.kind), code)

    async def _attend_all(self) -> float | None:
        """Looks after every container in its turn; how long until something has to be done."""
        left_s = self._left_s()
        if left_s <= 0:
            return await self._expire()
        for record in self.book.of_kind("init", "sidecar"):
            verdict = await self._attend(record)
            if verdict is not None:
                return verdict if verdict >= 0 else None
        delays = [await self._attend(record) for record in self.book.of_kind("main")]
        if self.book.pod.phase == "starting":
            await self.book.change(phase="running", started=self.book.pod.started or now(), message="")
            await self._tell("start")
        if policy.ended(self.book.containers.values()):
            return await self._finish()
        soonest = min([left_s, *(delay for delay in delays if delay is not None and delay >= 0)])
        return soonest if math.isfinite(soonest) else None

    def _left_s(self) -> float:
        """How long the pod may still run."""
        pod = self.book.pod
        limit_s = pod.spec.active_deadline_s
        return pod.started + limit_s - now() if limit_s and pod.started else math.inf

    async def _expire(self) -> float | None:
        """Its time is over, however it is doing."""
        message = f"it ran for longer than {self.book.pod.spec.active_deadline_s:g} s"
        await self._end_all(self.book.pod.spec.termination_grace_s)
        await self.book.change(phase="failed", finished=now(), booted=0.0, message=message)
        await self._tell("fail", message=message)
        return 0.0

    async def _attend(self, record: ContainerRecord) -> float | None:
        """Does the next thing for a container. None: those after it may go on; else they wait so many seconds, -1: until something happens."""
        if record.id not in self.book.containers:
            return None
        record = await self.containers.settle(record)
        if record.desired == "removed":
            await self._end_container(record)
            await self.containers.forget(self.book.containers[record.id])
            return None
        if record.desired == "stopped":
            await self._end_container(record)
            return None
        if record.phase == "running":
            return await self._attend_running(record)
        self._forget_watcher(record.id)
        if record.phase == "exited" and not record.retry_at:
            if record.kind == "main" or record.code == 0:
                return None
            await self._fail(UnavailableError(f"container {record.name} ended with status {record.code}"))
        if record.retry_at > now():
            return record.retry_at - now()
        return await self._start_container(record)

    async def _attend_running(self, record: ContainerRecord) -> float | None:
        probes = self._watch_container(record)
        if not probes.health.alive:
            await self._end_container(record, unasked=True)
            return 0.0
        if record.kind == "init" or (record.kind == "sidecar" and not probes.health.started):
            return -1.0
        return None

    async def _start_container(self, record: ContainerRecord) -> float | None:
        self.failures.pop(record.id, None)
        try:
            await self.containers.start(record)
            record = self.book.containers[record.id]
            container = self.book.specification(record)
            self._watch_container(record)
            if container.post_start is not None:
                await self.handlers.run(record, container.post_start)
        except HyperError as error:
            return await self._container_failed(self.book.containers[record.id], error)
        return -1.0 if record.kind == "init" else (0.0 if record.kind == "sidecar" else None)

    async def _container_failed(self, record: ContainerRecord, error: HyperError) -> float | None:
        if not self.machine.alive():
            return 0.0
        if record.phase == "running":  # it was its post_start
            await self._end_container(record, unasked=True)
            record = await self.book.change_container(record.id, message=error.message)
            return 0.0
        first = not self.book.pod.started
        self.failures[record.id] = error
        record = await self.containers.note_exit(record, Exit(failure_code(error), finished=now()), error.message, restart=not first)
        if first:
            await self._fail(error)
        return 0.0

    async def _end_container(self, record: ContainerRecord, *, unasked: bool = False) -> None:
        """Stops one container; ``unasked``: its policy decides what follows."""
        self._forget_watcher(record.id)
        grace_s = self._graces.pop(record.id, self.book.pod.spec.termination_grace_s)
        ended = await self.containers.stop(record, grace_s)
        if unasked and ended.phase == "exited":
            end = Exit(ended.code or 137, ended.signal, ended.oom, ended.finished)
            await self.containers.note_exit(await self.book.change_container(record.id, phase="running"), end)

    async def _fail(self, error: HyperError) -> NoReturn:
        """A start came to nothing: what runs is ended, and nothing is tried again."""
        self.book.failure = error
        await self.machine.tear_down()
        self._forget_watchers()
        await self._settle_dead()
        await self.book.change(phase="failed", finished=now(), booted=0.0, message=error.message)
        await self._tell("fail", message=error.message)
        raise _PassOver

    async def _settle_dead(self) -> None:
        killed = {"phase": "exited", "code": 137, "signal": 9, "finished": now(), "retry_at": 0.0}
        alive = {one.id: killed for one in self.book.containers.values() if one.phase in _ALIVE}
        await self.book.change_all({}, alive)

    async def _finish(self) -> float | None:
        """All that was to be done is done: the rest of the pod ends."""
        if self.book.pod.phase != "stopping":
            await self.book.change(phase="stopping")
        await self._end_all(self.book.pod.spec.termination_grace_s)
        end = policy.outcome(self.book.containers.values())
        good = end is None or end.code == 0
        await self.book.change(phase="succeeded" if good else "failed", finished=now(), booted=0.0)
        await self._tell("stop", exit_code=str(end.code if end else 0))
        return 0.0

    async def _stop(self) -> float | None:
        if self.book.pod.phase in _AT_REST:
            return await self._rest()
        await self.book.change(phase="stopping", paused=False)
        grace = self.book.pod.spec.termination_grace_s if self._grace_s is None else self._grace_s
        await self._end_all(grace)
        self._grace_s = None
        await self.book.change(phase="stopped", finished=now(), booted=0.0)
        await self._tell("stop")
        if self.book.pod.auto_remove:
            await self.book.change(desired="removed")
            return 0.0
        return None

    async def _end_all(self, grace_s: float) -> None:
        self._forget_watchers()
        if self.machine.alive():
            await self.machine.pause(False)
            async with asyncio.TaskGroup() as group:
                for record in self.book.of_kind("init", "main"):
                    group.create_task(self.containers.stop(record, grace_s))
            for record in reversed(self.book.of_kind("sidecar")):
                await self.containers.stop(record, grace_s)
        await self.machine.tear_down()
        await self._settle_dead()

    async def _remove(self) -> float | None:
        await self.book.change(phase="removing")
        self._forget_watchers()
        await self.machine.tear_down()
        await self.tools.preparer.forget_pod(self.book.pod.id)
        await self.book.remove()
        self.on_gone()
        await self._tell("remove")
        return None

    # Who tells the actor that something has happened

    def _watch_container(self, record: ContainerRecord) -> Probes:
        if record.id not in self.probes or record.id not in self._watchers:
            container = self.book.specification(record)
            probes = Probes(self.tools, self.handlers, record, container, self.book.pod.name, self.wake)
            self.probes[record.id] = probes
            self._watch(record.id, self._watch_one(record, probes))
        return self.probes[record.id]

    async def _watch_one(self, record: ContainerRecord, probes: Probes) -> None:
        asking = asyncio.create_task(probes.run())
        try:
            await self.tools.monitors.wait(self.tools.folder(record.pod, record.id))
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def _watch(self, name: str, waiting: Coroutine[Any, Any, None]) -> None:
        """Wakes the actor when ``waiting`` has ended."""
        if name in self._watchers:
            waiting.close()
            return

        async def watch() -> None:
            try:
                await waiting
            except HyperError as error:
                _LOG.warning("cannot watch %s: %s", name, error, extra={"id": self.book.pod.id})
            self.wake()

        self._watchers[name] = asyncio.create_task(watch(), name=f"{self.book.pod.name}/{name}")

    def _forget_watcher(self, name: str) -> None:
        if (task := self._watchers.pop(name, None)) is not None:
            task.cancel()
        self.probes.pop(name, None)

    def _forget_watchers(self) -> None:
        for name in list(self._watchers):
            self._forget_watcher(name)

    async def _tell(self, action: str, **attributes: str) -> None:
        await self.tools.bus.publish("pod", action, self.book.pod.id, self.book.pod.name, **attributes)
