"""The daemon's HTTP API: one connection for each request, JSON both ways, streams as lines of JSON, as bytes, or as a WebSocket."""

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, urlencode

from hyperctl.connect import CONNECT_TIMEOUT_S, connect
from hyperctl.errors import ApiError, ConnectError
from hyperctl.settings import Settings

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

Query = Mapping[str, "str | int | float | bool | Sequence[str] | None"]

_BASE = "/v1"
_LINE_MAX = 16 << 20
_FRAME_MAX = 16 << 20
_CHUNK = 1 << 16
# What an error whose answer is not the daemon's own is worth showing of.
_SHOWN = 300


def path(*parts: str) -> str:
    """The path of a resource, each part quoted: a name may have a slash."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


class Client:
    """Nothing is connected before the first request. Requests may be made by several threads at once.

    All methods raise ApiError for what the daemon refuses and ConnectError where it cannot be reached or is gone.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def get(self, where: str, **query: Any) -> Any:
        return self.request("GET", where, query=query)

    def post(self, where: str, body: Any = None, **query: Any) -> Any:
        return self.request("POST", where, body=body, query=query)

    def delete(self, where: str, body: Any = None, **query: Any) -> Any:
        return self.request("DELETE", where, body=body, query=query)

    def request(self, method: str, where: str, *, body: Any = None, query: Query | None = None, forever: bool = False) -> Any:
        """The answer, decoded; None where it is empty. ``forever``: whatever time it takes."""
        with self._answer(method, where, body=body, query=query, forever=forever) as response:
            return _decode(_read(response))

    @contextmanager
    def lines(self, method: str, where: str, *, body: Any = None, query: Query | None = None, forever: bool = False) -> Iterator[Iterator[Any]]:
        """Within it, the values of an answer that is one JSON value a line, as they come."""
        with self._answer(method, where, body=body, query=query, forever=forever) as response:
            yield _lines(response)

    @contextmanager
    def download(self, where: str, query: Query | None = None) -> Iterator["Download"]:
        """Within it, the body of an answer as it comes."""
        with self._answer("GET", where, query=query) as response:
            yield Download(response)

    @contextmanager
    def upload(self, method: str, where: str, *, kind: str, query: Query | None = None) -> Iterator["Upload"]:
        """Within it, a file to write the body to; then ``lines`` or ``finish`` of it."""
        with _wire():
            connection = _connection(self.settings)
        try:
            with _wire():
                connection.putrequest(method, _target(where, query))
                connection.putheader("Content-Type", kind)
                connection.putheader("Transfer-Encoding", "chunked")
                connection.endheaders()
            yield Upload(connection)
        finally:
            connection.close()

    @contextmanager
    def websocket(self, where: str, query: Query | None = None) -> Iterator["ClientConnection"]:
        """Within it, a WebSocket."""
        from websockets.exceptions import InvalidHandshake, InvalidStatus
        from websockets.sync.client import connect as open_websocket

        connected = connect(self.settings)
        connected.settimeout(None)
        stack = ExitStack()
        try:
            opened = stack.enter_context(
                open_websocket(
                    f"ws://localhost{_target(where, query)}",
                    sock=connected,
                    compression=None,
                    max_size=_FRAME_MAX,
                    ping_interval=None,  # whoever does not read his output for a while is not gone
                    open_timeout=self.settings.timeout_s,
                    close_timeout=CONNECT_TIMEOUT_S,
                )
            )
        except InvalidStatus as error:
            connected.close()
            raise _refusal(error.response.status_code, bytes(error.response.body or b"")) from None
        except (InvalidHandshake, OSError, EOFError) as error:
            connected.close()
            raise ConnectError(f"cannot open a stream to hyperd: {error}") from None
        with stack:
            yield opened

    @contextmanager
    def _answer(
        self, method: str, where: str, *, body: Any = None, query: Query | None = None, forever: bool = False
    ) -> Iterator[http.client.HTTPResponse]:
        with _wire():
            connection = _connection(self.settings)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            text = None if body is None else json.dumps(body, ensure_ascii=False).encode()
            with _wire():
                connection.request(method, _target(where, query), body=text, headers=headers)
                if forever:
                    connection.sock.settimeout(None)
            yield _response(connection)
        finally:
            connection.close()


class Download:
    """The body of an answer, to be read like a file."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response

    def read(self, size: int = -1) -> bytes:
        with _wire():
            return self._response.read(None if size < 0 else size)


class Upload:
    """The body of a request, in chunks. What the daemon says before all is sent ends the sending."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def write(self, data: bytes) -> int:
        self._buffer += data
        if len(self._buffer) >= _CHUNK:
            self._flush()
        return len(data)

    def copy(self, source: BinaryIO) -> Iterator[int]:
        """Sends a file to its end; the number of bytes of each step."""
        while data := source.read(_CHUNK):
            self.write(data)
            yield len(data)

    def lines(self) -> Iterator[Any]:
        """The values of the answer, one a line; all has been sent by then."""
        return _lines(self._end())

    def finish(self) -> Any:
        """The answer, decoded."""
        return _decode(_read(self._end()))

    def _end(self) -> http.client.HTTPResponse:
        self._flush()
        self._send(b"0\r\n\r\n")
        return _response(self._connection)

    def _flush(self) -> None:
        if self._buffer:
            chunk = b"%x\r\n%b\r\n" % (len(self._buffer), bytes(self._buffer))
            self._buffer.clear()
            self._send(chunk)

    def _send(self, data: bytes) -> None:
        with _wire():
            try:
                self._connection.send(data)
            except (BrokenPipeError, ConnectionResetError):
                _response(self._connection)  # it was refused half-way, and that says why
                raise


class _Connection(http.client.HTTPConnection):
    """With a socket of ``connect``."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("localhost", blocksize=_CHUNK)
        self._settings = settings

    def connect(self) -> None:
        self.sock = connect(self._settings)


def _connection(settings: Settings) -> http.client.HTTPConnection:
    connection = _Connection(settings)
    connection.connect()
    return connection


@contextmanager
def _wire() -> Iterator[None]:
    """Whatever happens to the connection within is an error of ours."""
    try:
        yield
    except (http.client.HTTPException, OSError) as error:
        raise _gone(error) from None


def _response(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    with _wire():
        response = connection.getresponse()
    if response.status >= 400:
        raise _refusal(response.status, _read(response))
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    with _wire():
        return response.read()


def _target(where: str, query: Query | None) -> str:
    pairs = [(name, value) for name, value in (query or {}).items() if value not in (None, "", False)]
    text = urlencode([(name, 1 if value is True else value) for name, value in pairs], doseq=True)
    return f"{_BASE}{where}{'?' if text else ''}{text}"


def _lines(response: http.client.HTTPResponse) -> Iterator[Any]:
    while True:
        with _wire():
            line = response.readline(_LINE_MAX)
        if not line:
            return
        if not line.endswith(b"\n") and len(line) == _LINE_MAX:
            raise ConnectError("hyperd answered with a line that is too long")
        if line.strip():
            value = _decode(line)
            if isinstance(value, dict) and isinstance(value.get("error"), dict):
                raise api_error(value["error"])
            yield value


def _decode(data: bytes) -> Any:
    if not data.strip():
        return None
    try:
        return json.loads(data)
    except ValueError:
        raise ConnectError("hyperd answered with something that is not JSON", hint="is it hyperd that listens there?") from None


def _refusal(status: int, body: bytes) -> ApiError:
    try:
        error = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        error = None
    if isinstance(error, dict):
        return api_error(error, status)
    shown = body.decode(errors="replace").strip()[:_SHOWN] or http.client.responses.get(status, "")
    return ApiError("unknown", f"hyperd answered {status}: {shown}", status=status)


def api_error(error: Mapping[str, Any], status: int = 0) -> ApiError:
    """The error that the daemon described."""
    code = error.get("exit_code")
    return ApiError(
        str(error.get("kind", "unknown")),
        str(error.get("message", "no reason given")),
        status=status,
        hint=str(error.get("hint") or ""),
        exit_code=code if isinstance(code, int) else None,
    )


def _gone(error: Exception) -> ConnectError:
    if isinstance(error, TimeoutError):
        return ConnectError("hyperd does not answer in time", hint="timeout_s in the configuration file sets how long that is")
    reason = "it closed the connection" if isinstance(error, http.client.RemoteDisconnected) else str(error) or type(error).__name__
    return ConnectError(f"lost the connection to hyperd: {reason}", hint="`journalctl -u hyperd` may say why, pods go on running; over TCP it may want --tlscacert, --tlscert and --tlskey")
