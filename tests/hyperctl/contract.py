"""That hyperctl asks for what hyperd has: each request of a test against the daemon's own table of routes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from hyperd.api.call import Route
from hyperd.api.server import ROUTES
from hyperd.errors import HyperError
from hyperd.manifests import read_container, read_pod

# The daemon cannot attach a volume to a pod that runs yet.


def violation(method: str, path: str, query: Mapping[str, Sequence[str]], body: Any) -> str:
    """What the daemon would refuse the request for; empty where it would take it."""
    for route in ROUTES:
        if route.method == ("GET" if method == "STREAM" else method) and _pattern(route).fullmatch(unquote(path.replace("%2F", "\0"))):
            return _refusal(route, method, query, body)
    return f"{method} {path}: there is no such route"


def _pattern(route: Route) -> re.Pattern[str]:
    names = re.split(r"\{(\w+(?::[^}]*)?)\}", route.path)
    return re.compile("".join((".+" if ":" in part else "[^/]+") if index % 2 else re.escape(part) for index, part in enumerate(names)))


def _refusal(route: Route, method: str, query: Mapping[str, Sequence[str]], body: Any) -> str:
    if (route.kind == "websocket") != (method == "STREAM"):
        return f"{route.path}: it is {route.kind}"
    lists = {field.encode_name for field in msgspec.structs.fields(route.params) if str(field.type).startswith("tuple")}
    try:
        msgspec.convert({name: found if name in lists else found[-1] for name, found in query.items()}, route.params, strict=False)
        if route.body is not None and not (route.optional_body and body is None):
            msgspec.convert(body, route.body)
        elif body is not None and not route.raw_body:
            return f"{route.path}: it takes no body"
        if route.path == "/pods" and body and body.get("spec"):
            read_pod(body["spec"])
        if route.path == "/pods/{name}/containers" and body:
            read_container(body["container"], ())
    except (msgspec.ValidationError, HyperError) as error:
        return f"{route.method} {route.path}: {error}"
    return ""
