"""Archives of images: what ``docker save``, skopeo and podman write, and OCI's layouts, in a tar file or a folder."""

import io
import os
import select
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from hyperd.errors import InvalidError, UnavailableError
from hyperd.images import tar
from hyperd.images.compression import kind_of, plain
from hyperd.images.documents import (
    DOCUMENT_MAX,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Configuration,
    Descriptor,
    Index,
    Manifest,
    Platform,
    decode_configuration,
    decode_index,
    decode_manifest,
    digest_of,
)
from hyperd.images.layers import Packed
from hyperd.images.platforms import choose
from hyperd.images.references import Reference, parse
from hyperd.images.store import Store, hex_of
from hyperd.images.tasks import in_thread

_LAYOUT_VERSION = "1.0.0"
_REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_MEMBERS_MAX = 100_000
_LINKS_MAX = 16
_NESTED_MAX = 3


class _Member(NamedTuple):
    """Where a file of an archive is. ``target``: it is a link to another."""

    offset: int
    size: int
    target: str


class _DockerImage(msgspec.Struct, frozen=True, rename="pascal"):
    """An entry of manifest.json."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


class Found(NamedTuple):
    """An image of an archive. ``manifest`` empty: the archive has none, one has to be made of the layers."""

    names: list[Reference]
    manifest: bytes
    config: bytes
    configuration: Configuration
    layers: list["ArchiveLayer"]


class ArchiveLayer(NamedTuple):
    """A layer within an archive; ``digest`` may be empty."""

    packed: Packed
    digest: str

    async def fetch(self) -> Packed:
        return self.packed


class Archive:
    """Files by their names, in a tar or a folder. ``path`` must stay what it is while it is used."""

    def __init__(self, path: str, members: dict[str, _Member] | None) -> None:
        self._path = path
        self._members = members

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def read(self, name: str, limit: int = DOCUMENT_MAX) -> bytes:
        """:raise InvalidError: it is not there, or too large"""
        packed = self.locate(name)
        if packed.size > limit:
            raise InvalidError(f"{name} in the archive has {packed.size} bytes; at most {limit} are taken")
        with open(packed.path, "rb") as file:
            return os.pread(file.fileno(), packed.size, packed.offset)

    def locate(self, name: str) -> Packed:
        """:raise InvalidError: it is not there"""
        found = self._find(name)
        if found is None:
            raise InvalidError(f"the archive has no {name[:200]!r}")
        return found

    def _find(self, name: str) -> Packed | None:
        if self._members is None:
            return self._find_file(name)
        for _ in range(_LINKS_MAX):
            member = self._members.get(os.path.normpath(name))
            if member is None:
                return None
            if not member.target:
                return Packed(self._path, member.offset, member.size, kept=False)
            name = member.target
        raise InvalidError(f"{name[:200]!r} in the archive is a link in a circle")

    def _find_file(self, name: str) -> Packed | None:
        path = os.path.join(self._path, name)
        if os.path.isabs(name) or ".." in name.split("/"):
            raise InvalidError(f"{name[:200]!r} is no name of a file of the layout")
        try:
            status = os.lstat(path)
        except OSError:
            return None
        return Packed(path, 0, status.st_size, kept=False) if stat.S_ISREG(status.st_mode) else None


class _Skipping:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, 64 << 10), self._at)
        self._at += len(data)
        return data

    def skip(self, size: int) -> None:
        self._at += size


async def open_archive(source: Path | int, spool: Path, bytes_max: int, stall_timeout_s: float) -> Archive:
    """The archive. A packed one is unpacked to ``spool`` first, and so is one that cannot be read at will.

    :raise InvalidError: it is none
    :raise UnavailableError: it cannot be read, or stands still
    """
    if isinstance(source, Path) and source.is_dir():
        return Archive(str(source), None)
    try:
        return await in_thread(_open_file, source, spool, bytes_max, stall_timeout_s)
    except OSError as error:
        name = source if isinstance(source, Path) else "the archive"
        raise UnavailableError(f"cannot read {name}: {error.strerror}") from error


def _open_file(source: Path | int, spool: Path, bytes_max: int, stall_timeout_s: float) -> Archive:
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC) if isinstance(source, Path) else source
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        if regular and not kind_of(os.pread(fd, 6, 0)):
            path = str(source) if isinstance(source, Path) else f"/proc/{os.getpid()}/fd/{fd}"
            return Archive(path, _members(fd))
        if regular and isinstance(source, int):
            os.lseek(fd, 0, os.SEEK_SET)
        return _spooled(_Raw(fd, stall_timeout_s), spool, bytes_max)
    finally:
        if isinstance(source, Path):
            os.close(fd)


def _spooled(packed: "_Raw", spool: Path, bytes_max: int) -> Archive:
    inner, _ = plain(packed)
    with spool.open("x+b") as file:
        while data := inner.read(tar.CHUNK):
            file.write(data)
            if file.tell() > bytes_max:
                raise InvalidError(f"the archive is larger than {bytes_max} bytes")
        file.flush()
        return Archive(str(spool), _members(file.fileno()))


class _Raw:
    """What comes through a descriptor: of a file, a pipe or a socket."""

    def __init__(self, fd: int, stall_timeout_s: float) -> None:
        self._fd = fd
        self._timeout_ms = stall_timeout_s * 1000
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def read(self, size: int, /) -> bytes:
        if not self._poll.poll(self._timeout_ms):
            raise UnavailableError("the archive stands still")
        return os.read(self._fd, size)


def _members(fd: int) -> dict[str, _Member]:
    source = _Skipping(fd)
    reader = tar.Reader(source, source.skip)
    size = os.fstat(fd).st_size
    members: dict[str, _Member] = {}
    for entry in reader:
        name = os.path.normpath(os.fsdecode(entry.name))
        if entry.kind == tar.FILE and entry.segments is None:
            if reader.offset + entry.size > size:
                raise InvalidError(f"the archive ends in the middle of {name[:200]!r}")
            members[name] = _Member(reader.offset, entry.size, "")
        elif entry.kind == tar.SYMLINK:
            members[name] = _Member(0, 0, os.path.join(os.path.dirname(name), os.fsdecode(entry.target)))
        elif entry.kind == tar.LINK:
            members[name] = _Member(0, 0, os.fsdecode(entry.target))
        if len(members) > _MEMBERS_MAX:
            raise InvalidError("the archive has too many files")
    return members


def images_of(archive: Archive, platform: Platform) -> list[Found]:
    """What is in an archive.

    :raise InvalidError: no image, or damaged ones
    """
    if archive.has("oci-layout") and archive.has("index.json"):
        _check_layout(archive)
        found = list(_layout_images(archive, platform))
    elif archive.has("manifest.json"):
        found = list(_docker_images(archive))
    elif archive.has("repositories"):
        raise InvalidError("the archive has images of Docker's first format, which was given up")
    else:
        raise InvalidError("this is no archive of images: it has neither oci-layout nor manifest.json")
    if not found:
        raise InvalidError("the archive has no images")
    return found


def _check_layout(archive: Archive) -> None:
    try:
        version = msgspec.json.decode(archive.read("oci-layout"), type=dict[str, str]).get("imageLayoutVersion")
    except msgspec.DecodeError as error:
        raise InvalidError(f"oci-layout cannot be read: {error}") from error
    if version != _LAYOUT_VERSION:
        raise InvalidError(f"the layout has the version {str(version)[:50]!r}; {_LAYOUT_VERSION} is known")


def _layout_images(archive: Archive, platform: Platform) -> Iterator[Found]:
    merged: dict[str, tuple[Descriptor, list[Reference]]] = {}
    for entry in decode_index(archive.read("index.json")).manifests:
        merged.setdefault(entry.digest, (entry, []))[1].extend(_names_of(entry))
    for entry, names in merged.values():
        if entry.annotations and "vnd.docker.reference.type" in entry.annotations:
            continue
        data = _blob(archive, entry)
        manifest = decode_manifest(data, entry.media_type)
        for _ in range(_NESTED_MAX):
            if isinstance(manifest, Index):
                chosen = choose(manifest, platform)
                data = _blob(archive, chosen)
                manifest = decode_manifest(data, chosen.media_type)
        if isinstance(manifest, Index):
            raise InvalidError("indexes within indexes")
        config = _blob(archive, manifest.config)
        layers = [ArchiveLayer(archive.locate(_blob_name(each.digest)), each.digest) for each in manifest.layers]
        yield Found(list(dict.fromkeys(names)), data, config, decode_configuration(config), layers)


def _names_of(entry: Descriptor) -> list[Reference]:
    annotations = entry.annotations or {}
    name = annotations.get(_CONTAINERD_NAME) or annotations.get(_REF_NAME, "")
    if not name or name == "latest":
        return []
    try:
        return [parse(name)]
    except InvalidError:
        return []  # the annotation may be any text


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def _blob(archive: Archive, descriptor: Descriptor) -> bytes:
    data = archive.read(_blob_name(descriptor.digest))
    if digest_of(data) != descriptor.digest:
        raise InvalidError(f"{descriptor.digest} in the archive has other contents")
    return data


def _docker_images(archive: Archive) -> Iterator[Found]:
    try:
        entries = msgspec.json.decode(archive.read("manifest.json"), type=list[_DockerImage])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidError(f"manifest.json cannot be read: {error}") from error
    for entry in entries:
        config = archive.read(entry.config)
        stem = os.path.basename(entry.config).removesuffix(".json")
        if len(stem) == 64 and digest_of(config) != f"sha256:{stem}":
            raise InvalidError(f"{entry.config[:200]} in the archive has other contents")
        layers = [ArchiveLayer(archive.locate(name), _digest_in(name)) for name in entry.layers]
        yield Found([parse(tag) for tag in entry.repo_tags or []], b"", config, decode_configuration(config), layers)


def _digest_in(name: str) -> str:
    folder, _, stem = name.rpartition("/")
    return f"sha256:{stem}" if folder == "blobs/sha256" else ""


class Saved(NamedTuple):
    """An image that is to be written: its manifest's descriptor and contents."""

    names: Sequence[Reference]
    descriptor: Descriptor
    manifest: Manifest
    diff_ids: Sequence[str]


def write_archive(images: Sequence[Saved], target: Path, store: Store, *, docker: bool) -> None:
    """Writes a tar file that Docker (with ``docker``), containerd, podman and skopeo read. A regular file appears when it is complete.

    :raise UnavailableError: it cannot be written
    """
    special = target.exists() and not target.is_file()
    temporary = target if special else target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file, tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for name, data in _documents(images, docker=docker):
                _add(archive, name, len(data), io.BytesIO(data))
            for digest in dict.fromkeys(each.digest for image in images for each in _blobs(image)):
                with store.blob(digest).open("rb") as blob:
                    _add(archive, _blob_name(digest), os.fstat(blob.fileno()).st_size, blob)
        if not special:
            temporary.rename(target)
    except OSError as error:
        if not special:
            temporary.unlink(missing_ok=True)
        raise UnavailableError(f"cannot write {target}: {error.strerror}") from error


def _blobs(image: Saved) -> list[Descriptor]:
    return [image.descriptor, image.manifest.config, *image.manifest.layers]


def _add(archive: tarfile.TarFile, name: str, size: int, data: io.BufferedIOBase) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    archive.addfile(info, data)


def _documents(images: Sequence[Saved], *, docker: bool) -> Iterator[tuple[str, bytes]]:
    yield "oci-layout", msgspec.json.encode({"imageLayoutVersion": _LAYOUT_VERSION})
    entries = []
    for image in images:
        noted: list[dict[str, str] | None] = [
            {_CONTAINERD_NAME: f"{name.repository}:{name.tag}", _REF_NAME: name.tag} for name in image.names
        ]
        entries += [msgspec.structs.replace(image.descriptor, annotations=notes) for notes in noted or [None]]
    yield "index.json", msgspec.json.encode(Index(media_type=OCI_INDEX, manifests=entries))
    if docker:
        listed = [
            _DockerImage(
                _blob_name(image.manifest.config.digest),
                [_blob_name(each.digest) for each in image.manifest.layers],
                [str(name) for name in image.names] or None,
            )
            for image in images
        ]
        yield "manifest.json", msgspec.json.encode(listed)


def made_manifest(config: bytes, media_types: Sequence[tuple[str, str, int]]) -> bytes:
    """A manifest for layers of (media type, digest, size)."""
    layers = [Descriptor(media_type=kind, digest=digest, size=size) for kind, digest, size in media_types]
    described = Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config))
    return msgspec.json.encode(Manifest(media_type=OCI_MANIFEST, config=described, layers=layers))
