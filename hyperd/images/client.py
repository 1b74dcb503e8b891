"""Speaks HTTP with one registry: authorization, redirects, deadlines, and what goes wrong as errors of ours.

Credentials are sent to the registry's own host, and to the service that it names for tokens; never to where a redirect leads.
"""

import asyncio
import base64
import contextlib
import json
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from hyperd.errors import DeniedError, HyperError, InvalidError, MissingError, UnavailableError
from hyperd.images.challenges import Challenge, parse
from hyperd.images.credentials import Credentials
from hyperd.images.endpoints import Endpoint, tls
from hyperd.images.settings import ImageSettings

_LOG = logging.getLogger(__name__)
_REDIRECTS_MAX = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_ERROR_MAX = 64 << 10
_TOKEN_MAX = 1 << 20
_RETRY_AFTER_MAX_S = 60.0
_PAUSE_MAX_S = 30.0
_Result = TypeVar("_Result")
Body = Callable[[], AsyncIterator[bytes]]


def _cause(error: OSError) -> str:
    """The kernel's own words; asyncio has others."""
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or str(error)


class PassingError(UnavailableError):
    """It may go better the next time. ``after_s``: how long to wait at least."""

    def __init__(self, message: str, *, hint: str = "", after_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.after_s = after_s


class Sent(NamedTuple):
    """A body: made anew for each try."""

    size: int
    make: Body


class Client:
    """One registry, or a mirror of it. An asynchronous context manager."""

    def __init__(self, endpoint: Endpoint, credentials: Credentials | None, settings: ImageSettings) -> None:
        """:raise UnavailableError: a certificate cannot be read"""
        self.endpoint = endpoint
        self._credentials = credentials
        self._settings = settings
        self._scheme = endpoint.schemes[0] if len(endpoint.schemes) == 1 else ""
        self._authorizations: dict[str, str] = {}
        self._settling = asyncio.Lock()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls(endpoint, settings), limit=0),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=settings.connect_timeout_s,
                sock_connect=settings.connect_timeout_s,
                sock_read=settings.stall_timeout_s,
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,
            headers={"User-Agent": "hyperd", "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def name(self) -> str:
        return f"registry {self.endpoint.host}"

    # Tries

    async def trying(self, work: Callable[[], Awaitable[_Result]], *, what: str) -> _Result:
        """Does ``work``, several times if the errors pass, with longer and longer pauses."""
        for attempt in range(1, self._settings.attempts):
            try:
                return await work()
            except PassingError as error:
                _LOG.info("%s failed and is tried again: %s", what, error.message)
                await self.pause(attempt, error)
        return await work()

    async def pause(self, attempt: int, error: PassingError) -> None:
        """Waits before the next try, each time longer, and not in step with others."""
        pause = min(self._settings.back_off_s * 2 ** (attempt - 1), _PAUSE_MAX_S)
        await asyncio.sleep(max(error.after_s, pause * (1 + secrets.randbelow(256) / 512)))

    # Requests

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        path: str | URL,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: Sent | bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request, whatever its status; redirects are followed, and authorization is got as asked for.

        ``path``: below ``/v2/``, or the whole address that the registry gave.

        :raise PassingError: no connection, or it broke
        :raise DeniedError: the registry lets us in with nothing that we have
        """
        await self._settle()
        url = self.url(path)
        for renewed in (False, True):
            authorization = self._authorizations.get(scope)
            async with self._followed(method, url, authorization, dict(headers or {}), body) as response:
                if response.status != 401 or renewed or response.url.origin() != self.url("").origin():
                    yield response
                    return
                challenges = parse(response.headers.getall("WWW-Authenticate", []))
            self._authorizations[scope] = await self._authorize(challenges, scope)

    def url(self, path: str | URL) -> URL:
        if isinstance(path, URL):
            return path
        url = URL(f"{self._scheme}://{self.endpoint.host}{self.endpoint.prefix}/v2/{path}", encoded=True)
        return url.update_query(ns=self.endpoint.namespace) if self.endpoint.namespace else url

    def location(self, response: aiohttp.ClientResponse) -> URL:
        """Where an upload goes on.

        :raise UnavailableError: the registry did not say, or leads elsewhere than to itself by HTTP
        """
        return self._target(response, response.url)

    def _target(self, response: aiohttp.ClientResponse, base: URL) -> URL:
        text = response.headers.get("Location", "")
        try:
            target = base.join(URL(text, encoded=True))
        except ValueError as error:
            raise UnavailableError(f"{self.name} names {text[:200]!r} as a location") from error
        if not text or target.scheme not in ("http", "https") or not target.host:
            raise UnavailableError(f"{self.name} does not say where to go on")
        if target.scheme == "http" and base.scheme == "https" and not self.endpoint.insecure:
            raise UnavailableError(f"{self.name} leads from HTTPS to {target.host} by HTTP")
        return target

    @contextlib.asynccontextmanager
    async def _followed(
        self, method: str, url: URL, authorization: str | None, headers: dict[str, str], body: Sent | bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        home = url.origin()
        for _ in range(_REDIRECTS_MAX + 1):
            sent = dict(headers)
            if authorization is not None and url.origin() == home:
                sent["Authorization"] = authorization
            async with self._once(method, url, sent, body) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                url = self._target(response, url)
        raise UnavailableError(f"{self.name} redirects more than {_REDIRECTS_MAX} times")

    @contextlib.asynccontextmanager
    async def _once(
        self, method: str, url: URL, headers: dict[str, str], body: Sent | bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        data: Any = body
        if isinstance(body, Sent):
            data = body.make()
            headers = {**headers, "Content-Length": str(body.size)}
        with self._failing():
            async with self._session.request(
                method, url, headers=headers, data=data, allow_redirects=False
            ) as response:
                yield response

    @contextlib.contextmanager
    def _failing(self) -> Any:
        try:
            yield
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
            hint = f"trust its authority in /etc/hyperd/certs.d/{self.endpoint.host}/, or list it as insecure"
            raise UnavailableError(f"the certificate of {self.name} is not trusted: {reason}", hint=hint) from error
        except aiohttp.ClientSSLError as error:
            raise UnavailableError(f"{self.name} does not speak TLS as it should: {error.strerror or error}") from error
        except TimeoutError as error:
            raise PassingError(f"{self.name} stands still") from error
        except aiohttp.ClientConnectorError as error:
            raise PassingError(f"cannot connect to {self.name}: {_cause(error.os_error)}", hint="look after its name and the network; without one, `hyperctl load` takes an archive") from error
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionError) as error:
            raise PassingError(f"{self.name} broke off the connection") from error
        except aiohttp.InvalidURL as error:
            raise InvalidError(f"{self.name} has an address that cannot be used: {error}") from error
        except aiohttp.ClientError as error:
            raise PassingError(f"{self.name} does not answer as it should: {str(error)[:300]}") from error

    async def _settle(self) -> None:
        """Finds out whether a registry that may be spoken to without TLS has it."""
        async with self._settling:
            for scheme in self.endpoint.schemes if not self._scheme else ():
                url = URL(f"{scheme}://{self.endpoint.host}{self.endpoint.prefix}/v2/")
                try:
                    async with asyncio.timeout(self._settings.connect_timeout_s), self._once("GET", url, {}, None):
                        self._scheme = scheme
                        return
                except (UnavailableError, TimeoutError):
                    if scheme == self.endpoint.schemes[-1]:
                        self._scheme = scheme  # its errors are to be seen

    # Authorization

    async def _authorize(self, challenges: list[Challenge], scope: str) -> str:
        by_scheme = {each.scheme: each.parameters for each in reversed(challenges)}
        known = self._credentials or Credentials()
        if "bearer" in by_scheme:
            if known.registry_token:
                return f"Bearer {known.registry_token}"
            return f"Bearer {await self._token(by_scheme['bearer'], scope, known)}"
        if "basic" in by_scheme:
            if not known.username:
                raise self._denied("it wants a name and a password")
            return _basic(known)
        raise self._denied("it does not say how to identify oneself")

    def _denied(self, why: str) -> DeniedError:
        return DeniedError(f"{self.name} refuses: {why}", hint=f"hyperctl login {self.endpoint.host}")

    async def _token(self, parameters: dict[str, str], scope: str, known: Credentials) -> str:
        try:
            realm = URL(parameters.get("realm", ""))
        except ValueError:
            realm = URL("")
        if realm.scheme not in ("http", "https") or not realm.host:
            raise UnavailableError(f"{self.name} names no service that has tokens")
        if realm.scheme == "http" and self._scheme == "https" and not self.endpoint.insecure:
            raise UnavailableError(f"{self.name} has its tokens at {realm.host} by HTTP")
        return await self.trying(
            lambda: self._ask_token(realm, parameters.get("service", ""), scope, known), what="getting a token"
        )

    async def _ask_token(self, realm: URL, service: str, scope: str, known: Credentials) -> str:
        scopes = scope.split(" ") if scope else []
        headers: dict[str, str] = {}
        if known.identity_token:
            fields = {"grant_type": "refresh_token", "service": service, "client_id": "hyperd", "scope": scope}
            body = urlencode({**fields, "refresh_token": known.identity_token}).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            method, url = "POST", realm
        else:
            method, body = "GET", None
            query = [*([("service", service)] if service else []), *(("scope", each) for each in scopes)]
            url = realm.extend_query(query)
        authorization = _basic(known) if known.username and not known.identity_token else None
        async with self._followed(method, url, authorization, headers, body) as response:
            if response.status in (400, 401, 403):
                raise self._denied(await self._message(response) or "the name, the password or the right is wrong")
            await self.expect(response, 200, what="a token")
            return self._token_in(await self.read(response, _TOKEN_MAX))

    def _token_in(self, data: bytes) -> str:
        try:
            answer = json.loads(data)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError, RecursionError) as error:
            raise UnavailableError(f"{self.name} gives out tokens that cannot be read") from error
        if not isinstance(token, str) or not token or not token.isprintable():
            raise UnavailableError(f"{self.name} gives out no token")
        return token

    # Answers

    async def expect(self, response: aiohttp.ClientResponse, *wanted: int, what: str) -> None:
        """Turns any other status than those that are wanted into an error. ``what``: what was asked for."""
        status = response.status
        if status in wanted:
            return
        message = await self._message(response)
        detail = f": {message}" if message else ""
        if status in (401, 403):
            raise DeniedError(
                f"{self.name} does not let us have {what}{detail}", hint=f"hyperctl login {self.endpoint.host}"
            )
        if status == 404:
            raise MissingError(f"{self.name} has no {what}{detail}")
        if status == 429 or status >= 500:
            raise PassingError(f"{self.name} answers {status} for {what}{detail}", after_s=_retry_after(response))
        raise UnavailableError(f"{self.name} answers {status} for {what}{detail}")

    async def _message(self, response: aiohttp.ClientResponse) -> str:
        """What the registry has to say, when it says it as the specification has it."""
        try:
            found = json.loads(await self.read(response, _ERROR_MAX))
            first = (found.get("errors") or [found])[0]
            text = first.get("message") or first.get("details") or first.get("code") or ""
        except (ValueError, AttributeError, LookupError, TypeError, RecursionError, HyperError):
            return ""
        return " ".join(str(text).split())[:300]

    async def read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """The whole of an answer that is a document. It must have come within twice the time that a transfer may stand still.

        :raise UnavailableError: it is larger than ``limit`` bytes
        """
        found = bytearray()
        with self._failing():
            async with asyncio.timeout(2 * self._settings.stall_timeout_s):
                async for piece in response.content.iter_any():
                    found += piece
                    if len(found) > limit:
                        raise UnavailableError(f"{self.name} sends a document of more than {limit} bytes")
        return bytes(found)


def _basic(credentials: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()


def _retry_after(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), _RETRY_AFTER_MAX_S) if text.isdigit() else 0.0
