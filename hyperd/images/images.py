"""Images as the rest of the daemon sees them: pulled, loaded, made of containers, pushed, saved, named and removed."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import msgspec

from hyperd.errors import InvalidError, MissingError, UnavailableError
from hyperd.images import platforms
from hyperd.images.archives import open_archive
from hyperd.images.catalog import Catalog, Image, Removed, key_of
from hyperd.images.changes import AsyncReader, configuration, pack_changes, spool
from hyperd.images.changes import manifest as grown
from hyperd.images.client import Client
from hyperd.images.contents import Found, images_of
from hyperd.images.credentials import Credentials, Keyring
from hyperd.images.documents import DOCKER_LAYER, DOCKER_MANIFEST, OCI_LAYER, Step, digest_of
from hyperd.images.endpoints import origin
from hyperd.images.layers import Packed, Unpacked
from hyperd.images.progress import Progress, Report, ignore
from hyperd.images.pull import Content, registry, try_login
from hyperd.images.push import Upload
from hyperd.images.recording import Recorder, gzip_of
from hyperd.images.references import Reference, host_of, parse
from hyperd.images.saving import Saved, made_manifest, write_archive
from hyperd.images.settings import ImageSettings
from hyperd.images.store import ImageRecord, Store, parts_of
from hyperd.images.tasks import in_thread
from hyperd.images.transfer import Downloads
from hyperd.sealing import Seal

Policy = Literal["always", "missing", "never"]


class _Here(NamedTuple):
    """A layer whose blob the store has."""

    store: Store
    digest: str
    size: int

    async def fetch(self) -> Packed:
        return Packed(str(self.store.blob(self.digest)), 0, self.size, kept=True)


class Images:
    """All images of a host. Its methods raise errors of :mod:`hyperd.errors` alone, and leave nothing half done when they do."""

    def __init__(self, root: Path, settings: ImageSettings | None = None, seal: Seal | None = None) -> None:
        """
        :param seal: for the passwords of registries; None: they are kept as Docker keeps them
        :raise ConflictError: another process uses ``root``
        """
        self._settings = settings or ImageSettings()
        self._store = Store(root)
        self._catalog = Catalog(self._store)
        self._recorder = Recorder(self._store, self._catalog, self._settings)
        self._downloads = Downloads(self._store, self._settings)
        self._keyring = Keyring(root / "auth.json", self._settings, seal)

    def close(self) -> None:
        """Gives the folder free."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def seal_credentials(self) -> None:
        """Seals those that were kept in clear.

        :raise UnavailableError: the file cannot be read or written
        """
        self._keyring.seal_up()

    # Looks

    def list(self) -> tuple[Image, ...]:
        """All images, the newest first."""
        return self._catalog.list()

    def find(self, name: str) -> Image:
        """By a name, a digest, an id or the beginning of one.

        :raise MissingError: there is none
        :raise InvalidError: the beginning is that of several
        """
        return self._catalog.view(self._catalog.record(name))

    def history(self, name: str) -> tuple[Step, ...]:
        """How it was made, the newest step first."""
        return self._catalog.history(name)

    # Names and ends

    async def tag(self, name: str, reference: str) -> None:
        """Gives an image one more name; another image that had it loses it."""
        async with self._recorder.changing:
            await in_thread(self._catalog.tag, name, reference)

    async def remove(self, name: str, *, force: bool = False, in_use: Collection[str] = ()) -> Removed:
        """Takes a name away, and with the last one the image. ``in_use``: ids of the images that containers have.

        :raise ConflictError: a container uses it, or its id was given and it has several names
        """
        async with self._recorder.changing:
            return await in_thread(self._catalog.remove, name, force=force, in_use=in_use)

    async def gc(self, in_use: Collection[str], *, unused: bool = False) -> Removed:
        """Removes images without names that no container uses (``unused``: also those with names), and what no image refers to."""
        async with self._recorder.changing:
            return await in_thread(self._catalog.gc, in_use, unused=unused)

    # Registries

    async def pull(
        self,
        reference: str,
        *,
        credentials: Credentials | None = None,
        policy: Policy = "always",
        platform: str | None = None,
        progress: Report = ignore,
    ) -> Image:
        """Brings an image from its registry. ``platform``: ``os/architecture[/variant]``, else the host's.

        :raise MissingError: there is none; with ``policy`` never: it is not here
        :raise DeniedError: the registry does not let us have it
        :raise UnavailableError: the registry does not do its part; what came so far is gone on with the next time
        :raise InvalidError: it is no name, or no image that can be run
        """
        name = parse(reference)
        if policy != "always":
            with contextlib.suppress(MissingError):
                return self.find(reference)
            if policy == "never":
                raise MissingError(f"image {reference} is not here, and is not to be pulled")
        wanted = platforms.parse(platform) if platform else platforms.own()
        progress(Progress("resolve", str(name)))
        async with registry(name, credentials, self._keyring, self._settings) as source:
            resolved = await source.resolve(wanted)
            with self._catalog.building() as pinned:
                pinned.update(each.digest for each in (resolved.decoded.config, *resolved.decoded.layers))
                content = Content(source, name.path, self._downloads, self._store, progress)
                config, decoded = await content.configuration(resolved.decoded)
                layers = [content.layer(each) for each in resolved.decoded.layers]
                unpacked = await self._recorder.unpack(layers, decoded.rootfs.diff_ids, pinned, progress)
                digest = f"{name.repository}@{resolved.digest}"
                return await self._recorder.keep(
                    resolved.manifest, config, unpacked, decoded.rootfs.diff_ids, [name], [digest]
                )

    async def push(
        self,
        reference: str,
        *,
        target: str | None = None,
        credentials: Credentials | None = None,
        progress: Report = ignore,
    ) -> str:
        """Sends an image to the registry that its name, or ``target``, says. Returns the digest of its manifest.

        :raise HyperError: as for ``pull``
        """
        name = parse(target or reference)
        if name.digest:
            raise InvalidError(f"cannot push to {name}: a digest is not a name", hint="push to a tag")
        with self._catalog.building() as pinned:
            pinned.update(parts_of(self._catalog.record(reference)))
            record = await self._recorder.packed(self._catalog.record(reference))
            known = credentials or await self._keyring.find(name.host, name.path)
            async with Client(origin(name.host, self._settings), known, self._settings) as client:
                upload = Upload(client, name, self._store, self._settings, self._origins(name.host))
                await upload.blobs(record.blobs, progress)
                data = self._store.read_blob(record.manifest.digest)
                digest = await upload.manifest(data, record.manifest.media_type)
        digests = list(dict.fromkeys([*record.digests, f"{name.repository}@{digest}"]))
        await self._recorder.change(msgspec.structs.replace(record, digests=digests))
        return digest

    def _origins(self, host: str) -> dict[str, str]:
        """Where in a registry blobs are that we pulled from it, or pushed to it."""
        return {
            blob.digest: other.path
            for record in self._store.images()
            for other in map(parse, record.digests)
            if other.host == host
            for blob in record.blobs
        }

    async def login(self, host: str, username: str, password: str) -> None:
        """Tries the credentials out, and keeps them.

        :raise DeniedError: the registry does not take them
        """
        name, credentials = host_of(host), Credentials(username, password)
        await try_login(name, credentials, self._settings)
        self._keyring.keep(name, credentials)

    def logout(self, host: str) -> bool:
        """Forgets what ``login`` kept. Whether there was anything."""
        return self._keyring.forget(host_of(host))

    # Containers

    async def commit(
        self,
        parent: str,
        changes: AsyncReader,
        *,
        reference: str | None = None,
        config: Mapping[str, Any] | None = None,
        message: str = "",
        author: str = "",
        progress: Report = ignore,
    ) -> Image:
        """A new image: the parent with one more layer. ``changes``: a tar of it, with whiteouts as OCI or as overlayfs has them.
        ``config``: fields of the configuration as Docker names them; None takes one away.

        :raise InvalidError: the tar is damaged, or there is no such field
        """
        names = [parse(reference)] if reference else []
        if names and names[0].digest:
            raise InvalidError(f"cannot commit to {reference}: a digest is not a name")
        record = self._catalog.record(parent)
        raw, packed = self._store.temporary(), self._store.temporary()
        with self._catalog.building() as pinned:
            pinned.update(parts_of(record))
            try:
                await spool(changes, raw, self._settings.layer_bytes_max)
                layer = await in_thread(pack_changes, raw, packed)
                made = configuration(
                    self._store.read_blob(record.id), layer.diff_id, config or {}, message=message, author=author
                )
                self._store.adopt_blob(packed, layer.digest)
            except OSError as error:
                raise UnavailableError(f"cannot write the layer: {error.strerror}") from error
            finally:
                for path in (raw, packed):
                    path.unlink(missing_ok=True)
            diff_ids = [*record.diff_ids, layer.diff_id]
            blobs = [(each.digest, each.size) for each in record.blobs[1:]] + [(layer.digest, layer.size)]
            unpacked = await self._recorder.unpack(
                [_Here(self._store, *each) for each in blobs], diff_ids, pinned, progress
            )
            kind = gzip_of(DOCKER_LAYER if record.manifest.media_type == DOCKER_MANIFEST else OCI_LAYER)
            manifest = grown(self._store.read_blob(record.manifest.digest), made, layer, kind)
            return await self._recorder.keep(manifest, made, unpacked, diff_ids, names, ())

    # Archives

    async def load(
        self, source: Path | int, *, name: str | None = None, references: Sequence[str] = (), progress: Report = ignore
    ) -> tuple[Image, ...]:
        """The images of an archive or a layout: of a file, a folder, or a descriptor. ``references``: of several, those with these names only.
        ``name`` replaces the name of the only one.

        :raise InvalidError: it is damaged, or is no archive
        :raise MissingError: it has no image of one of the names
        """
        given = [parse(name)] if name else []
        spool = self._store.temporary()
        try:
            archive = await open_archive(source, spool, self._settings.layer_bytes_max, self._settings.stall_timeout_s)
            found = await in_thread(images_of, archive, platforms.own())
            if references:
                found = chosen(found, [parse(text) for text in references])
            if given and len(found) > 1:
                raise InvalidError(f"the archive has {len(found)} images, which cannot all be called {name}")
            return tuple([await self._load_one(each, given or each.names, progress) for each in found])
        finally:
            spool.unlink(missing_ok=True)

    async def _load_one(self, found: Found, names: Sequence[Reference], report: Report) -> Image:
        with self._catalog.building() as pinned:
            known = self._store.image(digest_of(found.config))
            if known is not None and not found.manifest:
                # A manifest that a registry knows is better than one that we would make.
                await self._recorder.name(known.id, names)
                return self._catalog.view(known)
            pinned.update(layer.digest for layer in found.layers)
            unpacked = await self._recorder.unpack(found.layers, found.configuration.rootfs.diff_ids, pinned, report)
            manifest = found.manifest or made_manifest(found.config, [_layer_media(each) for each in unpacked])
            return await self._recorder.keep(
                manifest, found.config, unpacked, found.configuration.rootfs.diff_ids, names, ()
            )

    async def save(self, references: Sequence[str], target: Path, *, kind: Literal["docker", "oci"] = "docker") -> None:
        """Writes images to a tar file, in OCI's layout, and as ``docker`` such that Docker reads it as well."""
        saved = []
        with self._catalog.building() as pinned:
            for text in references:
                record = self._catalog.record(text)
                pinned.update(parts_of(record))
                names = [parse(text)] if _is_name(text, record, self._store) else []
                saved.append(Saved(names, record.manifest, self._catalog.manifest(record), record.diff_ids))
            await in_thread(write_archive, _merged(saved), target, self._store, docker=kind == "docker")


def chosen(found: Sequence[Found], wanted: Sequence[Reference]) -> list[Found]:
    """Of an archive's images those of the names that are wanted, with these names alone. Pure.

    :raise MissingError: one is not there
    """
    there = {name for each in found for name in each.names}
    for name in wanted:
        if name not in there:
            raise MissingError(f"the archive has no image {name}", hint=f"it has {', '.join(sorted(map(str, there))) or 'no names'}")
    kept = [each._replace(names=[name for name in each.names if name in wanted]) for each in found]
    return [each for each in kept if each.names]


def _layer_media(layer: Unpacked) -> tuple[str, str, int]:
    suffix = f"+{layer.compression}" if layer.compression in ("gzip", "zstd") else ""
    return OCI_LAYER + suffix, layer.digest, layer.blob_size


def _is_name(text: str, record: ImageRecord, store: Store) -> bool:
    try:
        reference = parse(text)
    except InvalidError:
        return False
    return bool(reference.tag) and store.names().get(key_of(reference)) == record.id


def _merged(saved: Sequence[Saved]) -> list[Saved]:
    """An image that was asked for under several names is written once."""
    merged: dict[str, Saved] = {}
    for each in saved:
        known = merged.get(each.descriptor.digest)
        names = [*(known.names if known else ()), *each.names]
        merged[each.descriptor.digest] = each._replace(names=list(dict.fromkeys(names)))
    return list(merged.values())
