"""Names of images: ``[host[:port]/]path[:tag][@digest]``, as the distribution specification and Docker have them."""

import re
from typing import NamedTuple

from hyperd.errors import InvalidError

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"
_DOCKER_HUB = ("index.docker.io", "registry-1.docker.io")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-zA-Z=_-]+")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_NAME_MAX = 255


class Reference(NamedTuple):
    """``host`` and ``path`` are complete. ``tag`` or ``digest`` may be empty, not both; with both the digest decides."""

    host: str
    path: str
    tag: str
    digest: str

    @property
    def repository(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def short_repository(self) -> str:
        """As people write it: without what is understood."""
        if self.host != DEFAULT_HOST:
            return self.repository
        return self.path.removeprefix("library/") if self.path.count("/") == 1 else self.path

    @property
    def target(self) -> str:
        """What a registry is asked for."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.short_repository}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Completes and checks a name.

    :raise InvalidError: it is no name of an image
    """
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _bad(text, "the digest is not of the form sha256:...")
    if at:
        check_digest(digest)
    slash, colon = name.rfind("/"), name.rfind(":")
    tag = ""
    if colon > slash:
        name, tag = name[:colon], name[colon + 1 :]
        if not _TAG.fullmatch(tag):
            raise _bad(text, "the tag has characters that tags do not have")
    host, path = _split(name)
    if not _HOST.fullmatch(host):
        raise _bad(text, f"{host!r} is no name of a host")
    if not _PATH.fullmatch(path):
        raise _bad(text, "names are of small letters and digits, with . _ - and / between them")
    if len(host) + len(path) + 1 > _NAME_MAX:
        raise _bad(text, f"it is longer than {_NAME_MAX} characters")
    if re.fullmatch(r"[0-9a-f]{64}", text):
        raise _bad(text, "64 hexadecimal digits are an image's id")
    return Reference(host, path, tag or ("" if digest else DEFAULT_TAG), digest)


def host_of(text: str) -> str:
    """The registry that a user names: a host, perhaps with a port; addresses as Docker writes them are understood.

    :raise InvalidError: it is none
    """
    host = text.partition("://")[2] or text
    host = host.partition("/")[0]
    if not _HOST.fullmatch(host):
        raise InvalidError(f"{text[:300]!r} is no name of a registry")
    return DEFAULT_HOST if host in _DOCKER_HUB else host


def check_digest(digest: str) -> str:
    """The digest, when it is one that can be checked.

    :raise InvalidError: it is not
    """
    if not _SHA256.fullmatch(digest):
        raise InvalidError(f"digest {digest[:100]!r} is not sha256: with 64 small hexadecimal digits")
    return digest


def _split(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        host, path = first, rest
    else:
        host, path = DEFAULT_HOST, name
    if host in _DOCKER_HUB:
        host = DEFAULT_HOST
    if host == DEFAULT_HOST and "/" not in path:
        path = f"library/{path}"
    return host, path


def _bad(text: str, why: str) -> InvalidError:
    return InvalidError(f"{text[:300]!r} is no name of an image: {why}")
