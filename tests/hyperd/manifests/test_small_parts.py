"""Quantities, names, signals, references to variables and ranges of ports."""

from __future__ import annotations

import pytest

from hyperd import signals
from hyperd.errors import InvalidError
from hyperd.expansion import LENGTH_MAX, expand, quote
from hyperd.manifests import names
from hyperd.manifests.portmap import port_map
from hyperd.manifests.quantities import Quantity, cores, milli, whole


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("128Mi", 128 << 20), ("1e3", 1000), ("1E3", 1000), ("1E", 10**18), ("2Ki", 2048), ("1.5Gi", 3 << 29), ("100M", 10**8), (5, 5), (1.5, 2),
        ("0.1", 1), ("1k", 1000), ("129e6", 129_000_000), ("123Mi", 128974848), ("400m", 1), ("+1", 1), ("1Ei", 1 << 60), ("0", 0), (1000.0, 1000),
    ],
)  # fmt: skip
def test_bytes(value: Quantity, expected: int) -> None:
    assert whole(value, "x") == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("500m", 0.5), (2, 2.0), ("0.0001", 0.001), ("1", 1.0), (".25", 0.25), ("1500u", 0.002)]
)
def test_cores(value: Quantity, expected: float) -> None:
    assert cores(value, "x") == expected
    assert milli(value, "x") == round(expected * 1000)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "m",
        "1Mb",
        "1 Mi",
        "-1",
        "1e99",
        "9Ei9",
        "0x10",
        "1e",
        "ten",
        "1KiB",
        "\uff11",
        "9" * 100,
        "NaN",
        "1mi",
        True,
    ],
)
def test_not_quantities(value: Quantity) -> None:
    with pytest.raises(InvalidError, match=r"^spec\.x: "):
        whole(value, "spec.x")


def test_names() -> None:
    assert names.dns_label("a-1", "x") == "a-1"
    for bad in ("", "A", "-a", "a-", "a.b", "a" * 64, "a_b", "a\n"):
        with pytest.raises(InvalidError, match=r"^x: "):
            names.dns_label(bad, "x")
    for bad in ("", "a..b", ".a", "a" * 254):
        with pytest.raises(InvalidError):
            names.dns_subdomain(bad, "x")
    assert names.port_name("http-2", "x") == "http-2"
    for bad in ("", "80", "a--b", "a" * 16, "-a", "Http"):
        with pytest.raises(InvalidError):
            names.port_name(bad, "x")
    names.labels({"a.example/b_c": "D.e"}, "x")
    for key, value in (("a/b/c", ""), ("", "v"), ("k", "no spaces"), ("k", "-a"), ("B.example/x", "")):
        with pytest.raises(InvalidError):
            names.labels({key: value}, "x")
    for bad in ("a", "/a/../b", "/\0"):
        with pytest.raises(InvalidError):
            names.absolute(bad, "x")
    for bad in ("/a", "..", "a/../../b", ""):
        with pytest.raises(InvalidError):
            names.relative(bad, "x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TERM", "SIGTERM"),
        ("sigkill", "SIGKILL"),
        ("15", "SIGTERM"),
        ("RTMIN+3", "SIGRTMIN+3"),
        ("SIGRTMAX-1", "SIGRTMIN+29"),
        ("37", "SIGRTMIN+3"),
    ],
)
def test_signals(text: str, expected: str) -> None:
    assert signals.name_of(text, "x") == expected


@pytest.mark.parametrize("text", ["", "0", "65", "33", "SIG", "SIGFOO", "RTMIN+99", "-1", "9.5"])
def test_not_signals(text: str) -> None:
    assert signals.number_of(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)-$(B)", "1-2"), ("$$(A)", "$(A)"), ("$(C)", "$(C)"), ("$A ${A}", "$A ${A}"), ("$$$$", "$$"), ("$(A", "$(A"), ("$", "$"), ("$$$(A)", "$1"),
        ("a$(A)b$(A)", "a1b1"), ("", ""), ("$()", "$()"),
    ],
)  # fmt: skip
def test_references(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}, "x") == expected


@pytest.mark.parametrize("text", ["$(A)-$(IP)", "$$(IP)", "$(C)$(IP)", "$A $$", "plain", "$(IP)$$$(A)"])
def test_in_two_steps_it_is_the_same(text: str) -> None:
    """What is known now is put in now, the rest at the start, and both together are what one step would have given."""
    template = expand(text, {"A": quote("$1")}, "x", ["IP"])
    assert expand(template, {"IP": "10.0.0.1"}, "x") == expand(text, {"A": "$1", "IP": "10.0.0.1"}, "x")


def test_references_do_not_explode() -> None:
    with pytest.raises(InvalidError, match=r"^x: longer than"):
        expand("$(A)" * 1000, {"A": "y" * LENGTH_MAX}, "x")
    with pytest.raises(InvalidError, match=r"^x: longer than"):
        expand("y" * (LENGTH_MAX + 1), {}, "x")
    assert expand("$(" * 60_000, {"A": "y"}, "x") == "$(" * 60_000


def test_port_ranges() -> None:
    assert [(port.host_port, port.container_port) for port in port_map("8000-8002", "80", "tcp", "h", "c")] == [
        (8000, 80),
        (8001, 80),
        (8002, 80),
    ]
    assert [(port.host_port, port.container_port) for port in port_map("1-2", "3-4", "udp", "h", "c")] == [
        (1, 3),
        (2, 4),
    ]
    assert [(port.host_port, port.container_port) for port in port_map("", "3-4", "udp", "h", "c")] == [(0, 3), (0, 4)]
    for host, inner in (
        ("1-3", "4-5"),
        ("1", "2-3"),
        ("0", "1"),
        ("2-1", "1"),
        ("a", "1"),
        ("1", ""),
        ("1-65535", "1-65535"),
        ("70000", "1"),
    ):
        with pytest.raises(InvalidError, match=r"^[hc]: "):
            port_map(host, inner, "tcp", "h", "c")
