"""One call of gRPC's health checking protocol: ``grpc.health.v1.Health/Check``, over HTTP/2 without TLS, as Kubernetes' probes make it.

The protocol is one request and one answer of a single field each, so their encoding is here; HTTP/2 is h2's.
"""

import asyncio
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from hyperd.errors import UnavailableError

if TYPE_CHECKING:
    from h2.connection import H2Connection

SERVING = 1
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
# google.rpc.Code, those that a server of health answers with.
_CODES = {"5": "NOT_FOUND: it does not know the service", "12": "UNIMPLEMENTED: it has no health checking"}
_READ = 1 << 16
_ANSWER_MAX = 1 << 16
_TEXT_MAX = 200


class _Answer(NamedTuple):
    headers: dict[str, str]
    body: bytes


async def check(host: str, port: int, service: str, timeout_s: float) -> None:
    """Asks once; fine if the service is SERVING.

    :param service: empty: the server as a whole

    :raise UnavailableError: it is not, the server does not know it, or did not answer in time
    """
    where = f"gRPC health of {f'[{host}]' if ':' in host else host}:{port}{f' ({service})' if service else ''}"
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _call(host, port, _request(service))
    except TimeoutError:
        raise UnavailableError(f"{where}: no answer after {timeout_s:g} s") from None
    except OSError as error:
        raise UnavailableError(f"{where}: {error.strerror or error}") from None
    except _ProtocolError as error:
        raise UnavailableError(f"{where}: {error}") from None
    problem = _problem(answer)
    if problem:
        raise UnavailableError(f"{where}: {problem}")


class _ProtocolError(Exception):
    """What came is not gRPC's."""


def _request(service: str) -> bytes:
    """HealthCheckRequest: field 1 is the service, a text. Before it whether it is compressed, and its length."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _problem(answer: _Answer) -> str:
    """Why an answer is not a good one; empty: it is."""
    status = answer.headers.get(":status", "")
    if status != "200":
        return f"status {status[:_TEXT_MAX]} of HTTP"
    code = answer.headers.get("grpc-status", "")
    if code != "0":
        text = unquote(answer.headers.get("grpc-message", ""))[:_TEXT_MAX]
        return f"{_CODES.get(code, f'status {code[:20]} of gRPC')}{': ' if text else ''}{text}" if code else "no status of gRPC"
    try:
        serving = _status(answer.body)
    except (IndexError, ValueError):
        return "an answer that is none"
    return "" if serving == SERVING else _STATUSES[serving] if serving < len(_STATUSES) else f"status {serving}"


def _status(body: bytes) -> int:
    """Of a HealthCheckResponse: field 1, a number; 0 where it is left out. Fields that are not known are passed over."""
    if len(body) < 5 or body[0] or int.from_bytes(body[1:5], "big") != len(body) - 5:
        raise ValueError("not one message that is not compressed")
    message, position, found = body[5:], 0, 0
    while position < len(message):
        key, position = _read_varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = _read_varint(message, position)
            found = value if key >> 3 == 1 else found
        elif kind == 2:
            length, position = _read_varint(message, position)
            position += length
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4
        else:
            raise ValueError("a kind of field that there is not")
    return found


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise ValueError("a number that is too long")


async def _call(host: str, port: int, request: bytes) -> _Answer:
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.exceptions import H2Error

    reader, writer = await asyncio.open_connection(host, port)
    try:
        connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        connection.initiate_connection()
        stream = connection.get_next_available_stream_id()
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        connection.send_headers(stream, _headers(authority))
        connection.send_data(stream, request, end_stream=True)
        return await _receive(connection, reader, writer)
    except (H2Error, UnicodeDecodeError) as error:
        raise _ProtocolError(f"it does not speak HTTP/2: {error}") from None
    finally:
        writer.close()


def _headers(authority: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "hyperd-probe"),
    ]


async def _receive(connection: "H2Connection", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Answer:
    """Until our one stream has ended. Trailers are headers like others."""
    from h2 import events

    headers: dict[str, str] = {}
    body = b""
    while True:
        writer.write(connection.data_to_send())
        await writer.drain()
        data = await reader.read(_READ)
        if not data:
            raise _ProtocolError("it hung up")
        if data.startswith(b"HTTP/1"):  # the length of a frame, for h2, that never comes
            raise _ProtocolError("it does not speak HTTP/2: it answers in HTTP/1")
        for event in connection.receive_data(data):
            if isinstance(event, events.ResponseReceived | events.TrailersReceived):
                headers |= {str(name): str(value) for name, value in event.headers or ()}
            elif isinstance(event, events.DataReceived):
                body += event.data or b""
                if len(body) > _ANSWER_MAX:
                    raise _ProtocolError("its answer is too long")
            elif isinstance(event, events.StreamReset | events.ConnectionTerminated):
                raise _ProtocolError(f"it broke off with error {int(event.error_code or 0)} of HTTP/2")
            elif isinstance(event, events.StreamEnded):
                return _Answer(headers, body)
