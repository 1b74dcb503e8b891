"""Neighbours of the manager in memory: what they hold outlives a daemon, as machines and monitors do, and every call can be made to fail."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from hyperd import spec
from hyperd.config import Config, Restart
from hyperd.errors import HyperError, MissingError, UnavailableError
from hyperd.images.documents import Healthcheck
from hyperd.networks import Attachment
from hyperd.pods.bus import Bus
from hyperd.pods.health import Check, check_of
from hyperd.pods.manager import Manager
from hyperd.pods.ports import Exit, Prepared, Streams
from hyperd.pods.tools import Tools
from hyperd.store import ContainerRecord, ExecRecord, PodRecord, Store

WAIT_S = 20.0


class World:
    """What is there outside of hyperd: containers by id with their status, ends by folder, namespaces, files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status: dict[str, str] = {}
        self.started: set[str] = set()
        self.monitors: dict[Path, asyncio.Future[Exit]] = {}
        self.namespaces: set[str] = set()
        self.files: set[str] = set()
        self.calls: list[tuple[str, ...]] = []
        self.faults: dict[str, HyperError] = {}
        self.ends: dict[str, list[int]] = defaultdict(list)
        self.ignores_term: set[str] = set()
        self.specs: dict[str, spec.Container] = {}
        self.names: dict[str, str] = {}
        self.exec_codes: dict[tuple[str, ...], int] = {}
        self.hold: dict[str, asyncio.Event] = {}
        self.health: dict[str, Healthcheck] = {}
        self.ended: dict[str, asyncio.Event] = {}
        self.abandoned: list[str] = []
        self.lacks_translations = False
        self.recording: set[str] = set()

    async def call(self, *words: str) -> None:
        self.calls.append(words)
        name = self.names.get(words[1], words[1]) if len(words) > 1 else ""
        for key in (words[0], f"{words[0]} {name}"):
            if key in self.hold:
                await self.hold[key].wait()
            if key in self.faults:
                raise self.faults[key]
        await asyncio.sleep(0)

    def named(self, *kinds: str) -> list[str]:
        """The calls, containers by name: ``start a``."""
        return [f"{words[0]} {self.names.get(words[1], words[1])}" for words in self.calls if words[0] in kinds]

    def end(self, container: str, code: int, number: int = 0) -> None:
        """A container's program ends."""
        if self.status.get(container) in ("created", "running", "paused"):
            self.status[container] = "stopped"
        for folder, future in self.monitors.items():
            if folder.name == container and not future.done():
                future.set_result(Exit(code, number))

    def kill_machine(self, pod: str) -> None:
        """QEMU ends, and with it all that stood for the pod's processes."""
        for container, status in list(self.status.items()):
            if status != "stopped" and (container == pod or self.names.get(container, "").startswith("")):
                self.end(container, 255)
        self.status[pod] = "stopped"
        if pod in self.ended:
            self.ended[pod].set()


class Runtime:
    def __init__(self, world: World) -> None:
        self.world = world
        self.root = world.folder

    async def create(self, container: str, bundle: Path, timeout_s: float, *, record: bool = False) -> None:
        await self.world.call("create", container)
        self.world.status[container] = "created"
        if record and self.world.lacks_translations:
            self.world.recording.add(container)
        self.world.ended[container] = asyncio.Event()

    def records(self, container: str) -> bool:
        return container in self.world.recording

    async def start(self, container: str) -> None:
        await self.world.call("start", container)
        if self.world.status.get(container) != "created":
            raise UnavailableError("cannot start a container that is not created")
        self.world.status[container] = "running"
        self.world.started.add(container)
        ends = self.world.ends[self.world.names.get(container, container)]
        if ends:
            code = ends.pop(0)
            if code >= 0:
                self.world.end(container, code)

    async def kill(self, container: str, number: int, *, everyone: bool = False) -> None:
        await self.world.call("kill", container, str(number))
        if self.world.status.get(container) not in ("created", "running"):
            raise MissingError("the container is not running")
        if number == 9 or self.world.names.get(container) not in self.world.ignores_term:
            self.world.end(container, 128 + number, number)

    async def delete(self, container: str) -> None:
        await self.world.call("delete", container)
        self.world.end(container, 137, 9)
        self.world.status.pop(container, None)
        self.world.started.discard(container)

    async def call(self, *arguments: str, timeout_s: float = 0.0, stdin: bytes = b"") -> str:
        await self.world.call(*arguments)
        if arguments[0] in ("pause", "resume"):
            self.world.status[arguments[-1]] = {"pause": "paused", "resume": "running"}[arguments[0]]
        if arguments[:2] == ("factory", "keep"):
            self.world.recording.remove(arguments[2])
            self.world.status[arguments[2]] = "paused"
            self.world.lacks_translations = False
        return ""

    async def output(self, *arguments: str, timeout_s: float = 0.0, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        await self.world.call(*arguments)
        return 0, b"", b""

    async def execute(self, container: str, arguments: tuple[str, ...], timeout_s: float) -> tuple[int, bytes, bytes]:
        await self.world.call("exec", container, *arguments)
        return self.world.exec_codes.get(arguments, 0), b"", b""

    def command(self, *arguments: str) -> list[str]:
        return list(arguments)

    def status(self, container: str) -> str:
        return self.world.status.get(container, "")

    def was_started(self, container: str) -> bool:
        return container in self.world.started

    def pid(self, container: str) -> int:
        return 0

    def machine_size(self, container: str) -> tuple[int, int]:
        return 1, 256

    def known(self) -> list[str]:
        return list(self.world.status)

    def with_abandoned_copies(self) -> list[str]:
        return self.world.abandoned


class Monitors:
    def __init__(self, world: World) -> None:
        self.world = world

    async def create(
        self,
        folder: Path,
        command: list[str],
        *,
        terminal: bool,
        stdin_open: bool,
        stdin_once: bool,
        log: spec.Log,
        log_path: Path | None,
        hold: bool | None,
        timeout_s: float,
    ) -> None:
        await self.world.call("create", command[-1])
        self.world.status[command[-1]] = "created"
        self.world.monitors[folder] = asyncio.get_running_loop().create_future()

    def state(self, folder: Path) -> str:
        if folder not in self.world.monitors:
            return "none"
        return "exited" if self.world.monitors[folder].done() else "running"

    async def wait(self, folder: Path) -> Exit:
        if folder not in self.world.monitors:
            raise MissingError("no monitor")
        return await asyncio.shield(self.world.monitors[folder])

    async def end(self, folder: Path) -> None:
        future = self.world.monitors.pop(folder, None)
        if future is not None and not future.done():
            future.set_result(Exit(137, 9))

    async def attach(self, folder: Path, *, stdin: bool, stdout: bool, stderr: bool, hold: bool) -> Streams:
        raise UnavailableError("not here")

    async def resize(self, folder: Path, rows: int, columns: int) -> None:
        pass


class Networks:
    def __init__(self, world: World) -> None:
        self.world = world

    async def set_up(self, pod: PodRecord) -> tuple[str, dict[str, tuple[str, ...]]]:
        await self.world.call("set_up", pod.id)
        self.world.namespaces.add(pod.id)
        return f"/netns/{pod.id}", self.addresses(pod.id)

    async def attach(self, pod: PodRecord, path: str, interface: spec.Interface) -> Attachment:
        raise UnavailableError("not here")

    async def detach(self, pod: str, network: str) -> None:
        pass

    async def tear_down(self, pod: PodRecord) -> None:
        await self.world.call("tear_down", pod.id)
        self.world.namespaces.discard(pod.id)

    async def restore(self, pods: Sequence[PodRecord]) -> None:
        self.world.namespaces &= {pod.id for pod in pods}

    def addresses(self, pod: str) -> dict[str, tuple[str, ...]]:
        return {"default": ("10.0.0.2/24",)}

    def attachments(self, pod: str) -> tuple[Attachment, ...]:
        return ()


class Preparer:
    def __init__(self, world: World) -> None:
        self.world = world

    async def infra(self, pod: PodRecord, namespace: str) -> Path:
        await self.world.call("infra", pod.id)
        self.world.files.add(pod.id)
        return self.world.folder

    async def trial(self, pod: PodRecord, record: ContainerRecord) -> Path:
        return self.world.folder

    async def looking(self, pod: PodRecord, record: ContainerRecord, helper: str, *, own: bool) -> Path:
        self.world.names[helper] = "helper"
        await self.world.call("looking", record.id, "own" if own else "joins")
        return self.world.folder

    async def forget_look(self, pod: PodRecord, helper: str) -> None:
        await self.world.call("forget_look", helper)

    async def container(self, pod: PodRecord, record: ContainerRecord, container: spec.Container) -> Prepared:
        self.world.names[record.id] = record.name
        await self.world.call("prepare", record.id)
        return Prepared(self.world.folder, f"id-of-{container.image}", container.tty, container.stdin, False, pod.spec.log)

    async def stop_signal(self, record: ContainerRecord, container: spec.Container) -> int:
        return 15

    async def health_check(self, record: ContainerRecord, wanted: spec.Healthcheck) -> Check | None:
        return check_of(wanted, self.world.health.get(record.name))

    async def process(self, pod: PodRecord, record: ContainerRecord, container: spec.Container, wanted: ExecRecord) -> Path:
        return self.world.folder

    async def machine(self, pod: PodRecord, wanted: ExecRecord) -> Path:
        return self.world.folder

    async def forget_container(self, pod: PodRecord, record: ContainerRecord) -> None:
        await self.world.call("forget", record.id)

    async def forget_pod(self, pod: str) -> None:
        self.world.files.discard(pod)

    async def known(self) -> list[str]:
        return list(self.world.files)


def config(folder: Path) -> Config:
    return Config(
        root=str(folder), state=str(folder / "state"), ready_machines=0, restart=Restart(base_s=0.02, limit_s=0.08, reset_s=600.0)
    )


@asynccontextmanager
async def daemon(world: World, settings: Config | None = None) -> AsyncIterator[Manager]:
    """A manager that takes over what ``world`` has, and lets go of it in the end as if it were killed."""
    settings = settings or config(world.folder)
    store = Store(settings.database)
    tools = Tools(settings, store, Runtime(world), Monitors(world), Networks(world), Preparer(world), Bus(store))
    manager = Manager(tools)
    await manager.start()
    try:
        yield manager
    finally:
        await manager.close()


def run(folder: Path, work: Callable[[World], Awaitable[None]]) -> None:
    """Runs a test's coroutine, with a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(WAIT_S):
            await work(World(folder))

    asyncio.run(bounded())


def pod_of(*containers: spec.Container, name: str = "p", **fields: object) -> spec.Pod:
    return msgspec.structs.replace(spec.Pod(name=name, containers=containers), **fields)


def container(name: str = "a", **fields: object) -> spec.Container:
    return msgspec.structs.replace(spec.Container(name=name, image="busybox"), **fields)
