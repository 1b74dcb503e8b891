"""Text -> plain values: JSON, and YAML as kubectl reads it. Hostile input is bounded before anything is built from it.

YAML is read from the parser's events, not by PyYAML's constructors: aliases are counted as what they stand for (no billion laughs), nesting and size
have limits, duplicate keys and tags are refused, and scalars are those of kubectl's parser: YAML 1.1's booleans, but no dates and no numbers to base 60.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from hyperd.errors import InvalidError

BYTES_MAX = 2 << 20
DEPTH_MAX = 64
VALUES_MAX = 200_000

_MERGE = "<<"
_TRUE = {"y", "Y", "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"}
_FALSE = {"n", "N", "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}
_NULL = {"", "~", "null", "Null", "NULL"}
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# What a tag may say of a plain or quoted scalar; everything else would be somebody's type.
_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "int", "float", "bool", "null", "map", "seq")} | {"!": "str"}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Built(NamedTuple):
    """A value, and its size: of how many values it consists when every alias is written out."""

    value: Any
    size: int


class _Open:
    """A list or mapping whose end has not come yet."""

    def __init__(self, anchor: str | None, is_mapping: bool) -> None:
        self.anchor = anchor
        self.is_mapping = is_mapping
        self.list: list[Any] = []
        self.mapping: dict[str, Any] = {}
        self.merged: list[dict[str, Any]] = []
        self.key: str | None = None
        self.count = 1


def parse_documents(text: str | bytes) -> list[Any]:
    """The documents of ``text`` without the empty ones. Members that are null are as if they were not there.

    :raise InvalidError: it is neither JSON nor YAML, or beyond the limits; the message has the line
    """
    text = _decode(text)
    if text.lstrip()[:1] in ("{", "["):
        try:
            return [normal(_json(text))]
        except json.JSONDecodeError:
            pass  # flow style YAML begins the same way, and its errors say more
        except RecursionError as error:
            raise InvalidError(f"the document is nested more than {DEPTH_MAX} levels deep") from error
    try:
        return [normal(value) for value in _yaml(text) if value is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InvalidError(f"{where}not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise InvalidError(f"not YAML: {' '.join(str(error).split())}") from error


def _decode(text: str | bytes) -> str:
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        size = len(text.encode())
    except UnicodeError as error:
        raise InvalidError(f"the document is not UTF-8: {error}") from error
    if size > BYTES_MAX:
        raise InvalidError(f"the document has {size} bytes; at most {BYTES_MAX} are read")
    return text


def _json(text: str) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in found:
            if key in mapping:
                raise InvalidError(f"the key {key!r} is there twice in one object")
            mapping[key] = value
        return mapping

    def constant(name: str) -> Any:
        raise InvalidError(f"{name} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise InvalidError(f"not JSON: {error}") from error


def _yaml(text: str) -> Iterator[Any]:
    """One value for each document."""
    stack: list[_Open] = []
    anchors: dict[str, _Built] = {}
    root: Any = None
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        built: _Built | None = None
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.DocumentStartEvent):
            anchors, root, total = {}, None, 0
        elif isinstance(event, yaml.DocumentEndEvent):
            yield root
        elif isinstance(event, yaml.CollectionStartEvent):
            _check_tag(event, "map" if isinstance(event, yaml.MappingStartEvent) else "seq")
            if len(stack) >= DEPTH_MAX:
                raise InvalidError(f"{_line(event)}nested more than {DEPTH_MAX} levels deep")
            stack.append(_Open(anchor, isinstance(event, yaml.MappingStartEvent)))
            anchors.pop(anchor or "", None)
        elif isinstance(event, yaml.CollectionEndEvent):
            built, anchor = _close(stack.pop())
        elif isinstance(event, yaml.ScalarEvent):
            built = _Built(_scalar(event), 1)
        elif isinstance(event, yaml.AliasEvent):
            built = anchors.get(event.anchor or "")
            if built is None:
                raise InvalidError(f"{_line(event)}the alias *{event.anchor} stands for nothing that is complete")
            anchor = None
            total += built.size
        if built is None:
            continue
        total += not isinstance(event, yaml.AliasEvent)
        if total > VALUES_MAX:
            raise InvalidError(f"{_line(event)}the document has more than {VALUES_MAX} values, aliases counted as what they stand for")
        if anchor:
            anchors[anchor] = built
        if stack:
            _put(stack[-1], built, event)
        else:
            root = built.value


def _put(into: _Open, built: _Built, event: yaml.Event) -> None:
    into.count += built.size
    if not into.is_mapping:
        into.list.append(built.value)
    elif into.key is None:
        key = into.key = _key(built.value, event)
        if key in into.mapping or (key == _MERGE and into.merged):
            raise InvalidError(f"{_line(event)}the key {key!r} is there twice in one mapping")
    else:
        if into.key == _MERGE:
            into.merged = _merged(built.value, event)
        else:
            into.mapping[into.key] = built.value
        into.key = None


def _key(value: Any, event: yaml.Event) -> str:
    """As kubectl, which makes JSON of it: a key that reads as a number or boolean is its text."""
    if isinstance(event, yaml.ScalarEvent):
        return event.value if not isinstance(value, bool) else str(value).lower()
    raise InvalidError(f"{_line(event)}a key must be a text")


def _merged(value: Any, event: yaml.Event) -> list[dict[str, Any]]:
    found = value if isinstance(value, list) else [value]
    if not found or not all(isinstance(entry, dict) for entry in found):
        raise InvalidError(f"{_line(event)}only a mapping, or a list of them, can be merged by <<")
    return found


def _close(done: _Open) -> tuple[_Built, str | None]:
    if not done.is_mapping:
        return _Built(done.list, done.count), done.anchor
    for source in done.merged:  # the earlier of several goes before the later, and what is said here before all
        for key, value in source.items():
            done.mapping.setdefault(key, value)
    return _Built(done.mapping, done.count), done.anchor


def _check_tag(event: yaml.NodeEvent, expected: str) -> None:
    tag: str | None = getattr(event, "tag", None)
    if tag is not None and tag != "!" and _TAGS.get(tag) != expected:
        raise InvalidError(f"{_line(event)}the tag {tag} is not allowed here")


def _scalar(event: yaml.ScalarEvent) -> Any:
    """The value of a scalar by kubectl's rules; a tag of YAML's own goes before them."""
    text: str = event.value
    kind = _TAGS.get(event.tag) if event.tag else ("" if event.implicit[0] else "str")
    if kind == "str":
        return text
    value = _resolved(text, event)
    if kind is None or (kind and {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value)) != kind):
        raise InvalidError(f"{_line(event)}the tag {event.tag} is not allowed for {text[:40]!r}")
    return value


def _resolved(text: str, event: yaml.Event) -> Any:
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _NOT_FINITE.fullmatch(text):
        raise InvalidError(f"{_line(event)}{text} is no number that JSON has")
    # Longer ones are none that anybody meant, and Python takes its time over them.
    if len(text) <= 64 and _INTEGER.fullmatch(text):
        return _integer(text)
    plain = text if text.startswith(".") else text.replace("_", "")
    if len(text) <= 64 and text[0] in "+-.0123456789" and _FLOAT.fullmatch(plain):
        return float(plain)
    return text


def _integer(text: str) -> Any:
    digits = text.replace("_", "").lower()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    for prefix, base in (("0b", 2), ("0o", 8), ("0x", 16), ("0", 8)):
        if digits.startswith(prefix) and len(digits) > len(prefix):
            return sign * int(digits.removeprefix(prefix), base)
    return sign * int(digits) if digits not in ("0b", "0o", "0x") else text


def normal(value: Any) -> Any:
    """``value`` without null members, and with whole numbers as integers, as Go's JSON has them.

    :raise InvalidError: nested too deeply, or with what no JSON text can have
    """
    return _normal(value, 0)


def _normal(value: Any, depth: int) -> Any:
    if depth >= DEPTH_MAX and isinstance(value, dict | list):
        raise InvalidError(f"nested more than {DEPTH_MAX} levels deep")
    if isinstance(value, dict):
        return {_text(key): _normal(member, depth + 1) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_normal(member, depth + 1) for member in value]
    if isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            raise InvalidError("a number is too great")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidError(f"{text[:40]!r} is no text: half of a surrogate pair") from error
    return text


def _line(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}: " if event.start_mark else ""
