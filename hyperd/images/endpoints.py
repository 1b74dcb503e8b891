"""Where a registry is spoken to: its mirrors, then itself; whether by TLS, and with which certificates."""

import contextlib
import ipaddress
import os
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hyperd.errors import UnavailableError
from hyperd.images.references import DEFAULT_HOST
from hyperd.images.settings import ImageSettings

_DOCKER_API = "registry-1.docker.io"


class Endpoint(NamedTuple):
    """``schemes``: those to try, in order. ``prefix``: put before ``/v2/``. ``namespace``: of a mirror, the host that it is for."""

    host: str
    schemes: tuple[str, ...]
    prefix: str = ""
    namespace: str = ""
    insecure: bool = False


def endpoints(host: str, settings: ImageSettings) -> list[Endpoint]:
    """Those that are asked for images of ``host``, in order. The last is the registry itself."""
    found = [_mirror(text, host, settings) for name, texts in settings.mirrors if name in (host, "*") for text in texts]
    return [*found, origin(host, settings)]


def origin(host: str, settings: ImageSettings) -> Endpoint:
    """The registry itself: the only one that is pushed to."""
    address = _DOCKER_API if host == DEFAULT_HOST else host
    insecure = _insecure(address, settings.insecure)
    return Endpoint(address, ("https", "http") if insecure else ("https",), insecure=insecure)


def _mirror(text: str, host: str, settings: ImageSettings) -> Endpoint:
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    name, _, prefix = rest.rstrip("/").partition("/")
    insecure = _insecure(name, settings.insecure) or scheme == "http"
    schemes = (scheme,) if scheme else ("https", "http") if insecure else ("https",)
    return Endpoint(name, schemes, f"/{prefix}" if prefix else "", host, insecure)


def _insecure(host: str, listed: Iterable[str]) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]")
    if name == "localhost" or host in listed or name in listed:
        return True
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(name)
        return address.is_loopback or any(address in network for network in _networks(listed))
    return False


def _networks(listed: Iterable[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for each in listed:
        with contextlib.suppress(ValueError):
            found.append(ipaddress.ip_network(each))
    return found


def tls(endpoint: Endpoint, settings: ImageSettings) -> ssl.SSLContext:
    """The settings of TLS: the system's authorities and those of the folders for this host, and the client's certificate there.

    :raise UnavailableError: a certificate cannot be read
    """
    context = ssl.create_default_context()
    if endpoint.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for folder in settings.certificates:
        own = Path(folder) / endpoint.host
        if os.sep in endpoint.host or endpoint.host in (".", ".."):
            continue
        try:
            for path in sorted(own.glob("*.crt")):
                context.load_verify_locations(path)
            for path in sorted(own.glob("*.cert")):
                context.load_cert_chain(path, path.with_suffix(".key"))
        except (OSError, ssl.SSLError) as error:
            raise UnavailableError(f"cannot use the certificates in {own}: {error}") from error
    return context
