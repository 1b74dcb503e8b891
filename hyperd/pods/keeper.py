"""What is there is made what is wanted: the next thing to do for a pod, and how it is done."""

import asyncio
import math
from collections.abc import Callable
from typing import Any, NoReturn

from hyperd.errors import HyperError, UnavailableError
from hyperd.pods import policy
from hyperd.pods.book import Book
from hyperd.pods.containers import Containers, failure_code, restarts
from hyperd.pods.handlers import Handlers
from hyperd.pods.machine import Machine
from hyperd.pods.ports import Exit
from hyperd.pods.tools import Tools, now
from hyperd.pods.watchers import Watchers
from hyperd.store import ContainerRecord


class PassOver(Exception):
    """What this pass worked for has come to nothing, and somebody may want it anew by now: nothing more is done in it."""


class Keeper:
    """Looks after one pod. Only its actor calls ``look``.

    :param wake: has the actor look again
    :param on_gone: called when the pod was removed
    """

    def __init__(self, tools: Tools, book: Book, *, wake: Callable[[], None], on_gone: Callable[[], None]) -> None:
        self.book = book
        self.tools = tools
        self.handlers = Handlers(tools, book)
        self.machine = Machine(tools, book)
        self.containers = Containers(tools, book, self.machine, self.handlers)
        self.watchers = Watchers(tools, book, self.handlers, wake)
        self._on_gone = on_gone
        # How long processes have to end by themselves, where somebody has said so: all of the pod's, and of single containers.
        self.grace_s: float | None = None
        self.graces: dict[str, float] = {}

    async def look(self) -> float | None:
        """Does the next thing; seconds until the next look, None: when something happens.

        :raise PassOver: what was worked for has come to nothing
        """
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
        self.watchers.watch("machine", self.machine.ended())
        await self.machine.pause(self.book.pod.paused)
        if self.book.pod.paused:
            return None
        return await self._attend_all()

    async def _rest(self) -> float | None:
        for record in [one for one in self.book.containers.values() if one.desired == "removed"]:
            await self.containers.forget(record)
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
        self.watchers.forget_all()
        again = [one for one in self.book.of_kind("main") if self._runs_again(one)]
        if again or (not self.book.of_kind("main") and self.book.pod.spec.restart != "never"):
            early = [one.id for one in self.book.of_kind("init", "sidecar")]
            waiting: dict[str, Any] = {"phase": "waiting", "retry_at": 0.0}
            changes = {one: waiting for one in early} | {one.id: waiting | {"restarts": one.restarts + 1} for one in again}
            await self.book.change_all({}, changes)
            await self._boot_later("its machine ended")
        else:
            self.book.failure = UnavailableError(f"pod {self.book.pod.name}: its machine ended")
            failed = {one.id: {"phase": "exited", "code": 137} for one in self.book.containers.values() if one.phase in policy.ALIVE or one.phase == "waiting"}
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
        return restarts(self.book, record, code)

    async def _attend_all(self) -> float | None:
        """Looks after every container in its turn; how long until something has to be done."""
        left_s = self._left_s()
        if left_s <= 0:
            return await self._expire()
        for record in self.book.of_kind("init", "sidecar"):
            verdict = await self._attend(record)
            if verdict is not None:
                if verdict and self.book.pod.phase == "starting":
                    self.book.wait_for(record.name)
                return verdict if verdict >= 0 else None
        delays = [await self._attend(record) for record in self.book.of_kind("main")]
        if self.book.pod.phase == "starting":
            self.book.wait_no_longer()
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
        self.watchers.forget(record.id)
        if record.phase == "exited" and not record.retry_at:
            if record.kind == "main" or record.code == 0:
                return None
            await self._fail(UnavailableError(f"container {record.name} ended with status {record.code}"))
        if record.retry_at > now():
            return record.retry_at - now()
        return await self._start_container(record)

    async def _attend_running(self, record: ContainerRecord) -> float | None:
        if record.id not in self.watchers.probes:
            await self.containers.let_go_on(record)
        probes = self.watchers.container(record)
        if not probes.health.alive:
            await self._end_container(record, unasked=True)
            return 0.0
        if record.kind == "init" or (record.kind == "sidecar" and not probes.health.started):
            return -1.0
        return None

    async def _start_container(self, record: ContainerRecord) -> float | None:
        self.book.failures.pop(record.id, None)
        try:
            await self.containers.start(record)
            record = self.book.containers[record.id]
            container = self.book.specification(record)
            self.watchers.container(record)
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
        self.book.failures[record.id] = error
        record = await self.containers.note_exit(record, Exit(failure_code(error), finished=now()), error.message, restart=not first)
        if first:
            await self._fail(error)
        return 0.0

    async def _end_container(self, record: ContainerRecord, *, unasked: bool = False) -> None:
        """Stops one container; ``unasked``: its policy decides what follows."""
        self.watchers.forget(record.id)
        grace_s = self.graces.pop(record.id, self.book.pod.spec.termination_grace_s)
        ended = await self.containers.stop(record, grace_s)
        if unasked and ended.phase == "exited":
            end = Exit(ended.code or 137, ended.signal, ended.oom, ended.finished)
            await self.containers.note_exit(await self.book.change_container(record.id, phase="running"), end)

    async def _fail(self, error: HyperError) -> NoReturn:
        """A start came to nothing: what runs is ended, and nothing is tried again."""
        self.book.failure = error
        await self.machine.tear_down()
        self.watchers.forget_all()
        await self._settle_dead()
        await self.book.change(phase="failed", finished=now(), booted=0.0, message=error.message)
        await self._tell("fail", message=error.message)
        raise PassOver

    async def _settle_dead(self) -> None:
        killed = {"phase": "exited", "code": 137, "signal": 9, "finished": now(), "retry_at": 0.0}
        alive = {one.id: killed for one in self.book.containers.values() if one.phase in policy.ALIVE}
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
        if self.book.pod.restarting and self.book.pod.phase == "stopped":
            await self.book.begin()  # that is where the daemon before was cut short
            return 0.0
        if self.book.pod.phase in policy.AT_REST:
            return await self._rest()
        await self.book.change(phase="stopping", paused=False)
        grace = self.book.pod.spec.termination_grace_s if self.grace_s is None else self.grace_s
        await self._end_all(grace)
        self.grace_s = None
        await self.book.change(phase="stopped", finished=now(), booted=0.0)
        await self._tell("stop")
        if self.book.pod.restarting:
            await self.book.begin()
            return 0.0
        if self.book.pod.auto_remove:
            await self.book.change(desired="removed")
            return 0.0
        return None

    async def _end_all(self, grace_s: float) -> None:
        self.watchers.forget_all()
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
        self.watchers.forget_all()
        await self.machine.tear_down()
        await self.tools.preparer.forget_pod(self.book.pod.id)
        await self.book.remove()
        self._on_gone()
        await self._tell("remove")
        return None

    async def _tell(self, action: str, **attributes: str) -> None:
        await self.tools.bus.publish("pod", action, self.book.pod.id, self.book.pod.name, **attributes)
