"""Finds the image that a name means in its registry or a mirror of it, and brings what it is made of."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple, TypeVar

from hyperd.errors import DeniedError, InvalidError, MissingError, UnavailableError
from hyperd.images.client import Client
from hyperd.images.credentials import Credentials, Keyring
from hyperd.images.documents import (
    ACCEPTED,
    DOCUMENT_MAX,
    Configuration,
    Descriptor,
    Index,
    Manifest,
    Platform,
    decode_configuration,
    decode_manifest,
    digest_of,
)
from hyperd.images.endpoints import endpoints
from hyperd.images.layers import Packed
from hyperd.images.platforms import choose
from hyperd.images.progress import Report
from hyperd.images.references import Reference
from hyperd.images.settings import ImageSettings
from hyperd.images.store import Store
from hyperd.images.transfer import Downloads, pull_scope

_LOG = logging.getLogger(__name__)
_NESTED_MAX = 3
_Result = TypeVar("_Result")


class Resolved(NamedTuple):
    """``digest``: of what the name means, which may be an index; ``manifest``: of the image for this platform."""

    digest: str
    manifest: bytes
    decoded: Manifest


class Registry:
    """The registry of one reference, with its mirrors before it."""

    def __init__(self, reference: Reference, clients: list[Client]) -> None:
        self._reference = reference
        self._clients = clients

    @property
    def origin(self) -> Client:
        return self._clients[-1]

    async def anywhere(self, work: Callable[[Client], Awaitable[_Result]]) -> _Result:
        """Does it with the first that can. The registry's own error is the one that counts."""
        for client in self._clients[:-1]:
            try:
                return await work(client)
            except (UnavailableError, MissingError, DeniedError) as error:
                _LOG.info("a mirror is passed over: %s", error.message)
        return await work(self.origin)

    async def resolve(self, platform: Platform) -> Resolved:
        """:raise HyperError: there is none for this platform, or it is not what it should be"""
        repository = self._reference.path
        data, kind = await self.anywhere(lambda client: _manifest(client, repository, self._reference.target))
        digest = digest_of(data)
        decoded = decode_manifest(data, kind)
        for _ in range(_NESTED_MAX):
            if isinstance(decoded, Index):
                chosen = choose(decoded, platform)
                data, kind = await self._chosen(repository, chosen)
                decoded = decode_manifest(data, kind)
        if isinstance(decoded, Index):
            raise InvalidError(f"{self._reference} is an index of indexes")
        return Resolved(digest, data, decoded)

    async def _chosen(self, repository: str, chosen: Descriptor) -> tuple[bytes, str]:
        data, kind = await self.anywhere(lambda client: _manifest(client, repository, chosen.digest))
        return data, kind or chosen.media_type


@contextlib.asynccontextmanager
async def registry(
    reference: Reference, credentials: Credentials | None, keyring: Keyring, settings: ImageSettings
) -> AsyncIterator[Registry]:
    """Opens what a reference is pulled from. ``credentials``: for the registry itself, else the keyring's."""
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for endpoint in endpoints(reference.host, settings):
            if endpoint.namespace:
                known = await keyring.find(endpoint.host, reference.path)
            else:
                known = credentials or await keyring.find(reference.host, reference.path)
            clients.append(await stack.enter_async_context(Client(endpoint, known, settings)))
        yield Registry(reference, clients)


async def _manifest(client: Client, repository: str, target: str) -> tuple[bytes, str]:
    """A manifest or an index, by a tag or a digest, and what the registry calls it."""

    async def work() -> tuple[bytes, str]:
        headers = {"Accept": ", ".join([*ACCEPTED, "*/*;q=0.1"])}
        async with client.request(
            "GET", f"{repository}/manifests/{target}", scope=pull_scope(repository), headers=headers
        ) as response:
            await client.expect(response, 200, what=f"{repository}:{target}")
            data = await client.read(response, DOCUMENT_MAX)
            said = response.headers.get("Docker-Content-Digest", "")
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        digest = digest_of(data)
        wanted = target if ":" in target else said if said.startswith("sha256:") else digest
        if digest != wanted:
            raise UnavailableError(
                f"{client.name} sends another manifest for {repository} than {wanted}: theirs has the digest {digest}"
            )
        return data, kind

    return await client.trying(work, what=f"getting the manifest of {repository}")


class Content:
    """What the blobs of an image are brought with."""

    def __init__(self, registry: Registry, repository: str, downloads: Downloads, store: Store, report: Report) -> None:
        self._registry = registry
        self._repository = repository
        self._downloads = downloads
        self._store = store
        self._report = report

    async def bring(self, blob: Descriptor) -> None:
        """:raise HyperError: it does not come, or is something else"""
        if self._store.has_blob(blob.digest):
            return
        await self._registry.anywhere(
            lambda client: self._downloads.blob(client, self._repository, blob.digest, blob.size, self._report)
        )

    async def configuration(self, manifest: Manifest) -> tuple[bytes, Configuration]:
        """:raise HyperError: as above, or it cannot be used"""
        if manifest.config.size > DOCUMENT_MAX:
            raise InvalidError(f"the configuration of the image has {manifest.config.size} bytes")
        await self.bring(manifest.config)
        data = self._store.read_blob(manifest.config.digest)
        return data, decode_configuration(data)

    def layer(self, blob: Descriptor) -> "RemoteLayer":
        return RemoteLayer(self, self._store, blob)


class RemoteLayer:
    """A layer that is brought when it is wanted."""

    def __init__(self, content: Content, store: Store, blob: Descriptor) -> None:
        self._content = content
        self._store = store
        self._blob = blob

    @property
    def digest(self) -> str:
        return self._blob.digest

    async def fetch(self) -> Packed:
        await self._content.bring(self._blob)
        return Packed(str(self._store.blob(self.digest)), 0, self._blob.size, kept=True)


async def try_login(host: str, credentials: Credentials, settings: ImageSettings) -> None:
    """Whether the registry lets us in.

    :raise HyperError: it does not, or cannot be asked
    """
    async with Client(endpoints(host, settings)[-1], credentials, settings) as client:

        async def work() -> None:
            async with client.request("GET", "", scope="") as response:
                await client.expect(response, 200, what="its start")

        await client.trying(work, what=f"logging in to {host}")
