"""The records of one pod, in memory and in the store, and who waits for them to change."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from hyperd import spec
from hyperd.errors import HyperError, MissingError
from hyperd.store import ContainerRecord, ExecRecord, PodRecord, Store


class Book:
    """What is known of a pod. Memory never lags behind the file: it is changed first, and changed back if the file refuses.

    ``gone``: the pod was removed; the last records stay readable for those who still hold the book.
    """

    def __init__(
        self, store: Store, pod: PodRecord, containers: list[ContainerRecord], execs: list[ExecRecord] | None = None
    ) -> None:
        self._store = store
        self.pod = pod
        self.containers = {one.id: one for one in sorted(containers, key=lambda one: one.position)}
        self.execs = {one.id: one for one in execs or []}
        self.gone = False
        # What a start that somebody waits for has failed with.
        self.failure: HyperError | None = None
        # Containers that could not be started, and why: for those who wait for it.
        self.failures: dict[str, HyperError] = {}
        # Containers that stand still, and that are not to be started, while somebody reads their files.
        self.frozen: set[str] = set()
        self.looked_at: set[str] = set()
        # The container that the others wait for while the pod starts, and since when, by the loop's clock, there was one.
        self.waits_for = ""
        self.waiting_since = 0.0
        self._changed = asyncio.Event()

    def wait_for(self, container: str) -> None:
        """The pod's start goes on when this container has done its part."""
        self.waiting_since = self.waiting_since or asyncio.get_running_loop().time()
        self.waits_for = container
        self.notify()

    def wait_no_longer(self) -> None:
        """The pod has started, or begins anew."""
        self.waits_for, self.waiting_since = "", 0.0

    async def change(self, **changes: Any) -> None:
        """Changes the pod's record."""
        await self.change_all(changes, {})

    async def change_all(self, pod: dict[str, Any], containers: dict[str, dict[str, Any]]) -> None:
        """Changes the pod's record and some of its containers' in one step."""
        old_pod, old_containers = self.pod, dict(self.containers)
        self.pod = msgspec.structs.replace(self.pod, **pod)
        changed = [msgspec.structs.replace(self.containers[name], **fields) for name, fields in containers.items()]
        self.containers.update({one.id: one for one in changed})
        try:
            await self._store.put_pod(self.pod, *changed)
        except HyperError:
            self.pod, self.containers = old_pod, old_containers
            raise
        finally:
            self.notify()

    async def begin(self) -> None:
        """Wants the pod to run, from the beginning: whatever came of it and its containers before is forgotten."""
        self.failure = None
        self.failures.clear()
        self.wait_no_longer()
        pod = {"desired": "running", "phase": "starting", "restarting": False, "resume": False, "paused": False, "boots": 0}
        pod |= {"started": 0.0, "finished": 0.0, "retry_at": 0.0, "message": ""}
        container = {"desired": "running", "phase": "waiting", "code": -1, "signal": 0, "oom": False, "failures": 0, "restarts": 0}
        container |= {"started": 0.0, "finished": 0.0, "retry_at": 0.0, "message": ""}
        await self.change_all(pod, {one: container for one in self.containers})

    async def change_container(self, identity: str, **changes: Any) -> ContainerRecord:
        """Changes one container's record; what it is now."""
        old = self.containers[identity]
        new = self.containers[identity] = msgspec.structs.replace(old, **changes)
        try:
            await self._store.put_container(new)
        except HyperError:
            self.containers[identity] = old
            raise
        finally:
            self.notify()
        return new

    async def add_container(self, record: ContainerRecord, pod_spec: spec.Pod) -> None:
        """Takes in a container with the specification that has it."""
        await self._store.put_pod(msgspec.structs.replace(self.pod, spec=pod_spec), record)
        self.pod = msgspec.structs.replace(self.pod, spec=pod_spec)
        self.containers[record.id] = record
        self.notify()

    async def rename_container(self, identity: str, name: str) -> None:
        """Calls a container, and what its specification says of it, by another name."""
        old = self.containers[identity].name
        renamed = {
            field: tuple(
                msgspec.structs.replace(one, name=name) if one.name == old else one for one in getattr(self.pod.spec, field)
            )
            for field in ("containers", "init_containers")
        }
        await self.change_all({"spec": msgspec.structs.replace(self.pod.spec, **renamed)}, {identity: {"name": name}})

    async def forget_container(self, identity: str) -> None:
        """Drops a container, from the specification too."""
        name = self.containers[identity].name
        kept = {
            field: tuple(one for one in getattr(self.pod.spec, field) if one.name != name)
            for field in ("containers", "init_containers")
        }
        pod = msgspec.structs.replace(self.pod, spec=msgspec.structs.replace(self.pod.spec, **kept))
        await self._store.remove_container(pod, identity)
        self.pod = pod
        del self.containers[identity]
        self.execs = {key: one for key, one in self.execs.items() if one.container != identity}
        self.notify()

    async def put_exec(self, record: ExecRecord) -> ExecRecord:
        """Adds or changes a process."""
        await self._store.put_exec(record)
        self.execs[record.id] = record
        self.notify()
        return record

    async def forget_execs(self, ids: list[str]) -> None:
        """Drops processes."""
        await self._store.remove_execs(ids)
        self.execs = {key: one for key, one in self.execs.items() if key not in ids}

    async def remove(self) -> None:
        """Drops all of it."""
        await self._store.remove_pod(self.pod.id)
        self.gone = True
        self.notify()

    def notify(self) -> None:
        """Lets all who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until ``condition`` holds; it is asked after every change. The caller sets the deadline."""
        while not condition():
            await self._changed.wait()

    def specification(self, record: ContainerRecord) -> spec.Container:
        """What a container is to be.

        :raise MissingError: the pod's specification does not have it
        """
        for one in (*self.pod.spec.init_containers, *self.pod.spec.containers):
            if one.name == record.name:
                return one
        raise MissingError(f"pod {self.pod.name} has no container {record.name}")

    def of_kind(self, *kinds: str) -> list[ContainerRecord]:
        """Containers in the order in which they start."""
        return sorted((one for one in self.containers.values() if one.kind in kinds), key=lambda one: one.position)
