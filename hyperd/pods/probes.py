"""Probes: one task for each of a running container. What they find is kept in memory: a daemon that starts anew asks anew."""

import asyncio
from collections.abc import Awaitable, Callable

from hyperd import spec
from hyperd.errors import HyperError
from hyperd.pods import health
from hyperd.pods.handlers import Handlers
from hyperd.pods.tools import Tools, now
from hyperd.store import ContainerRecord


class Health:
    """What the probes of one container have found. ``started`` and ``ready`` are true where nothing asks.

    ``checked``: what Docker's health check has found, None where there is none.
    """

    def __init__(self, container: spec.Container) -> None:
        self.started = container.startup_probe is None
        self.ready = container.startup_probe is None and container.readiness_probe is None
        self.alive = True
        self.message = ""
        self.checked: health.State | None = None


class Probes:
    """Runs the probes of one container until it is cancelled. While the pod is paused it is not asked: it could not answer.

    :param changed: called when what is known of its health has changed
    :param paused: whether the pod is
    """

    def __init__(
        self,
        tools: Tools,
        handlers: Handlers,
        record: ContainerRecord,
        container: spec.Container,
        pod: str,
        changed: Callable[[], None],
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self.health = Health(container)
        self._tools = tools
        self._handlers = handlers
        self._record = record
        self._container = container
        self._pod = pod
        self._changed = changed
        self._paused = paused

    async def run(self) -> None:
        """The startup probe first; when it has succeeded once, the others. The health check beside them, as it knows a start of its own."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._probe())
            if self._container.healthcheck is not None:
                group.create_task(self._check_health(self._container.healthcheck))

    async def _probe(self) -> None:
        if self._container.startup_probe is not None:
            await self._until_started(self._container.startup_probe)
        async with asyncio.TaskGroup() as group:
            if self._container.readiness_probe is not None:
                group.create_task(self._repeat(self._container.readiness_probe, self._found_ready))
            elif not self.health.ready:
                await self._found_ready(True, "")
            if self._container.liveness_probe is not None:
                group.create_task(self._repeat(self._container.liveness_probe, self._found_alive))

    async def _until_started(self, probe: spec.Probe) -> None:
        async def found(well: bool, message: str) -> None:
            if well:
                self.health.started = True
                self._changed()
            else:
                await self._found_alive(False, message)

        await self._repeat(probe, found, once=True)

    async def _repeat(self, probe: spec.Probe, found: Callable[[bool, str], Awaitable[None]], *, once: bool = False) -> None:
        """Asks every period. ``found`` hears of a change: after ``successes`` or ``failures`` answers of a kind in a row."""
        await asyncio.sleep(probe.initial_delay_s)
        known: bool | None = None
        row = 0
        last = False
        while True:
            paused = self._paused()
            well, message = (last, "") if paused else await self._ask(probe)
            if once:
                self.health.message = message
            if paused or self._paused():
                await asyncio.sleep(probe.period_s)
                continue
            row = row + 1 if well == last else 1
            last = well
            if well != known and row >= (probe.successes if well else probe.failures):
                known = well
                await found(well, message)
                if once:
                    return
            await asyncio.sleep(probe.period_s)

    async def _ask(self, probe: spec.Probe) -> tuple[bool, str]:
        try:
            await self._handlers.check(self._record, probe)
        except HyperError as error:
            return False, error.message
        return True, ""

    async def _check_health(self, wanted: spec.Healthcheck) -> None:
        check = await self._tools.preparer.health_check(self._record, wanted)
        if check is None:
            return
        since = self._record.started or now()
        self._found_health(health.State())
        while True:
            await asyncio.sleep(health.pause_s(self._checked, check, now() - since))
            if self._paused():
                continue
            result = await self._handlers.health(self._record, check)
            if self._paused():
                continue
            before, found = self._checked.status, health.after(self._checked, check, result, since)
            self._found_health(found)
            if found.status != before:
                await self._tell("health", result.output if result.code else "", status=found.status)

    @property
    def _checked(self) -> health.State:
        return self.health.checked or health.State()

    def _found_health(self, found: health.State) -> None:
        self.health.checked = found
        self._changed()

    async def _found_ready(self, well: bool, message: str) -> None:
        self.health.ready = well
        self.health.message = message
        self._changed()
        await self._tell("ready" if well else "unready", message)

    async def _found_alive(self, well: bool, message: str) -> None:
        if well:
            return
        self.health.alive = False
        self.health.message = message
        self._changed()
        await self._tell("unhealthy", message)

    async def _tell(self, action: str, message: str, **attributes: str) -> None:
        attributes |= {"message": message} if message else {}
        await self._tools.bus.publish("container", action, self._record.id, self._record.name, pod=self._pod, **attributes)
