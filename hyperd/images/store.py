"""Where images are kept: blobs by their digest, layers as EROFS images, a record for each image, and the names.

    blobs/HEX           manifests, configurations and layers as they came
    layers/HEX.erofs    an unpacked layer; HEX.json says what it is, and is written after it
    images/HEX.json     what makes up an image; written after its blobs and layers
    names.json          which image a name means
    parts/HEX           a blob that is on its way, and is gone on with
    tmp/                what was begun; emptied at the start
    lock                held by the one daemon that uses the folder

A file is written elsewhere, flushed to the disk and renamed, and what refers to others comes after them, so that a crash at any moment leaves whole
things only, at worst some that nobody refers to: :meth:`Store.sweep` removes them.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from hyperd.errors import ConflictError, MissingError, UnavailableError
from hyperd.images.documents import Descriptor, digest_of

_FOLDERS = ("blobs", "layers", "images", "parts", "tmp")
_Record = TypeVar("_Record", bound=msgspec.Struct)


class LayerRecord(msgspec.Struct, frozen=True):
    """An unpacked layer. ``dependent``: it is right on the layers of ``chain_id`` only. ``size``: bytes on the disk."""

    diff_id: str
    chain_id: str
    dependent: bool
    size: int


class ImageRecord(msgspec.Struct, frozen=True):
    """An image. ``layers``: the keys of the layers, bottom first; where there are fewer than ``diff_ids`` the first
    stands for all those before the others. ``digests``: ``repository@digest`` under which it was pulled or pushed."""

    id: str
    manifest: Descriptor
    blobs: list[Descriptor]
    diff_ids: list[str]
    layers: list[str]
    sizes: list[int]
    digests: list[str]
    passwd: bytes
    group: bytes


class Store:
    """The folder. Methods raise :class:`UnavailableError` where the file system refuses."""

    def __init__(self, root: Path) -> None:
        """:raise ConflictError: another process uses it"""
        self.root = root = root.absolute()
        with _failing(f"use {root}"):
            for name in _FOLDERS:
                (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise ConflictError(f"cannot use {root}: another hyperd does") from error
        self._empty_temporary()
        self._names = self._load_names()
        self._images = {record.id: record for record in self._load_images()}

    def close(self) -> None:
        os.close(self._lock)

    def _empty_temporary(self) -> None:
        with _failing(f"clean {self.root / 'tmp'}"):
            for path in (self.root / "tmp").iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    # Files

    def temporary(self) -> Path:
        """A name for a file that does not exist yet."""
        return self.root / "tmp" / secrets.token_hex(8)

    def blob(self, digest: str) -> Path:
        return self.root / "blobs" / hex_of(digest)

    def part(self, digest: str) -> Path:
        return self.root / "parts" / hex_of(digest)

    def layer(self, key: str) -> Path:
        return self.root / "layers" / f"{hex_of(key)}.erofs"

    def has_blob(self, digest: str) -> bool:
        return self.blob(digest).exists()

    def read_blob(self, digest: str) -> bytes:
        """:raise MissingError: it is not here"""
        try:
            return self.blob(digest).read_bytes()
        except FileNotFoundError as error:
            raise MissingError(f"blob {digest} is not here", hint="pull the image again") from error

    def write_blob(self, data: bytes) -> str:
        """Keeps a document. Returns its digest."""
        digest = digest_of(data)
        if not self.has_blob(digest):
            self._write(self.blob(digest), data)
        return digest

    def adopt_blob(self, path: Path, digest: str) -> None:
        """``path``, which is complete, checked and flushed, becomes the blob."""
        with _failing(f"keep blob {digest}"):
            self._rename(path, self.blob(digest))

    def adopt_layer(self, path: Path, record: LayerRecord) -> str:
        """``path``, complete and flushed, becomes the layer. Returns its key."""
        key = record.chain_id if record.dependent else record.diff_id
        with _failing(f"keep layer {key}"):
            self._rename(path, self.layer(key))
        self._write(self.layer(key).with_suffix(".json"), msgspec.json.encode(record))
        return key

    def renew_layer(self, key: str) -> None:
        """It is as good as new: an image that is being made needs it."""
        with _failing(f"use layer {key}"):
            for path in (self.layer(key), self.layer(key).with_suffix(".json")):
                os.utime(path)

    def find_layer(self, diff_id: str, chain_id: str) -> tuple[str, LayerRecord] | None:
        """The layer as it is on that chain, if it was unpacked."""
        for key in (diff_id, chain_id):
            record = self._read(self.layer(key).with_suffix(".json"), LayerRecord)
            fits = (
                record is not None
                and record.diff_id == diff_id
                and (not record.dependent or record.chain_id == chain_id)
            )
            if record is not None and fits and self.layer(key).exists():
                return key, record
        return None

    # Images and names

    def images(self) -> list[ImageRecord]:
        return list(self._images.values())

    def image(self, id_: str) -> ImageRecord | None:
        return self._images.get(id_)

    def put_image(self, record: ImageRecord) -> None:
        self._write(self._image_path(record.id), msgspec.json.encode(record))
        self._images[record.id] = record

    def drop_image(self, id_: str) -> None:
        """Its names go first."""
        self.set_names({name: other for name, other in self._names.items() if other != id_})
        with _failing(f"remove image {id_}"):
            self._image_path(id_).unlink(missing_ok=True)
        self._images.pop(id_, None)

    def names(self) -> dict[str, str]:
        """The images' ids by their names."""
        return dict(self._names)

    def set_names(self, names: dict[str, str]) -> None:
        if names != self._names:
            self._write(self.root / "names.json", msgspec.json.encode(names))
            self._names = dict(names)

    def _image_path(self, id_: str) -> Path:
        return self.root / "images" / f"{hex_of(id_)}.json"

    def _load_images(self) -> Iterator[ImageRecord]:
        for path in sorted((self.root / "images").glob("*.json")):
            record = self._read(path, ImageRecord)
            if record is not None:
                yield record

    def _load_names(self) -> dict[str, str]:
        path = self.root / "names.json"
        with _failing(f"read {path}"):
            try:
                return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
            except FileNotFoundError:
                return {}
            except msgspec.DecodeError as error:
                raise UnavailableError(f"cannot read {path}: {error}") from error

    # What nobody refers to

    def sweep(self, keep: Iterable[str], *, before: float | None = None) -> int:
        """Removes blobs, layers and parts that no image refers to, but none of the digests in ``keep``, and only what was written
        ``before`` that time. Returns the bytes that this freed.
        """
        wanted = {hex_of(digest) for digest in keep}
        for record in self._images.values():
            wanted.update(map(hex_of, parts_of(record)))
        freed = 0
        with _failing(f"clean {self.root}"):
            for folder in ("layers", "blobs", "parts"):
                # The record of a layer goes before the layer.
                for path in sorted((self.root / folder).iterdir(), key=lambda path: path.suffix != ".json"):
                    status = path.stat()
                    if path.name.partition(".")[0] not in wanted and (before is None or status.st_mtime < before):
                        freed += status.st_blocks * 512
                        path.unlink()
        return freed

    # Writing

    def _read(self, path: Path, type_: type[_Record]) -> _Record | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=type_)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise UnavailableError(f"cannot read {path}: {error}") from error

    def _write(self, path: Path, data: bytes) -> None:
        temporary = self.temporary()
        with _failing(f"write {path}"), _removed_on_error(temporary):
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._rename(temporary, path)

    def _rename(self, path: Path, target: Path) -> None:
        path.rename(target)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def parts_of(record: ImageRecord) -> list[str]:
    """What an image needs of the store: digests of blobs and keys of layers."""
    return [record.manifest.digest, *(each.digest for each in record.blobs), *record.layers]


def hex_of(digest: str) -> str:
    """The part of a digest that names files; digests were checked where they came in."""
    return digest.partition(":")[2]


@contextlib.contextmanager
def _removed_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"cannot {what}: {error.strerror}") from error
