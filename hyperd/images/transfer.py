"""Brings blobs from a registry, and goes on where a transfer broke off: also after a restart."""

import asyncio
import hashlib
import os
import re
import time
from typing import BinaryIO

import aiohttp

from hyperd.errors import UnavailableError
from hyperd.images.client import Client, PassingError
from hyperd.images.progress import Progress, Report
from hyperd.images.settings import ImageSettings
from hyperd.images.store import Store
from hyperd.images.tasks import in_thread

_BATCH = 1 << 20
# What has to come in the time that a transfer may stand still.
_LEAST = 16 << 10
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class _Part:
    """A blob as far as it is here, and its hash."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0
        while data := file.read(_BATCH):
            self._hash.update(data)
            self.size += len(data)

    def add(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def settle(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


class Downloads:
    """Brings blobs into a store, each once at a time."""

    def __init__(self, store: Store, settings: ImageSettings) -> None:
        self._store = store
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.downloads)
        self._locks: dict[str, asyncio.Lock] = {}

    async def blob(self, client: Client, repository: str, digest: str, size: int, report: Report) -> None:
        """``repository``: the path of it in the registry.

        :raise UnavailableError: it does not come, or is something else than it was said to be; what came until a break is kept
        :raise MissingError: the registry has no such blob
        """
        lock = self._locks.setdefault(digest, asyncio.Lock())
        try:
            async with lock, self._slots:
                if not self._store.has_blob(digest):
                    await self._bring(client, repository, digest, size, report)
        finally:
            if not lock.locked():
                self._locks.pop(digest, None)

    async def _bring(self, client: Client, repository: str, digest: str, size: int, report: Report) -> None:
        path = self._store.part(digest)
        try:
            file = path.open("r+b" if path.exists() else "x+b")
        except OSError as error:
            raise UnavailableError(f"cannot write {path}: {error.strerror}") from error
        with file:
            part = await in_thread(_Part, file)
            try:
                if part.size > size:
                    part.restart()
                await self._fill(client, repository, digest, size, part, report)
                if part.digest != digest:
                    raise _Wrong(
                        f"{client.name} sends other contents for {digest}: theirs have the digest {part.digest}"
                    )
                await in_thread(part.settle)
            except _Wrong:
                path.unlink(missing_ok=True)
                raise
            except OSError as error:
                raise UnavailableError(f"cannot write {path}: {error.strerror}") from error
        await in_thread(self._store.adopt_blob, path, digest)
        report(Progress("download", digest, size, size))

    async def _fill(self, client: Client, repository: str, digest: str, size: int, part: _Part, report: Report) -> None:
        failures = 0
        while part.size < size:
            before = part.size
            try:
                await self._once(client, repository, digest, size, part, report)
            except PassingError as error:
                failures = 1 if part.size - before >= _LEAST else failures + 1
                if failures >= self._settings.attempts:
                    raise
                await client.pause(failures, error)

    async def _once(self, client: Client, repository: str, digest: str, size: int, part: _Part, report: Report) -> None:
        headers = {"Range": f"bytes={part.size}-"} if part.size else {}
        async with client.request(
            "GET", f"{repository}/blobs/{digest}", scope=pull_scope(repository), headers=headers
        ) as response:
            if response.status == 416 and part.size:
                part.restart()
                raise PassingError(f"{client.name} does not go on with {digest}")
            await client.expect(response, 200, 206, what=f"blob {digest} of {repository}")
            self._check_start(client, response, part)
            length = response.headers.get("Content-Length", "")
            if length.isdigit() and part.size + int(length) != size:
                raise _Wrong(
                    f"{client.name} has {part.size + int(length)} bytes for {digest}, whose manifest says {size}"
                )
            await self._receive(client, response, digest, size, part, report)
        if part.size < size:
            raise PassingError(f"{client.name} ends {digest} after {part.size} of {size} bytes")

    def _check_start(self, client: Client, response: aiohttp.ClientResponse, part: _Part) -> None:
        if response.status == 200:
            part.restart()
            return
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != part.size:
            part.restart()
            raise PassingError(f"{client.name} goes on somewhere else than it was asked to")

    async def _receive(
        self, client: Client, response: aiohttp.ClientResponse, digest: str, size: int, part: _Part, report: Report
    ) -> None:
        pending = bytearray()
        begun, came = time.monotonic(), 0
        try:
            async for piece in response.content.iter_any():
                pending += piece
                came += len(piece)
                if part.size + len(pending) > size:
                    raise _Wrong(f"{client.name} sends more than the {size} bytes of {digest} that its manifest says")
                if len(pending) >= _BATCH:
                    batch, pending = bytes(pending), bytearray()
                    await in_thread(part.add, batch)
                    report(Progress("download", digest, part.size, size))
                if time.monotonic() - begun > self._settings.stall_timeout_s:
                    if came < _LEAST:
                        raise PassingError(f"{client.name} sends {digest} a few bytes at a time")
                    begun, came = time.monotonic(), 0
        finally:
            if pending and part.size + len(pending) <= size:
                part.add(bytes(pending))


class _Wrong(UnavailableError):
    """It is not what it was said to be: nothing to go on with."""


def pull_scope(repository: str) -> str:
    return f"repository:{repository}:pull"
