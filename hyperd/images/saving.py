"""Writes archives that Docker, containerd, podman and skopeo read."""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from hyperd.errors import UnavailableError
from hyperd.images.contents import CONTAINERD_NAME, LAYOUT_VERSION, REF_NAME, DockerImage, blob_name
from hyperd.images.documents import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor, Index, Manifest, digest_of
from hyperd.images.references import Reference
from hyperd.images.store import Store


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
                    _add(archive, blob_name(digest), os.fstat(blob.fileno()).st_size, blob)
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
    yield "oci-layout", msgspec.json.encode({"imageLayoutVersion": LAYOUT_VERSION})
    entries = []
    for image in images:
        noted: list[dict[str, str] | None] = [
            {CONTAINERD_NAME: f"{name.repository}:{name.tag}", REF_NAME: name.tag} for name in image.names
        ]
        entries += [msgspec.structs.replace(image.descriptor, annotations=notes) for notes in noted or [None]]
    yield "index.json", msgspec.json.encode(Index(media_type=OCI_INDEX, manifests=entries))
    if docker:
        listed = [
            DockerImage(
                blob_name(image.manifest.config.digest),
                [blob_name(each.digest) for each in image.manifest.layers],
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
