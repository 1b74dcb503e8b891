"""What a container changed, as a layer: a tar of its upper directory becomes one of OCI's, and a configuration goes with it."""

import contextlib
import datetime
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hyperd.errors import InvalidError
from hyperd.images import tar
from hyperd.images.lower import OPAQUE
from hyperd.images.paths import parts_of
from hyperd.images.tasks import in_thread

_KNOWN = (
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "OnBuild",
    "Shell",
)
# Of Docker's, about the container that an image was made of.
_OF_ANOTHER = ("id", "parent", "container", "container_config", "docker_version", "throwaway")


class AsyncReader(Protocol):
    """What a tar comes from: at most ``size`` bytes, none at the end."""

    async def read(self, size: int, /) -> bytes: ...


class Layer(NamedTuple):
    """``size`` bytes of gzip with the digest ``digest``."""

    diff_id: str
    digest: str
    size: int


async def spool(reader: AsyncReader, path: Path, bytes_max: int) -> None:
    """Writes all of it to a file.

    :raise InvalidError: it is larger than ``bytes_max``
    """
    with path.open("xb") as file:
        while data := await reader.read(tar.CHUNK):
            await in_thread(file.write, data)
            if file.tell() > bytes_max:
                raise InvalidError(f"what the container changed is larger than {bytes_max} bytes")


class _Packer:
    """Packs what is written with gzip, and hashes both."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self._packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        self._plain, self._packed = hashlib.sha256(), hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> int:
        self._plain.update(data)
        self._out(self._packer.compress(data))
        return len(data)

    def _out(self, data: bytes) -> None:
        self._packed.update(data)
        self._size += len(data)
        self._file.write(data)

    def end(self) -> Layer:
        self._out(self._packer.flush())
        self._file.flush()
        return Layer(f"sha256:{self._plain.hexdigest()}", f"sha256:{self._packed.hexdigest()}", self._size)


def pack(source: Path, target: Path) -> Layer:
    """A tar file with gzip.

    :raise OSError: as the file system does
    """
    with source.open("rb") as plain, target.open("xb") as file:
        packer = _Packer(file)
        while data := plain.read(tar.CHUNK):
            packer.write(data)
        layer = packer.end()
        _settle(file)
        return layer


def pack_changes(source: Path, target: Path) -> Layer:
    """The tar of an upper directory as a layer: whiteouts and opaque directories as OCI has them. A tar that has them so already stays so.

    :raise TarError: it is damaged
    :raise OSError: as the file system does
    """
    with source.open("rb") as plain, target.open("xb") as file:
        packer = _Packer(file)
        reader = tar.Reader(plain)
        with tarfile.open(fileobj=_Stream(packer), mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for entry in reader:
                _add(archive, entry, reader)
        layer = packer.end()
        _settle(file)
        return layer


def _settle(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())


class _Stream(io.RawIOBase):
    """What tarfile writes to."""

    def __init__(self, packer: _Packer) -> None:
        self._packer = packer

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return self._packer.write(bytes(data))


class _Data:
    """A row of pieces, read as a file is."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        found = bytearray()
        while len(found) < size:
            if not self._rest:
                self._rest = next(self._pieces, memoryview(b""))
                if not self._rest:
                    break
            piece = self._rest[: size - len(found)]
            self._rest = self._rest[len(piece) :]
            found += piece
        return bytes(found)


class _File(io.RawIOBase):
    """The contents of an entry, as tarfile reads them."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._data = _Data(pieces)

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(size)


def _filled(entry: tar.Entry, data: Iterator[memoryview]) -> Iterator[memoryview]:
    if entry.segments is None:
        yield from data
        return
    at, stored = 0, _Data(data)
    for offset, length in [*entry.segments, (entry.size, 0)]:
        for start in range(at, offset, tar.CHUNK):
            yield memoryview(bytes(min(tar.CHUNK, offset - start)))
        for start in range(0, length, tar.CHUNK):
            yield memoryview(stored.read(min(tar.CHUNK, length - start)))
        at = offset + length


def _add(archive: tarfile.TarFile, entry: tar.Entry, reader: tar.Reader) -> None:
    parts = parts_of(entry.name)
    if entry.kind == tar.CHAR and entry.device == (0, 0) and parts:
        _add_mark(archive, [*parts[:-1], b".wh." + parts[-1]], entry)
        return
    info = tarfile.TarInfo("/".join(_text(part) for part in parts) or "./")
    info.type, info.mode, info.uid, info.gid = entry.kind, entry.mode, entry.uid, entry.gid
    info.mtime = entry.mtime_ns // 1_000_000_000
    info.size, info.linkname = entry.size, _text(entry.target)
    info.devmajor, info.devminor = entry.device
    kept = [
        (name, value) for name, value in entry.xattrs if not name.startswith((b"trusted.overlay.", b"user.overlay."))
    ]
    info.pax_headers = {f"SCHILY.xattr.{_text(name)}": _text(value) for name, value in kept}
    archive.addfile(info, _File(_filled(entry, reader.data())) if entry.kind == tar.FILE else None)
    if (OPAQUE, b"y") in entry.xattrs:
        _add_mark(archive, [*parts, b".wh..wh..opq"], entry)


def _add_mark(archive: tarfile.TarFile, parts: list[bytes], entry: tar.Entry) -> None:
    info = tarfile.TarInfo("/".join(map(_text, parts)))
    info.mtime = entry.mtime_ns // 1_000_000_000
    archive.addfile(info)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def configuration(parent: bytes, diff_id: str, changes: Mapping[str, Any], *, message: str, author: str) -> bytes:
    """The parent's configuration with one more layer. ``changes``: fields of its ``config`` as Docker names them; null takes one away.

    :raise InvalidError: a field is not known
    """
    unknown = [key for key in changes if key not in _KNOWN]
    if unknown:
        raise InvalidError(f"an image's configuration has no {unknown[0]!r}", hint=f"it has {', '.join(_KNOWN)}")
    found = {key: value for key, value in json.loads(parent).items() if key not in _OF_ANOTHER}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    found["created"] = now
    if author:
        found["author"] = author
    config = (found.get("config") or {}) | dict(changes)
    found["config"] = {key: value for key, value in config.items() if value is not None}
    found["rootfs"] = {**found["rootfs"], "diff_ids": [*found["rootfs"]["diff_ids"], diff_id]}
    step = {"created": now, "created_by": "hyperctl commit", "author": author, "comment": message}
    found["history"] = [*(found.get("history") or []), {key: value for key, value in step.items() if value}]
    return json.dumps(found, separators=(",", ":")).encode()


def manifest(parent: bytes, config: bytes, layer: Layer, media_type: str) -> bytes:
    """The parent's manifest with one more layer and another configuration."""
    found = json.loads(parent)
    found["config"].update(digest=f"sha256:{hashlib.sha256(config).hexdigest()}", size=len(config))
    found["layers"] = [*found["layers"], {"mediaType": media_type, "digest": layer.digest, "size": layer.size}]
    for key in ("annotations", "subject"):
        with contextlib.suppress(KeyError):
            del found[key]
    return json.dumps(found, separators=(",", ":")).encode()
