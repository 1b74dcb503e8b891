"""Which of an index's images is for this machine."""

import platform as host

from hyperd.errors import InvalidError, MissingError
from hyperd.images.documents import Descriptor, Index, Platform

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "i686": "386",
}
# Best first. The guests' processors are what QEMU offers: no level above v2 is certain.
_VARIANTS = {"amd64": ("", "v1", "v2"), "arm64": ("", "v8"), "arm": ("v7", "v6", "v5", "")}


def own() -> Platform:
    """The platform of the guests: the host's."""
    machine = host.machine()
    return Platform(os="linux", architecture=_ARCHITECTURES.get(machine, machine))


def parse(text: str) -> Platform:
    """``os/architecture[/variant]``.

    :raise InvalidError: it is not of that form
    """
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(part.isalnum() for part in parts):
        raise InvalidError(f"platform {text[:100]!r} is not of the form os/architecture[/variant]")
    return Platform(os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else None)


def choose(index: Index, wanted: Platform) -> Descriptor:
    """The best entry; nested indexes count where they do not say what they are for.

    :raise MissingError: there is none; it lists those there are
    """
    ranked = sorted(
        (
            (rank, position)
            for position, each in enumerate(index.manifests)
            if (rank := _rank(each, wanted)) is not None
        ),
    )
    if not ranked:
        offered = sorted(
            {str(each.platform) for each in index.manifests if each.platform and not _is_attestation(each)}
        )
        raise MissingError(
            f"the image is not made for {wanted}", hint=f"it is for {', '.join(offered)}" if offered else ""
        )
    return index.manifests[ranked[0][1]]


def _rank(entry: Descriptor, wanted: Platform) -> int | None:
    """0 is best; None does not fit."""
    offered = entry.platform
    if _is_attestation(entry):
        return None
    if offered is None or not offered.architecture:
        return 100
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return None
    variant = offered.variant or ""
    if wanted.variant:
        return 0 if variant == wanted.variant else 1 if not variant else None
    order = _VARIANTS.get(wanted.architecture, ("",))
    return order.index(variant) if variant in order else None


def _is_attestation(entry: Descriptor) -> bool:
    """BuildKit puts what it says about images among them."""
    return bool(entry.annotations and "vnd.docker.reference.type" in entry.annotations) or (
        entry.platform is not None and entry.platform.os == "unknown"
    )
