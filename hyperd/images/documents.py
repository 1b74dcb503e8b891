"""The JSON documents of images: descriptors, manifests, indexes and configurations, of OCI and of Docker.

Only what is used is decoded, unknown fields are ignored, and null is as good as absent. The bytes themselves are what is kept and hashed.
"""

import hashlib
from typing import Any, Final

import msgspec

from hyperd.errors import InvalidError
from hyperd.images.references import check_digest

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
ACCEPTED: Final = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)
DOCUMENT_MAX: Final = 8 << 20
_LAYERS_MAX = 1000
_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of an index's entry, or wanted."""

    os: str = ""
    architecture: str = ""
    variant: str | None = None

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """``size`` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    platform: Platform | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Of one image."""

    schema_version: int = 2
    media_type: str | None = None
    config: Descriptor
    layers: list[Descriptor]
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """Of images for several platforms, or of a layout."""

    schema_version: int = 2
    media_type: str | None = None
    manifests: list[Descriptor]


class Healthcheck(msgspec.Struct, frozen=True, rename="pascal"):
    """Times are in nanoseconds, as Docker has them."""

    test: list[str] | None = None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None


class ImageConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """What containers of the image start with."""

    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    env: list[str] | None = None
    working_dir: str | None = None
    user: str | None = None
    exposed_ports: dict[str, Any] | None = None
    volumes: dict[str, Any] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    shell: list[str] | None = None
    healthcheck: Healthcheck | None = None


class RootFs(msgspec.Struct, frozen=True):
    diff_ids: list[str]
    type: str = "layers"


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of an image's history. ``empty_layer``: it made none."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class Configuration(msgspec.Struct, frozen=True):
    """The whole document."""

    rootfs: RootFs
    architecture: str = ""
    os: str = ""
    variant: str | None = None
    created: str | None = None
    author: str | None = None
    config: ImageConfig | None = None
    history: list[Step] | None = None


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def decode_manifest(data: bytes, media_type: str = "") -> Manifest | Index:
    """What a registry or an archive sent as a manifest. ``media_type``: what it was called, where the document does not say.

    :raise InvalidError: it is none that can be run
    """
    found = _decode(data, dict[str, Any], "manifest")
    declared = found.get("mediaType") or media_type.partition(";")[0].strip()
    if declared in _SCHEMA_1 or found.get("schemaVersion") == 1:
        raise InvalidError("the manifest has Docker's schema 1, which registries gave up", hint="push the image anew")
    if "manifests" in found and ("layers" in found or "config" in found):
        raise InvalidError("the manifest is both of an image and of several")
    if "manifests" in found:
        return _checked_index(_decode(data, Index, "index"))
    if "layers" not in found or "config" not in found:
        raise InvalidError(f"the manifest is not of an image ({str(declared)[:100] or 'of no known type'})")
    return _checked_manifest(_decode(data, Manifest, "manifest"))


def decode_index(data: bytes) -> Index:
    """:raise InvalidError: it is no index"""
    return _checked_index(_decode(data, Index, "index"))


def decode_configuration(data: bytes) -> Configuration:
    """:raise InvalidError: it is no configuration of an image"""
    found: Configuration = _decode(data, Configuration, "configuration of the image")
    if found.rootfs.type != "layers":
        raise InvalidError(f"the image's root is of the type {found.rootfs.type[:100]!r}, not of layers")
    if found.os not in ("", "linux"):
        raise InvalidError(f"the image is for {found.os[:100]}; the guests run Linux")
    for digest in found.rootfs.diff_ids:
        check_digest(digest)
    return found


def _decode(data: bytes, type_: "type[msgspec.Struct] | Any", what: str) -> Any:
    if len(data) > DOCUMENT_MAX:
        raise InvalidError(f"the {what} has {len(data)} bytes; at most {DOCUMENT_MAX} are taken")
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidError(f"the {what} cannot be read: {error}") from error


def _checked_index(index: Index) -> Index:
    for each in index.manifests:
        check_digest(each.digest)
    return index


def _checked_manifest(manifest: Manifest) -> Manifest:
    if manifest.config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        raise InvalidError(f"this is no image but an artifact ({manifest.config.media_type[:100]})")
    if len(manifest.layers) > _LAYERS_MAX:
        raise InvalidError(f"the image has {len(manifest.layers)} layers; at most {_LAYERS_MAX} are taken")
    for each in (manifest.config, *manifest.layers):
        check_digest(each.digest)
        if each.size < 0:
            raise InvalidError(f"{each.digest} has a size of {each.size} bytes")
    encrypted = [each for each in manifest.layers if each.media_type.endswith("+encrypted")]
    if encrypted:
        raise InvalidError("the image is encrypted, which is not supported")
    return manifest
