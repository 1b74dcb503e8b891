"""The images that are here: what they are, their names, and what removing them does."""

import contextlib
import re
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from hyperd.errors import ConflictError, InvalidError, MissingError
from hyperd.images.documents import Configuration, ImageConfig, Manifest, Step, decode_configuration, decode_manifest
from hyperd.images.layers import chain_ids
from hyperd.images.references import Reference, parse
from hyperd.images.store import ImageRecord, Store

_HEX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


class Layer(NamedTuple):
    """``path`` of the EROFS image; ``size`` bytes that it takes on the disk. Where layers were joined ``diff_id`` is the id of their chain."""

    diff_id: str
    path: Path
    size: int


class Image(NamedTuple):
    """``id``: the digest of the configuration. ``digests``: ``repository@digest``. ``created``: RFC 3339, or empty. ``layers``: bottom first.

    ``passwd`` and ``group``: /etc/passwd and /etc/group, where users are looked up; at most 1 MiB of each.
    """

    id: str
    names: tuple[str, ...]
    digests: tuple[str, ...]
    created: str
    size: int
    architecture: str
    os: str
    config: ImageConfig
    layers: tuple[Layer, ...]
    passwd: bytes
    group: bytes


class Removed(NamedTuple):
    """Names that went, images that went, and the bytes that this freed."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]
    freed: int


class Catalog:
    """Looks and changes that take no time. One for a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._building: list[tuple[float, set[str]]] = []
        self._configurations: dict[str, Configuration] = {}

    @contextlib.contextmanager
    def building(self) -> Iterator[set[str]]:
        """While an image is made nothing newer than its beginning is swept, and none of the digests that are put into the set."""
        mine = (time.time() - 1, set[str]())
        self._building.append(mine)
        try:
            yield mine[1]
        finally:
            self._building = [each for each in self._building if each is not mine]

    def list(self) -> tuple[Image, ...]:
        """All of them, the newest first."""
        return tuple(sorted(map(self.view, self._store.images()), key=lambda image: image.created, reverse=True))

    def view(self, record: ImageRecord) -> Image:
        configuration = self.configuration(record)
        joined = len(record.diff_ids) - len(record.layers)
        names = [
            *(chain_ids(record.diff_ids)[joined:][:1] if joined else record.diff_ids[:1]),
            *record.diff_ids[joined + 1 :],
        ]
        layers = zip(names, record.layers, record.sizes, strict=True)
        return Image(
            record.id,
            tuple(sorted(shown(name) for name, id_ in self._store.names().items() if id_ == record.id)),
            tuple(record.digests),
            configuration.created or "",
            sum(record.sizes),
            configuration.architecture,
            configuration.os,
            configuration.config or ImageConfig(),
            tuple(Layer(diff_id, self._store.layer(key), size) for diff_id, key, size in layers),
            record.passwd,
            record.group,
        )

    def configuration(self, record: ImageRecord) -> Configuration:
        known = self._configurations.get(record.id)
        if known is None:
            known = self._configurations[record.id] = decode_configuration(self._store.read_blob(record.id))
        return known

    def manifest(self, record: ImageRecord) -> Manifest:
        manifest = decode_manifest(self._store.read_blob(record.manifest.digest), record.manifest.media_type)
        assert isinstance(manifest, Manifest)
        return manifest

    def history(self, name: str) -> tuple[Step, ...]:
        """The newest step first."""
        return tuple(reversed(self.configuration(self.record(name)).history or []))

    def record(self, name: str) -> ImageRecord:
        """By a name, a digest, an id or the beginning of one.

        :raise MissingError: there is none
        :raise InvalidError: the beginning is that of several
        """
        with contextlib.suppress(InvalidError):
            found = self._by_reference(parse(name))
            if found is not None:
                return found
        match = _HEX.fullmatch(name)
        if match:
            ids = [
                each
                for each in self._store.images()
                if each.id.startswith(f"sha256:{match[1]}") or each.manifest.digest == name
            ]
            if len(ids) > 1:
                raise InvalidError(f"{name} is the beginning of the ids of {len(ids)} images")
            if ids:
                return ids[0]
        raise MissingError(f"there is no image {name}", hint=f"`hyperctl images` lists those that there are, `hyperctl pull {name}` gets it")

    def _by_reference(self, reference: Reference) -> ImageRecord | None:
        if reference.digest:
            wanted = f"{reference.repository}@{reference.digest}"
            return next((each for each in self._store.images() if wanted in map(_full, each.digests)), None)
        return self._store.image(self._store.names().get(key_of(reference), ""))

    def tag(self, name: str, reference: str) -> None:
        """:raise InvalidError: the new name has a digest"""
        target = parse(reference)
        if target.digest:
            raise InvalidError(f"{reference} has a digest, which is nobody's to give")
        record = self.record(name)
        self._store.set_names(self._store.names() | {key_of(target): record.id})

    def remove(self, name: str, *, force: bool, in_use: Collection[str]) -> Removed:
        """Takes a name away, and with the last one the image. By its id all names go, several only with ``force``.

        :raise ConflictError: a container uses it, or it has several names. With ``force`` one that is used loses its names, and goes with :meth:`gc`
        """
        record = self.record(name)
        names = [key for key, id_ in self._store.names().items() if id_ == record.id]
        given = self._name_meant(name)
        going = [given] if given in names else names
        last = len(going) == len(names)
        if given not in names and len(names) > 1 and not force:
            raise ConflictError(f"image {name} has {len(names)} names", hint="remove one of them, or all with --force")
        used = record.id in in_use
        if last and used and not force:
            raise ConflictError(f"image {name} is in use", hint="remove its containers first")
        self._store.set_names({key: id_ for key, id_ in self._store.names().items() if key not in going})
        untagged = tuple(map(shown, going))
        if not last or used:
            return Removed(untagged, (), 0)
        self._drop(record.id)
        return Removed(untagged, (record.id,), self.sweep())

    def _name_meant(self, name: str) -> str:
        try:
            reference = parse(name)
        except InvalidError:
            return ""
        return "" if reference.digest else key_of(reference)

    def gc(self, in_use: Collection[str], *, unused: bool = False) -> Removed:
        """Removes images that have no name and that no container uses; with ``unused`` also those with names. And what nobody refers to."""
        named = set(self._store.names().values())
        going = [each.id for each in self._store.images() if each.id not in in_use and (unused or each.id not in named)]
        untagged = tuple(shown(name) for name, id_ in self._store.names().items() if id_ in going)
        for id_ in going:
            self._drop(id_)
        return Removed(untagged, tuple(going), self.sweep())

    def _drop(self, id_: str) -> None:
        self._store.drop_image(id_)
        self._configurations.pop(id_, None)

    def sweep(self) -> int:
        keep = set().union(*(digests for _, digests in self._building))
        return self._store.sweep(keep, before=min((start for start, _ in self._building), default=None))


def key_of(reference: Reference) -> str:
    """A name as it is stored: complete."""
    return f"{reference.repository}:{reference.tag}"


def shown(name: str) -> str:
    """A stored name as people write it."""
    return str(parse(name))


def _full(digest: str) -> str:
    reference = parse(digest)
    return f"{reference.repository}@{reference.digest}"
