"""The images of an archive: what ``docker save``, skopeo and podman write, and OCI's layouts."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from hyperd.errors import InvalidError
from hyperd.images.archives import Archive
from hyperd.images.documents import (
    Configuration,
    Descriptor,
    Index,
    Platform,
    decode_configuration,
    decode_index,
    decode_manifest,
    digest_of,
)
from hyperd.images.layers import Packed
from hyperd.images.platforms import choose
from hyperd.images.references import Reference, parse
from hyperd.images.store import hex_of

LAYOUT_VERSION = "1.0.0"
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
_NESTED_MAX = 3


class DockerImage(msgspec.Struct, frozen=True, rename="pascal"):
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
    if version != LAYOUT_VERSION:
        raise InvalidError(f"the layout has the version {str(version)[:50]!r}; {LAYOUT_VERSION} is known")


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
        layers = [ArchiveLayer(archive.locate(blob_name(each.digest)), each.digest) for each in manifest.layers]
        yield Found(list(dict.fromkeys(names)), data, config, decode_configuration(config), layers)


def _names_of(entry: Descriptor) -> list[Reference]:
    annotations = entry.annotations or {}
    name = annotations.get(CONTAINERD_NAME) or annotations.get(REF_NAME, "")
    if not name or name == "latest":
        return []
    try:
        return [parse(name)]
    except InvalidError:
        return []  # the annotation may be any text


def blob_name(digest: str) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def _blob(archive: Archive, descriptor: Descriptor) -> bytes:
    data = archive.read(blob_name(descriptor.digest))
    if digest_of(data) != descriptor.digest:
        raise InvalidError(f"{descriptor.digest} in the archive has other contents")
    return data


def _docker_images(archive: Archive) -> Iterator[Found]:
    try:
        entries = msgspec.json.decode(archive.read("manifest.json"), type=list[DockerImage])
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
