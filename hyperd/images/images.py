"""Images as the rest of the daemon sees them: pulled, loaded, made of containers, pushed, saved, named and removed."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, Self

from hyperd.errors import InvalidError
from hyperd.images import platforms
from hyperd.images.archives import Found, Saved, images_of, made_manifest, open_archive, write_archive
from hyperd.images.catalog import Catalog, Image, Removed, key_of
from hyperd.images.documents import OCI_LAYER, OCI_MANIFEST, Descriptor, Manifest, Step, decode_manifest
from hyperd.images.layers import Layers, Source, Unpacked, chain_ids
from hyperd.images.lower import Stack
from hyperd.images.progress import Report, ignore
from hyperd.images.references import Reference, parse
from hyperd.images.settings import ImageSettings
from hyperd.images.store import ImageRecord, Store

_USERS_MAX = 1 << 20


class Images:
    """All images of a host. Its methods raise errors of :mod:`hyperd.errors` alone, and leave nothing half done when they do."""

    def __init__(self, root: Path, settings: ImageSettings | None = None) -> None:
        """:raise ConflictError: another process uses ``root``"""
        self._settings = settings or ImageSettings()
        self._store = Store(root)
        self._catalog = Catalog(self._store)
        self._layers = Layers(self._store, self._settings)

    def close(self) -> None:
        """Gives the folder free."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        self._catalog.tag(name, reference)

    async def remove(self, name: str, *, force: bool = False, in_use: Collection[str] = ()) -> Removed:
        """Takes a name away, and with the last one the image. ``in_use``: ids of the images that containers have.

        :raise ConflictError: a container uses it, or its id was given and it has several names
        """
        return self._catalog.remove(name, force=force, in_use=in_use)

    async def gc(self, in_use: Collection[str], *, unused: bool = False) -> Removed:
        """Removes images without names that no container uses (``unused``: also those with names), and what no image refers to."""
        return self._catalog.gc(in_use, unused=unused)

    # Archives

    async def load(
        self, source: Path | int, *, name: str | None = None, progress: Report = ignore
    ) -> tuple[Image, ...]:
        """The images of an archive or a layout: of a file, a folder, or a descriptor. ``name`` replaces the name of the only one.

        :raise InvalidError: it is damaged, or is no archive
        """
        given = [parse(name)] if name else []
        archive, temporary = await open_archive(source, self._store, self._settings.layer_bytes_max)
        try:
            found = await asyncio.to_thread(images_of, archive, platforms.own())
            if given and len(found) > 1:
                raise InvalidError(f"the archive has {len(found)} images, which cannot all be called {name}")
            return tuple([await self._load_one(each, given or each.names, progress) for each in found])
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    async def _load_one(self, found: Found, names: Sequence[Reference], report: Report) -> Image:
        with self._catalog.building() as pinned:
            pinned.update(layer.digest for layer in found.layers)
            unpacked = await self._unpack(found.layers, found.configuration.rootfs.diff_ids, pinned, report)
            manifest = found.manifest or made_manifest(found.config, [_layer_media(each) for each in unpacked])
            return self._keep(manifest, found.config, unpacked, found.configuration.rootfs.diff_ids, names, ())

    async def save(self, references: Sequence[str], target: Path, *, kind: Literal["docker", "oci"] = "docker") -> None:
        """Writes images to a tar file, in OCI's layout, and as ``docker`` such that Docker reads it as well."""
        saved = []
        with self._catalog.building():
            for text in references:
                record = self._catalog.record(text)
                names = _names_given(text) if _is_name(text, record, self._store) else []
                saved.append(Saved(names, record.manifest, self._catalog.manifest(record), record.diff_ids))
            await asyncio.to_thread(write_archive, _merged(saved), target, self._store, docker=kind == "docker")

    # What all of them do in the end

    async def _unpack(
        self, sources: Sequence[Source], diff_ids: Sequence[str], pinned: set[str], report: Report
    ) -> Sequence[Unpacked]:
        pinned.update(diff_ids, chain_ids(diff_ids))
        return await self._layers.unpack(sources, diff_ids, report)

    def _keep(
        self,
        manifest: bytes,
        config: bytes,
        unpacked: Sequence[Unpacked],
        diff_ids: Sequence[str],
        names: Sequence[Reference],
        digests: Sequence[str],
    ) -> Image:
        """Everything is here: the record makes it an image, the names come last."""
        decoded = decode_manifest(manifest)
        assert isinstance(decoded, Manifest)
        id_ = self._store.write_blob(config)
        known = self._store.image(id_)
        with Stack(self._layers.paths([each.key for each in unpacked])) as stack:
            passwd, group = (stack.read(path, _USERS_MAX) for path in (b"etc/passwd", b"etc/group"))
        record = ImageRecord(
            id_,
            Descriptor(
                media_type=decoded.media_type or OCI_MANIFEST,
                digest=self._store.write_blob(manifest),
                size=len(manifest),
            ),
            [decoded.config, *decoded.layers],
            list(diff_ids),
            [each.key for each in unpacked],
            [each.size for each in unpacked],
            list(dict.fromkeys([*(known.digests if known else ()), *digests])),
            passwd,
            group,
        )
        self._store.put_image(record)
        self._store.set_names(self._store.names() | {key_of(name): id_ for name in names if name.tag})
        return self._catalog.view(record)


def _layer_media(layer: Unpacked) -> tuple[str, str, int]:
    suffix = f"+{layer.compression}" if layer.compression in ("gzip", "zstd") else ""
    return OCI_LAYER + suffix, layer.digest, layer.blob_size


def _names_given(text: str) -> list[Reference]:
    return [parse(text)]


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
