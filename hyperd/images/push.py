"""Sends an image to a registry: what it has already is mounted, what it has not is sent in pieces and gone on with after a break."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import aiohttp
from yarl import URL

from hyperd.errors import UnavailableError
from hyperd.images.client import Client, PassingError, Sent
from hyperd.images.documents import Descriptor, digest_of
from hyperd.images.progress import Progress, Report
from hyperd.images.references import Reference
from hyperd.images.settings import ImageSettings
from hyperd.images.store import Store

_PIECE = 64 << 20
_READ = 1 << 20
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


class Upload:
    """To one repository. ``origins``: for digests of blobs, another repository of the registry that has them."""

    def __init__(
        self, client: Client, target: Reference, store: Store, settings: ImageSettings, origins: Mapping[str, str]
    ) -> None:
        self._client = client
        self._target = target
        self._store = store
        self._settings = settings
        self._origins = {digest: path for digest, path in origins.items() if path != target.path}
        own = f"repository:{target.path}:pull,push"
        self._scope = " ".join([own, *sorted({f"repository:{path}:pull" for path in self._origins.values()})])

    async def blobs(self, blobs: Sequence[Descriptor], report: Report) -> None:
        """All of them, several at a time.

        :raise HyperError: the registry takes one not
        """
        slots = asyncio.Semaphore(self._settings.downloads)

        async def one(blob: Descriptor) -> None:
            async with slots:
                await self._client.trying(lambda: self._blob(blob, report), what=f"sending {blob.digest}")
                report(Progress("upload", blob.digest, blob.size, blob.size))

        try:
            async with asyncio.TaskGroup() as group:
                for blob in {each.digest: each for each in blobs}.values():
                    group.create_task(one(blob))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def manifest(self, data: bytes, kind: str) -> str:
        """Comes last: the registry has everything that it names. Returns its digest."""

        async def work() -> None:
            path = f"{self._target.path}/manifests/{self._target.tag}"
            headers = {"Content-Type": kind}
            async with self._client.request("PUT", path, scope=self._scope, headers=headers, body=data) as response:
                await self._client.expect(response, 201, 200, 202, what=f"a place for {self._target}")
                said = response.headers.get("Docker-Content-Digest")
            if said and said != digest_of(data):
                raise UnavailableError(f"{self._client.name} took the manifest for {said}, not {digest_of(data)}")

        await self._client.trying(work, what=f"sending the manifest of {self._target}")
        return digest_of(data)

    async def _blob(self, blob: Descriptor, report: Report) -> None:
        if await self._has(blob):
            return
        location = await self._begin(blob)
        if location is not None:
            await self._send(blob, location, report)

    async def _has(self, blob: Descriptor) -> bool:
        path = f"{self._target.path}/blobs/{blob.digest}"
        async with self._client.request("HEAD", path, scope=self._scope) as response:
            if response.status == 404:
                return False
            await self._client.expect(response, 200, what=f"blob {blob.digest}")
            return True

    async def _begin(self, blob: Descriptor) -> URL | None:
        """Where the blob is to be sent; None: it was mounted from another repository."""
        uploads = f"{self._target.path}/blobs/uploads/"
        origin = self._origins.get(blob.digest)
        if origin is not None:
            query = f"?mount={blob.digest}&from={origin}"
            async with self._client.request("POST", uploads + query, scope=self._scope) as response:
                if response.status == 201:
                    return None
                if response.status == 202:
                    return self._client.location(response)
        async with self._client.request("POST", uploads, scope=self._scope) as response:
            await self._client.expect(response, 202, what=f"a place for {blob.digest} in {self._target.path}")
            return self._client.location(response)

    async def _send(self, blob: Descriptor, location: URL, report: Report) -> None:
        path = self._store.blob(blob.digest)
        at = failures = 0
        while at < blob.size:
            before = at
            try:
                location, at = await self._piece(blob, path, location, at)
                report(Progress("upload", blob.digest, at, blob.size))
            except PassingError as error:
                failures = 1 if at > before else failures + 1
                if failures >= self._settings.attempts:
                    raise
                await self._client.pause(failures, error)
                location, at = await self._status(blob, location)
        finish = location.extend_query(digest=blob.digest)
        async with self._client.request("PUT", finish, scope=self._scope, body=b"") as response:
            await self._client.expect(response, 201, 204, what=f"an end for {blob.digest}")

    async def _piece(self, blob: Descriptor, path: Path, location: URL, at: int) -> tuple[URL, int]:
        end = min(at + _PIECE, blob.size)
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{at}-{end - 1}"}
        body = Sent(end - at, lambda: _read(path, at, end))
        async with self._client.request("PATCH", location, scope=self._scope, headers=headers, body=body) as response:
            if response.status == 416:
                raise PassingError(f"{self._client.name} goes on somewhere else than where we are")
            await self._client.expect(response, 202, 201, 204, what=f"room for {blob.digest}")
            return self._client.location(response), self._got(response, end)

    async def _status(self, blob: Descriptor, location: URL) -> tuple[URL, int]:
        """How much of it the registry has."""
        async with self._client.request("GET", location, scope=self._scope) as response:
            if response.status == 404:
                raise PassingError(f"{self._client.name} has forgotten the upload of {blob.digest}")
            await self._client.expect(response, 204, 202, what=f"the upload of {blob.digest}")
            place = self._client.location(response) if "Location" in response.headers else location
            return place, self._got(response, 0)

    def _got(self, response: aiohttp.ClientResponse, default: int) -> int:
        match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
        if match is None:
            return default
        # A registry that has nothing says 0-0, as if it had one byte.
        return int(match[1]) + 1 if int(match[1]) else 0


async def _read(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        for at in range(start, end, _READ):
            yield await asyncio.to_thread(os.pread, file.fileno(), min(_READ, end - at), at)


def replaced_layers(manifest: bytes, layers: Sequence[Descriptor]) -> bytes:
    """The manifest with other blobs for its layers, and everything else as it is."""
    found = json.loads(manifest)
    for entry, layer in zip(found["layers"], layers, strict=True):
        entry.update(mediaType=layer.media_type, digest=layer.digest, size=layer.size)
    return json.dumps(found, separators=(",", ":")).encode()
