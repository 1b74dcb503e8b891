"""The description of the API in OpenAPI 3.1, made from the table of routes. Pure."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from hyperd.api.call import Params, Route

_REF = "#/components/schemas/{name}"
_CONTENT = {"json": "application/json", "ndjson": "application/x-ndjson", "tar": "application/x-tar", "text": "text/plain"}
_PART = re.compile(r"\{(\w+)(?::[^}]*)?\}")
# What may come instead of the answer, whatever is asked for.
_ERRORS = {
    "400": "the request cannot be right",
    "403": "who asks may not",
    "404": "there is no such thing",
    "409": "its state does not allow it",
    "413": "the body is too large",
    "503": "something else did not do its part",
}


class ErrorDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """``kind``: invalid, denied, missing, conflict, unavailable or internal. ``exit_code``: of a program that could not be run."""

    kind: str
    message: str
    hint: str
    exit_code: int = 0


class Error(msgspec.Struct, frozen=True):
    """What every request that fails is answered with."""

    error: ErrorDetail


def describe(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The document."""
    types = [Error, *(kind for route in routes for kind in (route.body, route.answer) if kind is not None)]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault("/v1" + _PART.sub(r"{\1}", route.path), {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "hyperd", "version": version, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', route.path.lower()).strip('_')}",
        "summary": route.summary,
        "parameters": [*_path_parameters(route.path), *_query_parameters(route.params)],
        "responses": {**_answer(route, schema_of), **_errors(schema_of)},
    }
    if route.body is not None:
        content = {"application/json": {"schema": schema_of[id(route.body)]}}
        operation["requestBody"] = {"required": not route.optional_body, "content": content}
    elif route.raw_body:
        operation["requestBody"] = {"required": True, "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in _PART.findall(path)]


def _query_parameters(params: type[Params]) -> list[dict[str, Any]]:
    [_], components = msgspec.json.schema_components([params], ref_template=_REF)
    schema = components[params.__name__]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": one} for name, one in schema["properties"].items()
    ]


def _answer(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    if route.kind == "websocket":
        return {"101": {"description": "the streams of the process"}}
    if route.status == 204:
        return {"204": {"description": "done"}}
    schema = schema_of[id(route.answer)] if route.answer is not None else {}
    return {str(route.status): {"description": route.summary, "content": {_CONTENT[route.kind]: {"schema": schema}}}}


def _errors(schema_of: dict[int, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema_of[id(Error)]}}
    return {status: {"description": text, "content": content} for status, text in _ERRORS.items()}
