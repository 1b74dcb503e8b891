"""Records of JSON: what msgspec says of a document is what they say, and null, defaults and names are as declared."""

import json
from typing import Any

import msgspec
import pytest

from runv.errors import ConfigError
from runv.spec.records import Record


class Inner(Record):
    path: str
    flags: list[str] | None = None


class Outer(Record):
    name: str
    count: int | None = None
    is_on: bool = False
    inner: Inner | None = None
    many: list[Inner] | None = None
    by_name: dict[str, Inner] | None = None
    rest: dict | None = None  # type: ignore[type-arg]
    block_io: str = "none"
    NAMES = {"block_io": "blockIO"}  # noqa: RUF012 - never changed


class TheirInner(msgspec.Struct, rename="camel"):
    path: str
    flags: list[str] | None = None


class TheirOuter(msgspec.Struct, rename="camel"):
    name: str
    count: int | None = None
    is_on: bool = False
    inner: TheirInner | None = None
    many: list[TheirInner] | None = None
    by_name: dict[str, TheirInner] | None = None
    rest: dict[str, Any] | None = None
    block_io: str = msgspec.field(default="none", name="blockIO")


GOOD: list[dict[str, Any]] = [
    {"name": "a"},
    {"name": "", "count": None, "inner": None, "many": None, "byName": None, "rest": None},
    {"name": "a", "count": -5, "isOn": True, "unknown": [{}], "is_on": 5, "blockIO": "x"},
    {"name": "a", "inner": {"path": "p", "flags": ["x"]}, "many": [{"path": "p"}, {"path": "q", "flags": []}], "byName": {"k": {"path": "p"}}, "rest": {"x": 1}},
]
BAD: list[Any] = [
    {},
    [],
    {"name": None},
    {"name": 5},
    {"name": "a", "count": "1"},
    {"name": "a", "count": True},
    {"name": "a", "count": 1.5},
    {"name": "a", "isOn": None},
    {"name": "a", "isOn": 1},
    {"name": "a", "inner": []},
    {"name": "a", "inner": {}},
    {"name": "a", "inner": {"path": "p", "flags": "x"}},
    {"name": "a", "inner": {"path": "p", "flags": ["x", None]}},
    {"name": "a", "many": {}},
    {"name": "a", "many": [{"path": "p"}, {"path": 1}]},
    {"name": "a", "many": [None]},
    {"name": "a", "byName": {"k": {"flags": []}}},
    {"name": "a", "byName": {"k": None}},
    {"name": "a", "rest": [1]},
    {"name": "a", "blockIO": None},
]


def plain(value: Any) -> Any:
    """A record of theirs or ours as dictionaries."""
    names = getattr(value, "__struct_fields__", None) or (value.names() if isinstance(value, Record) else None)
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return {key: plain(entry) for key, entry in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("document", GOOD, ids=json.dumps)
def test_what_is_read_is_what_msgspec_reads(document: dict[str, Any]) -> None:
    assert plain(Outer.read(document, "file: $")) == plain(msgspec.convert(document, TheirOuter, strict=True))


@pytest.mark.parametrize("document", BAD, ids=json.dumps)
def test_a_refusal_says_what_msgspec_says(document: Any) -> None:
    with pytest.raises(msgspec.ValidationError) as theirs:
        msgspec.convert(document, TheirOuter, strict=True)
    text, separator, path = str(theirs.value).rpartition(" - at `")
    with pytest.raises(ConfigError) as ours:
        Outer.read(document, "file: $")
    assert str(ours.value) == f"file: {path.rstrip('`')}: {text}" if separator else f"file: $: {path}"


def test_a_record_of_ones_own() -> None:
    one = Outer(name="a", count=5)
    assert one == Outer(name="a", count=5, is_on=False) != Outer(name="a")
    assert (one.replace(name="b").name, one.replace(name="b").count, one.name) == ("b", 5, "a")
    assert repr(Inner(path="p")) == "Inner(path='p', flags=None)"
    with pytest.raises(AttributeError, match="Outer cannot be changed"):
        one.name = "c"  # type: ignore[misc]
    with pytest.raises(TypeError, match="Inner needs path"):
        Inner()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Inner has no paths"):
        Inner(path="p", paths="q")  # type: ignore[call-arg]
