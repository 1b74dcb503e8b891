"""Machines that wait: made before anybody asks for a pod, so that the pod's containers are all that is left to be made.

One is an infra container that was created and not started, in a network namespace that is still empty, and a container was made and removed in it once,
of layers and a disk as pods have them, so that an emulated processor has its ways to one translated. Its id becomes that of the pod that takes it. What an earlier daemon has left
waiting is nobody's, and removed at the start as everything that is.

Where an emulated processor's translations can be kept, and there are none of pods' machines yet, the first machine records them: it goes the ways of a
pod, is kept (``runv factory keep``) and removed, and those that follow take what it has translated.
"""

import asyncio
import logging

import msgspec

from hyperd import spec
from hyperd.errors import HyperError
from hyperd.pods.machine import create_infra
from hyperd.pods.prepare import TRIAL
from hyperd.pods.tools import Tools, new_id, now
from hyperd.store import ContainerRecord, PodRecord

_LOG = logging.getLogger(__name__)
# A new one is made when nothing was taken for so long: until then the processors are the pods'.
_QUIET_S = 3.0
_AGAIN_S = 30.0
_WARM = "warm"


class ReadyMachines:
    """As many as the settings say (``ready_machines``)."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._waiting: list[str] = []
        self._taken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._records = True

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def start(self) -> None:
        """Begins to make them."""
        if self._tools.config.ready_machines:
            self._task = asyncio.create_task(self._keep(), name="ready machines")

    async def close(self) -> None:
        """Removes those that wait."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._waiting:
            await self._remove(self._waiting.pop())

    def take(self, wanted: spec.Pod) -> str:
        """The id of one that fits, which is the caller's from now on; empty when there is none."""
        if not fits(wanted):
            return ""
        while self._waiting:
            identity = self._waiting.pop()
            self._taken.set()
            if self._tools.runtime.status(identity) == "created":
                return identity
        return ""

    def give_back(self, identity: str) -> None:
        """It was not needed after all."""
        self._waiting.append(identity)

    async def _keep(self) -> None:
        while True:
            try:
                while len(self._waiting) < self._tools.config.ready_machines:
                    await self._quiet()
                    await self._make()
            except HyperError as error:
                _LOG.warning("cannot make a machine ready: %s", error.message)
                await asyncio.sleep(_AGAIN_S)
                continue
            self._taken.clear()
            await self._taken.wait()

    async def _quiet(self) -> None:
        """Until nothing was taken for a while."""
        while True:
            self._taken.clear()
            try:
                async with asyncio.timeout(_QUIET_S):
                    await self._taken.wait()
            except TimeoutError:
                return

    async def _make(self) -> None:
        pod = _nobodys(new_id())
        try:
            namespace, _ = await self._tools.networks.set_up(pod)
            await create_infra(self._tools, pod, namespace, record=self._records)
            recorded = self._tools.runtime.records(pod.id)
            if recorded:
                await self._record(pod)
                await self._remove(pod.id)
            else:
                await self._warm(pod)
        except BaseException:
            await asyncio.shield(self._remove(pod.id))
            raise
        if not recorded:
            self._waiting.append(pod.id)

    async def _record(self, pod: PodRecord) -> None:
        """Once for all machines that follow. Pods can do without."""
        self._records = False  # not again, however it ends
        try:
            await self._tools.networks.set_up(msgspec.structs.replace(pod, name=pod.id, spec=spec.Pod(name=pod.id)))
            await self._tools.runtime.start(pod.id)
            await self._warm(pod, thoroughly=True)
            await self._tools.runtime.call("factory", "keep", pod.id, timeout_s=self._tools.config.timeouts.create_s)
            _LOG.info("a machine has recorded what it translates, for those that follow", extra={"id": pod.id})
        except HyperError as error:
            _LOG.warning("cannot keep what a machine has translated: %s", error.message)

    async def _warm(self, pod: PodRecord, *, thoroughly: bool = False) -> None:
        record = _trial(pod)
        bundle = await self._tools.preparer.trial(pod, record)
        try:
            await self._tools.runtime.create(record.id, bundle, self._tools.config.timeouts.create_s)
            if thoroughly:
                await self._tools.runtime.execute(record.id, (TRIAL,), self._tools.config.timeouts.command_s)
            await self._tools.runtime.start(record.id)
        finally:
            await self._tools.runtime.delete(record.id)
            await self._tools.preparer.forget_container(pod, record)

    async def _remove(self, identity: str) -> None:
        pod = _nobodys(identity)
        try:
            await self._tools.runtime.delete(_trial(pod).id)
            await self._tools.runtime.delete(identity)
            await self._tools.networks.tear_down(pod)
            await self._tools.preparer.forget_pod(identity)
        except HyperError as error:
            _LOG.error("cannot remove a machine that waited: %s", error.message, extra={"id": identity})


def _trial(pod: PodRecord) -> ContainerRecord:
    """Stands for the container that warms a machine up."""
    return ContainerRecord(id=f"{pod.id}-{_WARM}", pod=pod.id, name=_WARM, kind="main", position=0, created=pod.created)


def _nobodys(identity: str) -> PodRecord:
    """Stands for the pod that a machine which waits does not have yet."""
    return PodRecord(id=identity, name="ready", spec=spec.Pod(name="ready", interfaces=()), created=now())


def fits(wanted: spec.Pod) -> bool:
    """Whether a machine of the usual size, with nothing special about its namespaces, is what this pod needs."""
    sized = any(one.resources.memory or one.resources.cpus for one in (*wanted.init_containers, *wanted.containers))
    memory = any(isinstance(volume.source, spec.EmptyDir) and volume.source.medium == "memory" for volume in wanted.volumes)
    return not (wanted.vcpus or wanted.memory_mib or sized or memory or wanted.sysctls or wanted.share_pids)
