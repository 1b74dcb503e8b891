"""A request on its way to what answers it, and the table that says who does."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from hyperd.api.services import Services
from hyperd.errors import InvalidError

Kind = Literal["json", "ndjson", "websocket", "tar", "text"]
Parsed = TypeVar("Parsed")


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand after the ? of an address: unknown names are errors."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's JSON: unknown members are errors."""


class NoParams(Params, frozen=True):
    """None at all."""


class Call(NamedTuple):
    """A request: checked parameters and body, and what the daemon has."""

    services: Services
    request: web.Request
    params: Any
    body: Any

    def name(self, part: str = "name") -> str:
        """A part of the address."""
        return self.request.match_info[part]


Handler = Callable[[Call], Awaitable[Any]]


class Route(NamedTuple):
    """One line of the table. ``answer`` is the type of the JSON, or of each line of a stream; ``many``: what a repeated parameter may be."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler
    summary: str
    params: type[Params] = NoParams
    body: Any = None
    answer: Any = None
    kind: Kind = "json"
    status: int = 200
    optional_body: bool = False
    raw_body: bool = False


def params_of(request: web.Request, kind: type[Parsed]) -> Parsed:
    """:raise InvalidError: a parameter is unknown, missing, or not what it must be"""
    lists = {
        field.encode_name
        for field in msgspec.structs.fields(kind)  # type: ignore[arg-type]
        if str(field.type).startswith("tuple")
    }
    values: dict[str, Any] = {}
    for name in request.query:
        found = request.query.getall(name)
        if name in lists:
            values[name] = found
        elif len(found) > 1:
            raise InvalidError(f"parameter {name} is given {len(found)} times")
        else:
            values[name] = found[0]
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidError(f"parameters: {error}") from None


async def body_of(request: web.Request, kind: Any, *, optional: bool) -> Any:
    """:raise InvalidError: it is missing, not JSON, or not what it must be"""
    data = await request.read()
    if not data.strip():
        if optional:
            return kind()
        raise InvalidError("the request has no body", hint="it must be JSON")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidError(f"body: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"body: not JSON: {error}") from None
