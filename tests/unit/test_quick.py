"""What stands in for json, contextlib and typing on the path of light commands does the same."""

import json
import subprocess
import sys
import typing
from typing import Any

import pytest

from runv import quick
from runv.quick import NamedTuple, dumps, loads, packed, suppress

VALUES: list[Any] = [
    None, True, 0, -(2**70), 1.5, 1e300, "", "ä\u2028\U0001f600\"\\\n\x00", "\udce4", [], {}, [1, [2, {"a": None}]], {"a": {"b": ["c"]}, "": 1, "ü": "ö"},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_as_json_has_them(value: Any) -> None:
    assert dumps(value) == json.dumps(value)
    assert packed(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for text in (dumps(value), packed(value), f" \t\r\n{json.dumps(value, indent=1)}\n"):
        assert loads(text) == value
        assert type(loads(text)) is type(value)


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", '{"a"}', "1 2", "[] []", "nul", "'a'", '"\n"', '"\\ud8"', "\ufeff1", "{1:2}", "+1", "01"])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        json.loads(text)
    with pytest.raises(ValueError):
        loads(text)


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="is no number"):
        loads(text)


def test_what_json_cannot_say() -> None:
    for value in ({1, 2}, b"", [object()]):
        with pytest.raises(TypeError):
            dumps(value)


def test_suppress() -> None:
    with suppress(FileNotFoundError, KeyError):
        raise FileNotFoundError
    with suppress(OSError):
        raise FileNotFoundError
    with pytest.raises(ValueError), suppress(OSError):
        raise ValueError


class Ours(NamedTuple):
    """A tuple with names."""

    first: str
    second: "int | None"
    third: tuple[int, ...] = ()


class Theirs(typing.NamedTuple):
    first: str
    second: int | None
    third: tuple[int, ...] = ()


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_a_tuple_with_names(kind: Any) -> None:
    one = kind("a", second=5)
    assert one == kind("a", 5) == kind(first="a", second=5, third=()) == ("a", 5, ())
    assert (one.first, one.second, one.third, one[0], len(one)) == ("a", 5, (), "a", 3)
    assert repr(one) == f"{kind.__name__}(first='a', second=5, third=())"
    changed = one._replace(third=(1, 2), first="b")
    assert type(changed) is kind and changed == ("b", 5, (1, 2)) and one.first == "a"
    assert one._asdict() == {"first": "a", "second": 5, "third": ()} and one._fields == ("first", "second", "third")
    assert {one: 1}[kind(*one)] == 1
    first, *_ = one
    assert first == "a"


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_what_is_no_tuple_of_these_names(kind: Any) -> None:
    for values, named in (
        (("a",), {}),
        ((), {"first": "a"}),
        (("a", 1, (), 4), {}),
        (("a", 1), {"fourth": 1}),
        (("a", 1), {"first": "b"}),
        (("a", 1, ()), {"third": ()}),
    ):
        with pytest.raises(TypeError):
            kind(*values, **named)
    with pytest.raises(AttributeError):
        kind("a", 1).first = "b"
    with pytest.raises((TypeError, ValueError)):
        kind("a", 1)._replace(fourth=1)


def alone(script: str, first: str = "") -> str:
    """What a script says in a Python that has imported nothing else, and has done ``first``."""
    folder = quick.__file__.rpartition("/runv/")[0]
    start = f"{first}\nimport sys; sys.path.insert(0, {folder!r}); before = set(sys.modules)\nimport runv.quick\n"
    return subprocess.run([sys.executable, "-IS", "-c", start + script], capture_output=True, text=True, check=True).stdout


def test_a_python_with_other_halves() -> None:
    script = "class T(runv.quick.NamedTuple):\n    a: int\n    b: int = 2\nprint(T(1).a, T(1).b, T(1))"
    assert alone(script, "import _collections; del _collections._tuplegetter") == alone(script) == "1 2 T(a=1, b=2)\n"


def test_it_imports_nothing() -> None:
    """But what Python has in itself, and json's other half."""
    found = alone("runv.quick.loads(runv.quick.dumps({'a': [1]}))\nprint(*set(sys.modules) - before)")
    assert set(found.split()) <= {"runv", "runv.quick", "_collections", "_json", "_signal", "_socket"}


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', "[1] 2", '"\\x"', '"a'])
def test_without_json_it_knows_what_is_no_json(text: str) -> None:
    said = alone(f"try: runv.quick.loads({text!r})\nexcept ValueError as error: print(error)")
    with pytest.raises(ValueError) as failure:
        json.loads(text)
    assert said.strip() == str(failure.value)
