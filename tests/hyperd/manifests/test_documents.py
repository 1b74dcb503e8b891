"""YAML and JSON as kubectl reads them, and what hostile texts can cost."""

from __future__ import annotations

from typing import Any

import pytest

from hyperd.errors import InvalidError
from hyperd.manifests.documents import BYTES_MAX, DEPTH_MAX, parse_documents


def value(text: str) -> Any:
    (document,) = parse_documents(text)
    return document["a"] if isinstance(document, dict) else document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True), ("Off", False), ("true", True), ("y", True), ("N", False), ("yy", "yy"), ("1_0.5", 10.5), ("_1.5", "_1.5"), ("'yes'", "yes"),
        ("0644", 420), ("0o644", 420), ("0x1F", 31), ("1_000", 1000), ("-7", -7), ("089", 89),
        ("1e3", 1000), ("1.5", 1.5), (".5", 0.5), ("1.", 1), ("12:30", "12:30"), ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"), ("!!str 12", "12"), ("!!int '12'", 12), ("'12'", "12"), ("=", "="), ("0b101", 5), ("0b", "0b"), ("100m", "100m"),
    ],
)  # fmt: skip
def test_scalars(text: str, expected: object) -> None:
    found = value(f"a: {text}")
    assert found == expected and type(found) is type(expected)


def test_null_members_are_not_there() -> None:
    assert parse_documents("a:\nb: ~\nc: null\nd: 1\ne: [~]") == [{"d": 1, "e": [None]}]
    assert parse_documents('{"a": null, "b": {"c": null}}') == [{"b": {}}]


def test_several_documents_and_empty_ones() -> None:
    assert parse_documents("---\n---\na: 1\n---\n# nothing\n---\na: 2\n...\n") == [{"a": 1}, {"a": 2}]
    assert parse_documents("") == []


def test_json_with_tabs_and_a_mark_at_its_begin() -> None:
    assert parse_documents(b'\xef\xbb\xbf{\t"a":\t[1, 2.0]}') == [{"a": [1, 2]}]


def test_keys_are_texts() -> None:
    assert parse_documents("on: 1\n2: 3\n'x': 4") == [{"true": 1, "2": 3, "x": 4}]


def test_aliases_and_merges() -> None:
    text = "base: &b {x: 1, w: 2}\nmore: &m {w: 3, z: 4}\none: {<<: *b, x: 9}\ntwo: {<<: [*b, *m]}\nsame: *b"
    (found,) = parse_documents(text)
    assert found["one"] == {"x": 9, "w": 2}
    assert found["two"] == {"x": 1, "w": 2, "z": 4}
    assert found["same"] == found["base"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "line 2: the key 'a' is there twice"),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (
            "a: !!python/object/apply:os.system ['true']",
            "line 1: the tag tag:yaml.org,2002:python/object/apply:os.system is not allowed",
        ),
        ("a: !!int hello", "is not allowed for 'hello'"),
        ("a: !mine x", "the tag !mine is not allowed"),
        ("a: .inf", "is no number"),
        ("a: *b", "b"),
        ("a: &a [*a]", "stands for nothing that is complete"),
        ("? [1]\n: 2", "a key must be a text"),
        ("<<: 1", "only a mapping"),
        ("a: [", "line 2, column 1: not YAML"),
        ("a: {b: c", "not YAML"),
        ("\tb: 1", "not YAML"),
        ("a: \x01", "not YAML"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1e999}', "too great"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_documents(text)
    assert message in str(caught.value)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(InvalidError, match="not UTF-8"):
        parse_documents(b"a: \xff")
    with pytest.raises(InvalidError, match="not UTF-8"):
        parse_documents("a: \ud800")


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {k: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{','.join([f'*{old}'] * 10)}], {new}: 1}}\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS, MERGED, "[" * 100_000, "a: " + "[" * 100_000, "- " * 100_000, "{a: " * 50_000, '{"a":' * 100_000 + "1" + "}" * 100_000,
        "a: &x 1\n" * 3, "x" * (BYTES_MAX + 1), "a: [" + "x," * 300_000 + "]",
    ],
    ids=["laughs", "merges", "brackets", "in a mapping", "dashes", "flow", "json", "anchors", "long", "wide"],
)  # fmt: skip
def test_hostile_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_documents(text)


def test_nesting_has_a_limit() -> None:
    deep = "[" * (DEPTH_MAX - 1) + "]" * (DEPTH_MAX - 1)
    assert parse_documents(f"a: {deep}")
    for text in (f"a: [{deep}]", f'{{"a": [{deep}]}}'):
        with pytest.raises(InvalidError, match="nested more than"):
            parse_documents(text)


def test_laughs_are_refused() -> None:
    for text in (LAUGHS, MERGED):
        with pytest.raises(InvalidError, match="aliases counted"):
            parse_documents(text)
