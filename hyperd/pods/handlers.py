"""What is done in or to a container at points of its life: a command in it, an HTTP request or a connection to it, or a pause."""

import asyncio
import ipaddress
import math

import aiohttp

from hyperd import spec
from hyperd.errors import HyperError, UnavailableError
from hyperd.pods import grpc_health
from hyperd.pods.book import Book
from hyperd.pods.health import Check, Result
from hyperd.pods.tools import Tools, now
from hyperd.store import ContainerRecord

_HANDLER_S = 300.0
_OK_FROM, _OK_TO = 200, 400
_TEXT_MAX = 300
_OUTPUT_MAX = 4096


class Handlers:
    """Does it for the containers of one pod."""

    def __init__(self, tools: Tools, book: Book) -> None:
        self._tools = tools
        self._book = book

    async def run(self, record: ContainerRecord, handler: spec.Handler) -> None:
        """Runs a hook of the container's life.

        :raise UnavailableError: it failed, or took longer than 5 minutes
        """
        if handler.command:
            await self.command(record, handler.command, _HANDLER_S)
        elif handler.http is not None:
            await self.http(handler.http, _HANDLER_S)
        elif handler.sleep_s:
            await asyncio.sleep(handler.sleep_s)

    async def check(self, record: ContainerRecord, probe: spec.Probe) -> None:
        """Asks once whether a container is well.

        :raise UnavailableError: it is not, or did not answer in time
        """
        if probe.command:
            await self.command(record, probe.command, probe.timeout_s)
        elif probe.http is not None:
            await self.http(probe.http, probe.timeout_s)
        elif probe.tcp_port:
            await self.connect(probe.tcp_host, probe.tcp_port, probe.timeout_s)
        elif probe.grpc_port:
            await grpc_health.check(self._host(""), probe.grpc_port, probe.grpc_service, probe.timeout_s)

    async def command(self, record: ContainerRecord, arguments: tuple[str, ...], timeout_s: float) -> None:
        """Runs a command in the container; 0 is success."""
        code, out, err = await self._tools.runtime.execute(record.id, arguments, math.ceil(timeout_s))
        if code:
            text = (out + err).decode(errors="replace").strip()[:_TEXT_MAX]
            raise UnavailableError(f"{arguments[0]} ended with status {code}{': ' if text else ''}{text}")

    async def health(self, record: ContainerRecord, check: Check) -> Result:
        """Runs a health check once; what cannot be run is a failure too."""
        started = now()
        try:
            code, out, err = await self._tools.runtime.execute(record.id, check.command, check.timeout_s)
        except HyperError as error:
            late = now() - started >= check.timeout_s
            text = f"Health check exceeded timeout ({check.timeout_s:g}s)" if late else error.message
            return Result(started, now(), -1, text)
        return Result(started, now(), code, (out + err)[:_OUTPUT_MAX].decode(errors="replace"))

    async def http(self, request: spec.HttpGet, timeout_s: float) -> None:
        """A GET; 200 to 399 is success. Certificates are not checked, as Kubernetes does not."""
        host = self._host(request.host)
        url = f"{request.scheme}://{f'[{host}]' if ':' in host else host}:{request.port}{request.path}"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s), trust_env=False) as session,
                session.get(url, headers=list(request.headers), ssl=False, allow_redirects=False) as response,
            ):
                if not _OK_FROM <= response.status < _OK_TO:
                    raise UnavailableError(f"GET {url}: status {response.status}")
        except TimeoutError:
            raise UnavailableError(f"GET {url}: no answer after {timeout_s:g} s") from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise UnavailableError(f"GET {url}: {error}") from None

    async def connect(self, host: str, port: int, timeout_s: float) -> None:
        """A TCP connection; that it opens is success."""
        address = self._host(host)
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(address, port)
            writer.close()
        except TimeoutError:
            raise UnavailableError(f"connect to {address}:{port}: no answer after {timeout_s:g} s") from None
        except OSError as error:
            raise UnavailableError(f"connect to {address}:{port}: {error.strerror or error}") from None

    def _host(self, host: str) -> str:
        """The pod's own address unless another is named."""
        if host:
            return host
        for addresses in self._book.pod.addresses.values():
            for address in addresses:
                return str(ipaddress.ip_interface(address).ip)
        raise UnavailableError(f"pod {self._book.pod.name} has no address")
