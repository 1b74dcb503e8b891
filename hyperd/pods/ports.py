"""What the manager of pods needs of its neighbours. They are given to it; tests give it others, to make them fail."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from hyperd import spec
from hyperd.networks import Attachment
from hyperd.pods.health import Check
from hyperd.store import ContainerRecord, ExecRecord, PodRecord


class Exit(NamedTuple):
    """How a process has ended. ``code`` as a shell sees it; ``finished`` in seconds since the epoch."""

    code: int
    signal: int = 0
    oom: bool = False
    finished: float = 0.0


class Runtime(Protocol):
    """Containers and machines, as ``hyperd.pods.runv.Runv`` has them."""

    @property
    def root(self) -> Path: ...
    async def create(self, container: str, bundle: Path, timeout_s: float, *, record: bool = False) -> None: ...
    def records(self, container: str) -> bool: ...
    async def start(self, container: str) -> None: ...
    async def kill(self, container: str, number: int, *, everyone: bool = False) -> None: ...
    async def delete(self, container: str) -> None: ...
    async def call(self, *arguments: str, timeout_s: float = 0.0, stdin: bytes = b"") -> str: ...
    async def output(self, *arguments: str, timeout_s: float = 0.0, stdin: bytes = b"") -> tuple[int, bytes, bytes]: ...
    async def execute(self, container: str, arguments: tuple[str, ...], timeout_s: float) -> tuple[int, bytes, bytes]: ...
    def command(self, *arguments: str) -> list[str]: ...
    def status(self, container: str) -> str: ...
    def was_started(self, container: str) -> bool: ...
    def pid(self, container: str) -> int: ...
    def machine_size(self, container: str) -> tuple[int, int]: ...
    def known(self) -> list[str]: ...
    def with_abandoned_copies(self) -> list[str]: ...


class Streams(Protocol):
    """A connection to a process's streams."""

    async def read(self) -> tuple[int, bytes] | None:
        """Stream (1, 2; 3 for JSON about them) and bytes; None when the process has ended and all was read."""

    async def write(self, data: bytes) -> None: ...
    async def end_input(self) -> None: ...
    async def resize(self, rows: int, columns: int) -> None: ...
    async def close(self) -> None: ...


class Monitors(Protocol):
    """The programs that hold the streams of processes and outlive this one; a folder for each process."""

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
        """Returns when the command has made the process.

        :param log_path: None: there is no log
        :param hold: None: a container. Else a further process, which runs at once; true: its output waits for whoever attaches first

        :raise UnavailableError: it failed, with what it said
        """

    def state(self, folder: Path) -> str:
        """``none``, ``creating``, ``running`` or ``exited``."""

    async def wait(self, folder: Path) -> Exit:
        """Waits for the end of the process, also of one whose monitor was started by an earlier hyperd."""

    async def end(self, folder: Path) -> None:
        """Kills a monitor and the call that it is waiting for; fine when there is none."""

    async def attach(self, folder: Path, *, stdin: bool, stdout: bool, stderr: bool, hold: bool) -> Streams:
        """``hold``: its output waits for a slow reader, instead of being lost to it."""


    async def resize(self, folder: Path, rows: int, columns: int) -> None: ...


class Networks(Protocol):
    """Network namespaces, and what is in them."""

    async def set_up(self, pod: PodRecord) -> tuple[str, dict[str, tuple[str, ...]]]:
        """Makes a pod's namespace, attached to its networks, its ports published. The namespace's path, and addresses by network. Idempotent."""

    async def attach(self, pod: PodRecord, path: str, interface: spec.Interface) -> Attachment:
        """One card more, in a namespace that there is."""

    async def detach(self, pod: str, network: str) -> None:
        """One card less."""

    async def tear_down(self, pod: PodRecord) -> None:
        """Undoes it; fine when there is nothing."""

    async def restore(self, pods: Sequence[PodRecord]) -> None:
        """After a start: makes real what these pods have, removes what is anybody else's."""

    def addresses(self, pod: str) -> dict[str, tuple[str, ...]]:
        """By network."""

    def attachments(self, pod: str) -> tuple[Attachment, ...]:
        """What a pod has of the networks."""


class Prepared(NamedTuple):
    """A bundle that is ready. ``image``: the id of the image that it is made from. ``archive``: a tar of what is put into it before its program runs."""

    bundle: Path
    image: str
    terminal: bool
    stdin_open: bool
    stdin_once: bool
    log: spec.Log
    archive: bytes = b""


class Preparer(Protocol):
    """Makes bundles: images, volumes, disks and files of a pod."""

    async def infra(self, pod: PodRecord, namespace: str) -> Path:
        """The bundle that a pod's machine is made from."""

    async def trial(self, pod: PodRecord, record: ContainerRecord) -> Path:
        """The bundle of a container as pods have them, whose program ends by itself.

        :raise HyperError: it cannot be made
        """

    async def looking(self, pod: PodRecord, record: ContainerRecord, helper: str, *, own: bool) -> Path:
        """The bundle of a container that has the files of another, which does not run, and runs no program. ``own``: in a machine of its own.

        :raise UnavailableError: the files are not there
        """

    async def forget_look(self, pod: PodRecord, helper: str) -> None:
        """Removes that bundle."""

    async def container(self, pod: PodRecord, record: ContainerRecord, container: spec.Container) -> Prepared:
        """The bundle of one container; pulls its image and makes its disk where they are missing.

        :raise HyperError: one of them cannot be had
        """

    async def stop_signal(self, record: ContainerRecord, container: spec.Container) -> int:
        """The number of the signal that asks it to end: the specification's, the image's, or SIGTERM."""

    async def health_check(self, record: ContainerRecord, wanted: spec.Healthcheck) -> Check | None:
        """What is to be run to see whether a container is well: what is asked for, and for the rest what its image says. None: nothing."""

    async def process(self, pod: PodRecord, record: ContainerRecord, container: spec.Container, wanted: ExecRecord) -> Path:
        """The file that says what ``runv exec`` is to run.

        :raise InvalidError: there is no such user, ...
        """

    async def machine(self, pod: PodRecord, wanted: ExecRecord) -> Path:
        """The bundle of a process in the machine, outside of all containers.

        :raise UnavailableError: there is no image with programs for it
        """

    async def forget_container(self, pod: PodRecord, record: ContainerRecord) -> None:
        """Removes the disk, log and files of a container."""

    async def forget_pod(self, pod: str) -> None:
        """Removes all files of a pod."""

    async def known(self) -> list[str]:
        """The pods that have files."""


class LogReader(Protocol):
    """Reads logs: time (RFC 3339), stream and text of lines, oldest first; the text ends with a newline unless it is a part of a line.

    ``since`` and ``until`` are seconds since the epoch.

    ``tail``: how many of the last, -1 for all. ``follow``: also those to come, until ``ended`` is set and all was read.
    """

    def __call__(
        self, path: Path, *, follow: bool, ended: asyncio.Event, since: float, until: float, tail: int, streams: frozenset[str]
    ) -> AsyncIterator[tuple[str, str, str]]: ...
