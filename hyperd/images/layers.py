"""Unpacks the layers of an image, each in a process of its own and several at a time."""

import asyncio
import contextlib
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hyperd.errors import HyperError, InvalidError, MissingError, UnavailableError
from hyperd.images.progress import Progress, Report
from hyperd.images.settings import ImageSettings
from hyperd.images.store import LayerRecord, Store
from hyperd.images.tasks import in_thread, to_its_end

# The process says something every few megabytes.
_SILENCE_MAX_S = 600.0
_END_S = 10.0
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from hyperd.images.worker import main; main()"
_KINDS: dict[str, type[HyperError]] = {
    "invalid": InvalidError,
    "missing": MissingError,
    "unavailable": UnavailableError,
}


class Packed(NamedTuple):
    """A layer as it came: ``size`` bytes of a file. ``kept``: the file is the blob of the store."""

    path: str
    offset: int
    size: int
    kept: bool


class Source(Protocol):
    """A layer that is to be unpacked. ``digest``: of the blob, or empty when that is to be found out."""

    @property
    def digest(self) -> str: ...

    async def fetch(self) -> Packed:
        """Brings it here, whole and checked."""
        ...


class Unpacked(NamedTuple):
    """``key`` of the layer in the store; ``size`` of its image on the disk. The blob, and how it is packed (empty: not)."""

    key: str
    size: int
    digest: str
    blob_size: int
    compression: str


class Layers:
    """Makes layers' images. One for a store."""

    def __init__(self, store: Store, settings: ImageSettings) -> None:
        self._store = store
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.conversions)
        self._locks: dict[str, asyncio.Lock] = {}

    async def unpack(self, sources: Sequence[Source], diff_ids: Sequence[str], report: Report) -> list[Unpacked]:
        """All layers of an image, bottom first. If one fails the others are given up.

        :raise InvalidError: one is not what it should be
        :raise UnavailableError: there is no room, or it could not be fetched
        """
        if len(sources) != len(diff_ids):
            raise InvalidError(f"the image has {len(sources)} layers, but its configuration names {len(diff_ids)}")
        chains = chain_ids(diff_ids)
        tasks: list[asyncio.Task[Unpacked]] = []
        try:
            async with asyncio.TaskGroup() as group:
                for source, diff_id, chain in zip(sources, diff_ids, chains, strict=True):
                    tasks.append(group.create_task(self._one(source, diff_id, chain, tasks[:], report)))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def join(self, keys: Sequence[str], chain: str) -> tuple[str, int]:
        """One layer instead of those of ``chain``: its key and its size on the disk.

        :raise UnavailableError: there is no room
        """
        key = f"sha256:{hashlib.sha256(f'merged {chain}'.encode()).hexdigest()}"
        async with self._locked(key):
            known = self._store.find_layer(key, key)
            if known is not None:
                self._store.renew_layer(key)
                return key, known[1].size
            image = self._store.temporary()
            job = {
                "merge": [str(path) for path in self.paths(keys)],
                "image": str(image),
                "bytes_max": self._settings.layer_bytes_max,
            }
            try:
                result = await self._run(job, _nothing_below, lambda _: None)
                await in_thread(self._store.adopt_layer, image, LayerRecord(key, key, False, result["disk_size"]))
            finally:
                image.unlink(missing_ok=True)
            return key, result["disk_size"]

    async def _one(
        self, source: Source, diff_id: str, chain: str, below: list["asyncio.Task[Unpacked]"], report: Report
    ) -> Unpacked:
        # The same chain has the same layers below it: who waits here cannot wait in a circle.
        async with self._locked(chain):
            packed = await source.fetch()
            known = self._store.find_layer(diff_id, chain)
            if known is not None and source.digest and self._store.has_blob(source.digest):
                report(Progress("done", source.digest, packed.size, packed.size))
                return Unpacked(known[0], known[1].size, source.digest, packed.size, self._compression(source.digest))
            return await self._convert(source, packed, diff_id, chain, below, report)

    def _compression(self, digest: str) -> str:
        from hyperd.images.compression import kind_of

        with self._store.blob(digest).open("rb") as file:
            return kind_of(file.read(6))

    async def _convert(
        self,
        source: Source,
        packed: Packed,
        diff_id: str,
        chain: str,
        below: list["asyncio.Task[Unpacked]"],
        report: Report,
    ) -> Unpacked:
        async def lower() -> list[str]:
            return [str(self._store.layer((await asyncio.shield(task)).key)) for task in below]

        image, blob = self._store.temporary(), None if packed.kept else self._store.temporary()
        job = {
            "source": packed.path,
            "offset": packed.offset,
            "size": packed.size,
            "image": str(image),
            "blob": str(blob) if blob else None,
            "digest": source.digest or None,
            "diff_id": diff_id,
            "entries_max": self._settings.layer_entries_max,
            "bytes_max": self._settings.layer_bytes_max,
        }
        name = source.digest or diff_id
        try:
            result = await self._run(job, lower, lambda done: report(Progress("unpack", name, done, packed.size)))
            record = LayerRecord(diff_id, chain, result["dependent"], result["disk_size"])
            if blob is not None:
                await in_thread(self._store.adopt_blob, blob, result["digest"])
            key = await in_thread(self._store.adopt_layer, image, record)
        finally:
            for path in (image, blob):
                if path is not None:
                    path.unlink(missing_ok=True)
        report(Progress("done", name, packed.size, packed.size))
        return Unpacked(key, record.size, result["digest"], packed.size, result["compression"])

    async def _run(
        self, job: dict[str, Any], lower: Callable[[], Awaitable[list[str]]], report: Callable[[int], None]
    ) -> dict[str, Any]:
        await self._slots.acquire()
        held = True
        try:
            async with _process() as process:
                await _send(process, job)
                while True:
                    message = await _receive(process)
                    if "done" in message:
                        report(message["done"])
                    elif "need" in message:
                        # Those below may be waiting for a slot.
                        self._slots.release()
                        held = False
                        paths = await lower()
                        await self._slots.acquire()
                        held = True
                        await _send(process, paths)
                    elif "error" in message:
                        raise _KINDS.get(message["kind"], UnavailableError)(message["error"])
                    else:
                        result: dict[str, Any] = message["result"]
                        return result
        finally:
            if held:
                self._slots.release()

    @contextlib.asynccontextmanager
    async def _locked(self, key: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._locks.pop(key, None)

    def paths(self, keys: Sequence[str]) -> list[Path]:
        return [self._store.layer(key) for key in keys]


async def _nothing_below() -> list[str]:
    return []


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain id of each layer with those below it, as the image specification has it."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(f"sha256:{hashlib.sha256(f'{chains[-1]} {diff_id}'.encode()).hexdigest()}" if chains else diff_id)
    return chains


@contextlib.asynccontextmanager
async def _process() -> AsyncIterator[asyncio.subprocess.Process]:
    starting = asyncio.create_task(_start())
    try:
        yield await asyncio.shield(starting)
    finally:
        await to_its_end(_end(starting))


async def _end(starting: "asyncio.Task[asyncio.subprocess.Process]") -> None:
    try:
        process = await starting
    except UnavailableError:
        return  # whoever waited for the start was told
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.communicate()
    process._transport.close()  # type: ignore[attr-defined]  # else asyncio does it some time, perhaps after the loop


async def _start() -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-IS", "-c", _START, json.dumps(sys.path)]
    try:
        return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 20)
    except OSError as error:
        raise UnavailableError(f"cannot start the process that unpacks: {error.strerror}") from error


async def _send(process: asyncio.subprocess.Process, message: object) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: what is read next says so
        process.stdin.write(json.dumps(message).encode() + b"\n")
        await process.stdin.drain()


async def _receive(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None and process.stderr is not None
    try:
        async with asyncio.timeout(_SILENCE_MAX_S):
            line = await process.stdout.readline()
    except TimeoutError as error:
        raise UnavailableError(f"the process that unpacks a layer stood still for {_SILENCE_MAX_S:.0f} s") from error
    if not line:
        text = (await process.stderr.read(4096)).decode(errors="replace").strip()
        raise UnavailableError(f"the process that unpacks a layer ended: {text or 'it was killed'}")
    message: dict[str, Any] = json.loads(line)
    return message
