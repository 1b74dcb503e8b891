"""What names, ports, paths and labels may look like: Kubernetes' rules. Each check names the path of what is wrong."""

import ipaddress
import re
from collections.abc import Iterable, Mapping

from hyperd.errors import InvalidError

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_PATH_MAX = 4096


def dns_label(text: str, path: str) -> str:
    """RFC 1123: at most 63 lower case letters, digits and dashes, none of these at the ends."""
    if not _LABEL.fullmatch(text):
        raise InvalidError(
            f"{path}: {text[:80]!r} is not a DNS label", hint="at most 63 lower case letters, digits and '-', which cannot be first or last"
        )
    return text


def dns_subdomain(text: str, path: str) -> str:
    """RFC 1123: labels joined by dots, at most 253 characters."""
    if len(text) > 253 or not _SUBDOMAIN.fullmatch(text):
        raise InvalidError(f"{path}: {text[:80]!r} is not a DNS name", hint="lower case letters, digits, '-' and '.', at most 253")
    return text


def port(number: int, path: str) -> int:
    if not 1 <= number <= 65535:
        raise InvalidError(f"{path}: {number} is not a port", hint="ports are 1 to 65535")
    return number


def port_name(text: str, path: str) -> str:
    """An IANA service name: at most 15 characters, one of them a letter."""
    if not _PORT_NAME.fullmatch(text) or "--" in text:
        raise InvalidError(f"{path}: {text[:80]!r} is not the name of a port", hint="at most 15 lower case letters, digits and '-', one a letter")
    return text


def label_key(text: str, path: str) -> str:
    prefix, slash, name = text.rpartition("/")
    if slash:
        dns_subdomain(prefix, path)
    if not _QUALIFIED.fullmatch(name):
        raise InvalidError(f"{path}: {text[:80]!r} is not a key", hint="[DNS name/]letters, digits, '-', '_' and '.', at most 63")
    return text


def labels(found: Mapping[str, str], path: str) -> None:
    for key, value in found.items():
        label_key(key, path)
        if not _LABEL_VALUE.fullmatch(value):
            raise InvalidError(f"{path}[{key}]: {value[:80]!r} is not the value of a label", hint="letters, digits, '-', '_' and '.', at most 63")


def config_key(text: str, path: str) -> str:
    """A key of a ConfigMap or Secret, which may become the name of a file."""
    if not _CONFIG_KEY.fullmatch(text) or text in (".", "..") or text.startswith(".."):
        raise InvalidError(f"{path}: {text[:80]!r} is not a key", hint="letters, digits, '-', '_' and '.'")
    return text


def variable(text: str, path: str) -> str:
    """The name of an environment variable: anything that is printable but ``=``."""
    if not is_variable(text):
        raise InvalidError(f"{path}: {text[:80]!r} is not the name of a variable")
    return text


def is_variable(text: str) -> bool:
    return bool(text) and all(" " <= char <= "~" and char != "=" for char in text)


def absolute(text: str, path: str) -> str:
    """An absolute path without ``..``."""
    _plain(text, path)
    if not text.startswith("/"):
        raise InvalidError(f"{path}: {text[:80]!r} is not an absolute path")
    if ".." in text.split("/"):
        raise InvalidError(f"{path}: {text[:80]!r} must not contain '..'")
    return text


def relative(text: str, path: str) -> str:
    """A path that stays below where it begins."""
    _plain(text, path)
    if text.startswith("/") or not text:
        raise InvalidError(f"{path}: {text[:80]!r} is not a relative path")
    if ".." in text.split("/"):
        raise InvalidError(f"{path}: {text[:80]!r} must not contain '..'")
    return text


def _plain(text: str, path: str) -> None:
    if len(text.encode(errors="replace")) > _PATH_MAX:
        raise InvalidError(f"{path}: a path has at most {_PATH_MAX} bytes")
    no_nul(text, path)


def no_nul(text: str, path: str) -> str:
    if "\0" in text:
        raise InvalidError(f"{path}: contains a NUL")
    return text


def address(text: str, path: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidError(f"{path}: {text[:80]!r} is not an IP address") from error
    return text


def unique(found: Iterable[tuple[str, object]], what: str) -> None:
    """``found``: path and name, or None for what has none."""
    seen: dict[object, str] = {}
    for path, name in found:
        if name is None:
            continue
        if name in seen:
            raise InvalidError(f"{path}: {what} {name!r} is there already, as {seen[name]}")
        seen[name] = path
