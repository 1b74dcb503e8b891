"""The server: every route of the table behind the same checks, on the sockets that the settings or systemd give."""

import asyncio
import contextlib
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from hyperd.api import containers, execs, files, images, logs, networks, pods, prune, system, volumes
from hyperd.api.access import check_peer, group_id
from hyperd.api.call import Call, Route, body_of, params_of
from hyperd.api.metrics import DESCRIPTION, METRICS, Metrics
from hyperd.api.openapi import describe
from hyperd.api.services import Services
from hyperd.api.streams import error_document
from hyperd.config import Api, split_address
from hyperd.errors import HyperError, InvalidError, MissingError, UnavailableError
from runv import VERSION

_LOG = logging.getLogger("hyperd.api")
_CLOSE_S = 10.0
_BACKLOG = 512
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

ROUTES: tuple[Route, ...] = tuple(
    route for part in (system, pods, containers, logs, execs, files, images, volumes, networks, prune) for route in part.ROUTES
)

_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Serves until it is closed."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._group = group_id(services.config.api.group)
        self._metrics = Metrics(services, VERSION)
        self._app = web.Application(middlewares=[self._logged], client_max_size=services.config.api.max_body_mib << 20)
        self._app[METRICS] = self._metrics
        self._app[DESCRIPTION] = msgspec.json.encode(describe(ROUTES, VERSION))
        for route in ROUTES:
            self._app.router.add_route(route.method, "/v1" + route.path, self._handler(route))
        # A handler ends with its client: what has to be finished is not done by handlers.
        self._runner = web.AppRunner(
            self._app, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=_CLOSE_S, lingering_time=1.0
        )

    async def start(self, given: list[socket.socket]) -> None:
        """Listens. ``given``: sockets that systemd has made; else the settings'.

        :raise UnavailableError: an address cannot be had
        """
        await self._runner.setup()
        for one in given:
            context = None if one.family == socket.AF_UNIX else tls_context(self._services.config.api)
            await web.SockSite(self._runner, one, backlog=_BACKLOG, ssl_context=context).start()
        if not any(one.family == socket.AF_UNIX for one in given):
            await web.SockSite(self._runner, unix_socket(self._services.config.api.socket, self._group), backlog=_BACKLOG).start()
        if self._services.config.api.listen and not any(one.family != socket.AF_UNIX for one in given):
            await self._listen_tcp(self._services.config.api)

    async def _listen_tcp(self, api: Api) -> None:
        host, port = split_address(api.listen, "settings")
        try:
            await web.TCPSite(self._runner, host, port, backlog=_BACKLOG, ssl_context=tls_context(api)).start()
        except OSError as error:
            raise UnavailableError(f"cannot listen on {api.listen}: {error.strerror or error}") from error

    @property
    def addresses(self) -> list[Any]:
        """Where it listens."""
        return list(self._runner.addresses)

    async def close(self) -> None:
        """Lets requests end, and ends streams."""
        self._services.closing.set()
        await self._runner.cleanup()

    def _handler(self, route: Route) -> _Next:
        async def handle(request: web.Request) -> web.StreamResponse:
            if "\0" in request.path:
                raise InvalidError("a name cannot contain NUL")
            params = params_of(request, route.params)
            body = await body_of(request, route.body, optional=route.optional_body) if route.body is not None else None
            answer = await route.handler(Call(self._services, request, params, body))
            if isinstance(answer, web.StreamResponse):
                return answer
            if route.status == 204:
                return web.Response(status=204)
            return web.Response(status=route.status, body=msgspec.json.encode(answer), content_type="application/json")

        return handle

    @web.middleware
    async def _logged(self, request: web.Request, handler: _Next) -> web.StreamResponse:
        identity = request.headers.get("X-Request-Id", "")
        identity = identity if _REQUEST_ID.fullmatch(identity) else os.urandom(8).hex()
        began = time.monotonic()
        response: web.StreamResponse | None = None
        try:
            response = await self._answered(request, handler, identity)
            if not response.prepared:
                response.headers["X-Request-Id"] = identity
            return response
        finally:
            seconds = time.monotonic() - began
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else "none"
            status = response.status if response is not None else 499
            self._metrics.count(request.method if route != "none" else "ANY", route, status, seconds)
            extra = {"request": identity, "method": request.method, "path": request.path, "status": status, "seconds": round(seconds, 4)}
            _LOG.log(logging.DEBUG if status < 400 else logging.INFO, "request", extra=extra)

    async def _answered(self, request: web.Request, handler: _Next, identity: str) -> web.StreamResponse:
        try:
            check_peer(request, self._group)
            return await handler(request)
        except HyperError as error:
            return _failure(error.status, error_document(error))
        except web.HTTPException as error:
            return _failure(error.status, _http_document(error, request), dict(error.headers))
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            _LOG.exception("a mistake of ours", extra={"request": identity, "path": request.path})
            return _failure(500, {"kind": "internal", "message": f"a mistake of hyperd's; its log has request {identity}", "hint": ""})


def _failure(status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    kept = {name: value for name, value in (headers or {}).items() if name.lower() == "allow"}
    return web.Response(status=status, body=msgspec.json.encode({"error": document}), content_type="application/json", headers=kept)


def _http_document(error: web.HTTPException, request: web.Request) -> dict[str, Any]:
    """What the HTTP library refuses by itself, in our form."""
    if error.status == 404:
        return error_document(MissingError(f"no such address: {request.path[:200]}", hint="/v1/openapi.json lists all"))
    if error.status == 413:
        return error_document(InvalidError("the body is too large"))
    return error_document(InvalidError(error.reason or f"status {error.status}"))


def unix_socket(path: str, group: int) -> socket.socket:
    """A listening socket at ``path`` that only those who may can open; one that nobody listens on any more is replaced.

    :raise UnavailableError: another daemon listens there, or the socket cannot be made
    """
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        if _is_served(path):
            raise UnavailableError(f"cannot listen on {path}: another daemon does")
        temporary = f"{path}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        old = os.umask(0o177)
        try:
            one.bind(temporary)
        finally:
            os.umask(old)
        if group >= 0:
            os.chown(temporary, -1, group)
            os.chmod(temporary, 0o660)
        one.listen(_BACKLOG)
        os.rename(temporary, path)
    except OSError as error:
        one.close()
        raise UnavailableError(f"cannot listen on {path}: {error.strerror or error}") from error
    except UnavailableError:
        one.close()
        raise
    return one


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def tls_context(api: Api) -> ssl.SSLContext | None:
    """Both sides show a certificate; None where the settings have none, which is for a loopback address only.

    :raise UnavailableError: a file cannot be read
    """
    if not api.tls.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(api.tls.certificate, api.tls.key)
        context.load_verify_locations(api.tls.authority)
    except OSError as error:
        raise UnavailableError(f"cannot use the certificates of api.tls: {error.strerror or error}") from error
    return context
