"""Makes images of what is here: their layers unpacked, their records written, their names given."""

import asyncio
from collections.abc import Sequence

import msgspec

from hyperd.errors import UnavailableError
from hyperd.images.catalog import Catalog, Image, key_of
from hyperd.images.changes import pack
from hyperd.images.documents import DOCKER_LAYER, OCI_MANIFEST, Descriptor, Manifest, decode_manifest
from hyperd.images.layers import Layers, Source, Unpacked, chain_ids
from hyperd.images.lower import Stack
from hyperd.images.progress import Report
from hyperd.images.push import replaced_layers
from hyperd.images.references import Reference
from hyperd.images.settings import ImageSettings
from hyperd.images.store import ImageRecord, Store
from hyperd.images.tasks import in_thread

_USERS_MAX = 1 << 20


class Recorder:
    """One for a store. ``changing`` is held while records and names are changed, which is done in threads."""

    def __init__(self, store: Store, catalog: Catalog, settings: ImageSettings) -> None:
        self.changing = asyncio.Lock()
        self._store = store
        self._catalog = catalog
        self._settings = settings
        self._layers = Layers(store, settings)

    async def unpack(
        self, sources: Sequence[Source], diff_ids: Sequence[str], pinned: set[str], report: Report
    ) -> Sequence[Unpacked]:
        """The layers of an image, bottom first. ``pinned``: what is not to be swept meanwhile.

        :raise HyperError: one cannot be fetched, or is not what it should be
        """
        pinned.update(diff_ids, chain_ids(diff_ids))
        return await self._layers.unpack(sources, diff_ids, report)

    async def keep(
        self,
        manifest: bytes,
        config: bytes,
        unpacked: Sequence[Unpacked],
        diff_ids: Sequence[str],
        names: Sequence[Reference],
        digests: Sequence[str],
    ) -> Image:
        """Everything is here: the record makes it an image, the names come last."""
        layers = [(each.key, each.size) for each in unpacked]
        count = len(layers) - self._settings.layers_max + 1
        if count > 1:
            chain = chain_ids(diff_ids)[count - 1]
            layers[:count] = [await self._layers.join([key for key, _ in layers[:count]], chain)]
        async with self.changing:
            return await in_thread(self._record, manifest, config, layers, diff_ids, names, digests)

    def _record(
        self,
        manifest: bytes,
        config: bytes,
        layers: Sequence[tuple[str, int]],
        diff_ids: Sequence[str],
        names: Sequence[Reference],
        digests: Sequence[str],
    ) -> Image:
        decoded = decode_manifest(manifest)
        assert isinstance(decoded, Manifest)
        id_ = self._store.write_blob(config)
        known = self._store.image(id_)
        with Stack(self._layers.paths([key for key, _ in layers])) as stack:
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
            [key for key, _ in layers],
            [size for _, size in layers],
            list(dict.fromkeys([*(known.digests if known else ()), *digests])),
            passwd,
            group,
        )
        self._store.put_image(record)
        self._give(id_, names)
        return self._catalog.view(record)

    async def name(self, id_: str, names: Sequence[Reference]) -> None:
        """Gives names to an image; others that had them lose them."""
        async with self.changing:
            await in_thread(self._give, id_, names)

    def _give(self, id_: str, names: Sequence[Reference]) -> None:
        self._store.set_names(self._store.names() | {key_of(name): id_ for name in names if name.tag})

    async def packed(self, record: ImageRecord) -> ImageRecord:
        """The image with all layers packed: registries and those who pull expect them so. What was not packed is replaced."""
        layers = record.blobs[1:]
        packed = [await self._packed_layer(each) for each in layers]
        if packed == layers:
            return record
        manifest = replaced_layers(self._store.read_blob(record.manifest.digest), packed)
        descriptor = Descriptor(
            media_type=record.manifest.media_type, digest=self._store.write_blob(manifest), size=len(manifest)
        )
        changed = msgspec.structs.replace(record, manifest=descriptor, blobs=[record.blobs[0], *packed])
        await self.change(changed)
        return changed

    async def change(self, record: ImageRecord) -> None:
        """Writes a record that is there already anew."""
        async with self.changing:
            if self._store.image(record.id) is not None:  # else it was removed meanwhile
                await in_thread(self._store.put_image, record)

    async def _packed_layer(self, layer: Descriptor) -> Descriptor:
        if not layer.media_type.endswith(".tar"):
            return layer
        temporary = self._store.temporary()
        try:
            made = await in_thread(pack, self._store.blob(layer.digest), temporary)
            self._store.adopt_blob(temporary, made.digest)
        except OSError as error:
            raise UnavailableError(f"cannot pack layer {layer.digest}: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return Descriptor(media_type=gzip_of(layer.media_type), digest=made.digest, size=made.size)


def gzip_of(media_type: str) -> str:
    """Docker writes it with a point, OCI with a plus."""
    return media_type + (".gzip" if media_type == DOCKER_LAYER else "+gzip")
