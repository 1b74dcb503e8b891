"""``--format`` templates: the small part of Go's that Docker's users type. Pure.

``{{.Name}}``, ``{{.Spec.Labels.app}}``, ``{{json .Labels}}``, ``{{len .Containers}}``, ``{{join .Addresses ", "}}``, ``{{upper .State}}``, ``{{lower .State}}``;
``\\t`` and ``\\n``; a first word ``table`` asks for a heading and columns. Case and underscores do not count: ``.CreatedAt`` is ``created_at``.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hyperctl.errors import CtlError

_PART = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_FUNCTIONS = ("json", "len", "join", "upper", "lower")


class Action(NamedTuple):
    """What stands between braces. ``path`` empty: the whole."""

    path: tuple[str, ...]
    function: str = ""
    argument: str = ""


class Template(NamedTuple):
    """``parts`` alternate as they come: text, and actions."""

    parts: tuple[str | Action, ...]
    table: bool = False


def parse(text: str) -> Template:
    """Raises CtlError for what is not understood."""
    table = text == "table" or text.startswith(("table ", "table\t", "table{{"))
    body = text.removeprefix("table").lstrip(" ") if table else text
    body = body.replace("\\t", "\t").replace("\\n", "\n")
    parts: list[str | Action] = []
    for index, piece in enumerate(_PART.split(body)):
        if index % 2:
            parts.append(_action(piece.strip().strip("-").strip()))
        elif "{{" in piece or "}}" in piece:
            raise CtlError(f"template {text!r}: braces without their other half")
        elif piece:
            parts.append(piece)
    return Template(tuple(parts), table)


def render(template: Template, value: Any) -> str:
    """The text for one record. Raises CtlError for a field that is not there."""
    return "".join(part if isinstance(part, str) else _evaluate(part, value) for part in template.parts)


def columns(template: Template) -> list[str]:
    """The headings of a ``table`` template: the names of the fields, where tabs part them."""
    line = "".join(part if isinstance(part, str) else _heading(part) for part in template.parts)
    return line.split("\t")


def lookup(value: Any, path: Iterable[str]) -> Any:
    """The field of a record. Raises CtlError."""
    for name in path:
        value = _step(value, name)
    return value


def _action(text: str) -> Action:
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    function = words.pop(0) if words and not words[0].startswith(".") else ""
    arguments = 2 if function == "join" else 1
    if (function and function not in _FUNCTIONS) or len(words) != arguments or not words[0].startswith("."):
        raise CtlError(
            f"template {{{{{text}}}}}: not understood",
            hint=f'there are {{{{.Field.Field}}}}, and {", ".join(_FUNCTIONS)} before it; for more, pipe --format json to jq',
        )
    return Action(tuple(filter(None, words[0].split("."))), function, words[1] if arguments == 2 else "")


def _evaluate(action: Action, value: Any) -> str:
    found = lookup(value, action.path)
    return _CALLS[action.function](found, action.argument)


def _step(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        wanted = _plain(name)
        for key in value:
            if _plain(str(key)) == wanted:
                return value[key]
        raise CtlError(f"template: there is no field {name}", hint=f"there are {', '.join(sorted(map(str, value)))}")
    if isinstance(value, Sequence) and not isinstance(value, str) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    raise CtlError(f"template: there is no field {name} in {type(value).__name__}")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _heading(action: Action) -> str:
    return action.path[-1].upper().replace("_", " ") if action.path else ""


def _text(value: Any, _argument: str = "") -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _length(value: Any, _argument: str) -> str:
    if not hasattr(value, "__len__"):
        raise CtlError(f"template: len of {_text(value)}: it is neither text nor list")
    return str(len(value))


def _join(value: Any, separator: str) -> str:
    if not isinstance(value, list):
        raise CtlError(f"template: join of {_text(value)}: it is not a list")
    return separator.join(map(_text, value))


_CALLS: dict[str, Callable[[Any, str], str]] = {
    "": _text,
    "json": lambda value, _: json.dumps(value, ensure_ascii=False),
    "len": _length,
    "join": _join,
    "upper": lambda value, _: _text(value).upper(),
    "lower": lambda value, _: _text(value).lower(),
}
