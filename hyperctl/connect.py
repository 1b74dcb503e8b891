"""A connected socket to the daemon: over a Unix socket, or TCP with TLS on both sides. What fails is said with the step to take."""

import os
import socket
from typing import TYPE_CHECKING

from hyperctl.errors import ConnectError
from hyperctl.settings import Endpoint, Settings, endpoint

if TYPE_CHECKING:
    import ssl

CONNECT_TIMEOUT_S = 20.0
_START = "start it with `systemctl start hyperd`, or name another one with --host"
_TLS = "a daemon on another host wants --tlscacert, --tlscert and --tlskey; `hyperd cert issue` makes them"


def connect(settings: Settings) -> socket.socket:
    """A new connection, blocking, with a timeout of ``settings.timeout_s``. Raises ConnectError."""
    where = endpoint(settings.host)
    connected = _unix(where.path) if where.path else _tcp(settings, where)
    connected.settimeout(settings.timeout_s)
    return connected


def _unix(path: str) -> socket.socket:
    new = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    new.settimeout(CONNECT_TIMEOUT_S)
    try:
        new.connect(path)
    except OSError as error:
        new.close()
        raise ConnectError(_sentence(path, error), hint=_unix_hint(path, error)) from None
    return new


def _unix_hint(path: str, error: OSError) -> str:
    if isinstance(error, PermissionError):
        group = _group(path)
        if group == "root":
            return "only root may, until there is a group hyperd and the daemon is started anew: `groupadd --system hyperd`"
        return f"only root and the group {group} may; `usermod -aG {group} {_user()}` and log in again"
    return _START


def _group(path: str) -> str:
    import grp

    try:
        return grp.getgrgid(os.stat(path).st_gid).gr_name
    except (OSError, KeyError):
        return "of the socket"


def _user() -> str:
    return os.environ.get("USER") or str(os.getuid())


def _tcp(settings: Settings, where: Endpoint) -> socket.socket:
    wants_tls = bool(settings.tlscacert or settings.tlscert or settings.tlskey)
    if not wants_tls and not _is_loopback(where.name):
        raise ConnectError(f"will not speak to {where.name} without TLS", hint=_TLS)
    context = _context(settings) if wants_tls else None
    name = f"{where.name}:{where.port}"
    try:
        plain = socket.create_connection((where.name, where.port), CONNECT_TIMEOUT_S)
    except OSError as error:
        raise ConnectError(_sentence(name, error), hint=_START) from None
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is None:
        return plain
    try:
        return context.wrap_socket(plain, server_hostname=where.name)
    except OSError as error:  # ssl.SSLError is one
        plain.close()
        reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error.strerror
        raise ConnectError(f"cannot speak TLS with {name}: {reason}", hint=_TLS) from None


def _is_loopback(name: str) -> bool:
    return name in ("localhost", "::1") or name.startswith("127.")


def _context(settings: Settings) -> "ssl.SSLContext":
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if settings.tlscacert:
            context.load_verify_locations(settings.tlscacert)
        else:
            context.load_default_certs()
        if settings.tlscert:
            context.load_cert_chain(settings.tlscert, settings.tlskey or None)
    except OSError as error:
        paths = ", ".join(filter(None, (settings.tlscacert, settings.tlscert, settings.tlskey)))
        raise ConnectError(f"cannot load certificates from {paths}: {error.strerror or error}", hint=_TLS) from None
    return context


def _sentence(where: str, error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"cannot reach hyperd at {where}: it does not answer"
    if isinstance(error, ConnectionRefusedError):
        return f"cannot reach hyperd at {where}: nobody listens there"
    return f"cannot reach hyperd at {where}: {error.strerror or error}"
