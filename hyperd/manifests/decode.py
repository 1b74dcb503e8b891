"""Plain values -> records, by msgspec; its refusals in our words."""

from typing import Any, TypeVar

import msgspec

from hyperd.errors import InvalidError

_T = TypeVar("_T")


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """An object of a pod file, with camelCase names. What it does not know is an error, as for kubectl."""


def decode(value: Any, kind: type[_T], path: str = "") -> _T:
    """``path``: where ``value`` lies in its document; empty for the whole.

    :raise InvalidError: a type is wrong, a member is missing or unknown; names the path
    """
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidError(_sentence(str(error), path), hint=_hint(str(error))) from error
    except RecursionError as error:
        raise InvalidError(f"{path or 'the document'} is nested too deeply") from error


def _sentence(text: str, prefix: str) -> str:
    """``Expected `int`, got `str` - at `$.a.b``` -> ``a.b: expected int, got str``."""
    problem, found, place = text.rpartition(" - at `")
    if not found:
        problem, place = text, "$"
    place = place.rstrip("`").removeprefix("$")
    where = (prefix + place).lstrip(".") or "the document"
    problem = problem.replace("`", "").replace("Object contains unknown field", "unknown field")
    problem = problem.replace("Object missing required field", "missing field").replace("object", "mapping")
    return f"{where}: {problem[:1].lower()}{problem[1:]}"


def _hint(text: str) -> str:
    if text.startswith("Expected `str") and ("got `bool`" in text or "got `int`" in text or "got `float`" in text):
        return "put it in quotes"
    return ""
