"""All pods: made, found, removed, and taken over from the daemon before."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Iterable
from typing import TypeVar

import msgspec

from hyperd import spec
from hyperd.errors import ConflictError, HyperError, InvalidError, MissingError
from hyperd.manifests.check import check_pod
from hyperd.pods import policy
from hyperd.pods.book import Book
from hyperd.pods.pod import Pod
from hyperd.pods.ready import ReadyMachines
from hyperd.pods.size import check_size
from hyperd.pods.tools import Tools, new_id, now
from hyperd.store import ContainerRecord, PodRecord
from hyperd.store.records import Desired

Found = TypeVar("Found")

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_LEAST_PREFIX = 3
_STOP_ALL_S = 120.0


class Manager:
    """The pods of one daemon. ``start`` takes over, ``close`` lets go: pods run on."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.ready = ReadyMachines(tools)
        self._pods: dict[str, Pod] = {}
        self._names: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Reads what is known, removes what nobody owns, and lets every pod look after itself."""
        contents = await self.tools.store.open()
        containers: dict[str, list[ContainerRecord]] = {}
        for record in contents.containers:
            containers.setdefault(record.pod, []).append(record)
        for pod in contents.pods:
            execs = [one for one in contents.execs if one.pod == pod.id] if contents.execs else []
            self._add(Pod(self.tools, Book(self.tools.store, pod, containers.get(pod.id, []), execs)))
        await self._remove_strangers()
        for container in await asyncio.to_thread(self.tools.runtime.with_abandoned_copies):
            _LOG.warning("ending the copy of a volume that was cut off", extra={"id": container})
            await self._quietly(self.tools.runtime.call("volume", "tidy", container))
        await self.tools.networks.restore([pod.book.pod for pod in self.all() if pod.book.pod.booted])
        for one in self.all():
            if policy.starts_with_daemon(one.book.pod):
                await one.book.begin()
            self._launch(one)
        self.ready.start()

    async def _remove_strangers(self) -> None:
        """What an earlier daemon made for pods and containers that it then removed, or never wrote down."""
        known = set(self._pods) | {one for pod in self.all() for one in (*pod.book.containers, *pod.book.execs)}
        for identity in self.tools.runtime.known():
            if identity not in known:
                _LOG.warning("removing a container that nobody owns", extra={"id": identity})
                await self._quietly(self.tools.runtime.delete(identity))
        for identity in await self.tools.preparer.known():
            if identity not in self._pods:
                _LOG.warning("removing files that nobody owns", extra={"id": identity})
                await self._quietly(self._forget(identity))

    async def _forget(self, pod: str) -> None:
        state = self.tools.config.pod_state(pod)
        for folder in await asyncio.to_thread(lambda: list(state.iterdir()) if state.is_dir() else []):
            await self.tools.monitors.end(folder)
        await self.tools.preparer.forget_pod(pod)

    async def _quietly(self, work: Awaitable[object]) -> None:
        try:
            await work
        except HyperError as error:
            _LOG.error("%s", error.message)

    async def close(self) -> None:
        """Ends all actors and the store. Pods run on."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.ready.close()
        self.tools.bus.close()
        await self.tools.store.close()

    async def stop_all(self) -> None:
        """Stops every pod. The next daemon starts those whose policy is "always" or "unless-stopped"."""
        for pod in self.all():
            await pod.ask_stop(resume=True)
        async with asyncio.timeout(_STOP_ALL_S):
            await asyncio.gather(*(pod.rested() for pod in self.all()))

    def all(self) -> list[Pod]:
        """Every pod, the newest first."""
        return sorted(self._pods.values(), key=lambda pod: -pod.book.pod.created)

    def find(self, name: str) -> Pod:
        """A pod by its name, its id, or the beginning of its id.

        :raise MissingError: there is none
        :raise ConflictError: there are several
        """
        if name in self._names:
            return self._pods[self._names[name]]
        if name in self._pods:
            return self._pods[name]
        found = [pod for key, pod in self._pods.items() if key.startswith(name)] if len(name) >= _LEAST_PREFIX else []
        return _only(found, "pod", name)

    def find_container(self, name: str) -> tuple[Pod, ContainerRecord]:
        """A container as POD/NAME, by its id or the beginning of it, by its own name where only one pod has it, or by a pod's that has only one.

        :raise MissingError: there is none
        :raise ConflictError: there are several
        """
        pod_name, slash, own = name.rpartition("/")
        if slash:
            pod = self.find(pod_name)
            return pod, _only([one for one in pod.book.containers.values() if own in (one.name, one.id)], "container", name)
        everyone = [(pod, one) for pod in self._pods.values() for one in pod.book.containers.values()]
        for matches in (
            [pair for pair in everyone if pair[1].id == name],
            [pair for pair in everyone if pair[1].name == name],
            [pair for pair in everyone if name in (pair[0].book.pod.name, pair[0].book.pod.id)],
            [pair for pair in everyone if len(name) >= _LEAST_PREFIX and pair[1].id.startswith(name)],
        ):
            if matches:
                mains = [pair for pair in matches if pair[1].kind == "main"]
                return _only(mains[:1] if matches[0][0].book.pod.name == name else mains or matches, "container", name)
        raise MissingError(f"no such container: {name}", hint=_LISTED["container"])

    async def create(self, wanted: spec.Pod, *, auto_remove: bool = False) -> Pod:
        """Writes a pod down; it does not run yet.

        :raise InvalidError: it cannot be
        :raise ConflictError: its name is taken
        """
        check_pod(wanted)
        check_size(wanted.vcpus, wanted.memory_mib)
        # To the end, whoever asked for it is still there or not: a pod that is written down has its task.
        return await asyncio.shield(asyncio.ensure_future(self._create(wanted, auto_remove)))

    async def _create(self, wanted: spec.Pod, auto_remove: bool) -> Pod:
        ready, created = self.ready.take(wanted), now()
        identity = ready or new_id()
        record = PodRecord(id=identity, name=wanted.name, spec=wanted, created=created, auto_remove=auto_remove)
        containers = [
            ContainerRecord(
                id=new_id(),
                pod=identity,
                name=one.name,
                kind=("sidecar" if one.restart == "always" else "init") if position < len(wanted.init_containers) else "main",
                position=position,
                created=created,
            )
            for position, one in enumerate((*wanted.init_containers, *wanted.containers))
        ]
        try:
            await self.tools.store.add_pod(record, containers)
        except HyperError:
            if ready:
                self.ready.give_back(ready)
            raise
        pod = Pod(self.tools, Book(self.tools.store, record, containers))
        self._add(pod)
        self._launch(pod)
        await self.tools.bus.publish("pod", "create", identity, wanted.name)
        return pod

    async def add_container(self, pod: Pod, wanted: spec.Container, *, start: bool = True) -> ContainerRecord:
        """Adds a container to a pod; in one that runs it is started, unless ``start`` is false.

        :raise ConflictError: the pod has one of that name, or is being removed
        """
        book = pod.book
        if book.pod.desired == "removed":
            raise ConflictError(f"pod {book.pod.name} is being removed")
        if any(one.name == wanted.name for one in book.containers.values()):
            raise ConflictError(f"container {wanted.name} exists already in pod {book.pod.name}")
        new_spec = msgspec.structs.replace(book.pod.spec, containers=(*book.pod.spec.containers, wanted))
        check_pod(new_spec)
        position = 1 + max((one.position for one in book.containers.values()), default=-1)
        desired: Desired = "running" if start or book.pod.phase not in ("starting", "running") else "stopped"
        record = ContainerRecord(
            id=new_id(), pod=book.pod.id, name=wanted.name, kind="main", position=position, created=now(), desired=desired
        )
        await asyncio.shield(asyncio.ensure_future(book.add_container(record, new_spec)))
        await self.tools.bus.publish("container", "create", record.id, record.name, pod=book.pod.name)
        pod.wake()
        return record

    async def rename_container(self, pod: Pod, record: ContainerRecord, name: str) -> None:
        """Its id, disk and log stay.

        :raise ConflictError: the pod has one of that name
        """
        _check_names("container", [name])
        if any(one.name == name for one in pod.book.containers.values()):
            raise ConflictError(f"container {name} exists already in pod {pod.book.pod.name}")
        await pod.book.rename_container(record.id, name)
        await self.tools.bus.publish("container", "rename", record.id, name, pod=pod.book.pod.name, old=record.name)

    def images_in_use(self) -> set[str]:
        """The ids of images that containers were made from."""
        return {one.image for pod in self._pods.values() for one in pod.book.containers.values() if one.image}

    def volumes_in_use(self) -> dict[str, list[str]]:
        """Named volumes, and the pods that name them."""
        used: dict[str, list[str]] = {}
        for pod in self._pods.values():
            for volume in pod.book.pod.spec.volumes:
                if isinstance(volume.source, spec.Named):
                    used.setdefault(volume.source.name, []).append(pod.book.pod.name)
        return used

    def _add(self, pod: Pod) -> None:
        self._pods[pod.book.pod.id] = pod
        self._names[pod.book.pod.name] = pod.book.pod.id
        pod.on_gone = lambda: self._drop(pod)

    def _drop(self, pod: Pod) -> None:
        self._pods.pop(pod.book.pod.id, None)
        if self._names.get(pod.book.pod.name) == pod.book.pod.id:
            del self._names[pod.book.pod.name]

    def _launch(self, pod: Pod) -> None:
        task = asyncio.create_task(pod.run(), name=f"pod {pod.book.pod.name}")
        self._tasks[pod.book.pod.id] = task
        task.add_done_callback(lambda _: self._ended(pod))

    def _ended(self, pod: Pod) -> None:
        task = self._tasks.pop(pod.book.pod.id)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("the task of a pod failed", exc_info=error, extra={"id": pod.book.pod.id})


_LISTED = {"pod": "`hyperctl list` shows those that there are", "container": "`hyperctl list container` shows those that there are"}


def _only(found: list[Found], kind: str, name: str) -> Found:
    if len(found) > 1:
        raise ConflictError(f"{kind} {name} is ambiguous: {len(found)} match", hint="use more of its id")
    if not found:
        raise MissingError(f"no such {kind}: {name}", hint=_LISTED[kind])
    return found[0]


def _check_names(kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidError(f"cannot name a {kind} {name!r}", hint="names have 1 to 63 characters of A-Z a-z 0-9 _ . -")
        if name in seen:
            raise InvalidError(f"two {kind}s are named {name}")
        seen.add(name)
