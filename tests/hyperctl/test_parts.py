"""Sizes, times, templates, keys, settings, tables: what is pure."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hyperctl import humans, output, progress, settings, template, terminal
from hyperctl.commands.copy import Side, parse_side
from hyperctl.commands.ports import parse_forward
from hyperctl.errors import CtlError

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


# --- sizes and times ---


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("4096", 4096), ("1k", 1024), ("1.5G", 3 << 29), ("64KiB", 65536), ("2 MB", 2 << 20)])
def test_sizes(text: str, size: int) -> None:
    assert humans.size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1x", "1.k", "k", "1kk"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(CtlError):
        humans.size(text)


def test_memory_alone_is_in_mebibytes() -> None:
    assert [humans.mebibytes(text) for text in ("512", "512m", "1g")] == [512, 512, 1024]
    with pytest.raises(CtlError):
        humans.mebibytes("4k")


def test_shown_sizes() -> None:
    assert [humans.show_size(n) for n in (0, 999, 1024, 12 << 20, 1 << 50)] == ["0 B", "999 B", "1.00 KiB", "12.0 MiB", "1024 TiB"]


@pytest.mark.parametrize(
    ("text", "age"),
    [("2026-01-31T11:59:13Z", "47s"), ("2026-01-31T11:48:00.123456789Z", "11m"), ("2026-01-30T12:00:00+00:00", "24h"), ("2022-01-01T00:00:00Z", "4y"), ("", "-"), ("2027-01-01T00:00:00Z", "0s")],
)  # fmt: skip
def test_ages(text: str, age: str) -> None:
    assert humans.age(text, NOW) == age


def test_moments() -> None:
    assert humans.moment("90", NOW) == "2026-01-31T11:58:30.000Z"
    assert humans.moment("1h30m", NOW) == "2026-01-31T10:30:00.000Z"
    assert humans.moment("2026-01-31T12:00:00+02:00", NOW) == "2026-01-31T10:00:00.000Z"
    assert humans.moment("1769860800", NOW) == "2026-01-31T12:00:00.000Z"
    assert re.fullmatch(r"2026-01-3\dT\d\d:\d\d:00.000Z", humans.moment("2026-01-31", NOW))
    for text in ("yesterday", "1h30", "2026-13-01"):
        with pytest.raises(CtlError):
            humans.moment(text, NOW)


# --- templates ---

ROW = {"id": "0123", "name": "web", "created_at": "now", "labels": {"app": "a b"}, "addresses": ["1", "2"], "ready": True, "none": None}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{.Name}}", "web"),
        ("{{ .name }}-{{.ID}}", "web-0123"),
        ("{{.CreatedAt}}", "now"),
        ("{{.Labels.app}}", "a b"),
        ("{{json .Labels}}", '{"app": "a b"}'),
        ("{{len .Addresses}}", "2"),
        ('{{join .Addresses ", "}}', "1, 2"),
        ("{{.Addresses.1}}", "2"),
        ("{{upper .Name}}\\t{{.Ready}}{{.None}}", "WEB\ttrue"),
        ("no fields", "no fields"),
    ],
)
def test_templates(text: str, shown: str) -> None:
    assert template.render(template.parse(text), ROW) == shown


@pytest.mark.parametrize("text", ["{{.Name", "{{}}", "{{range .X}}", "{{.Name .Id}}", "{{join .Name}}", "}}", "{{'}}"])
def test_bad_templates(text: str) -> None:
    with pytest.raises(CtlError):
        template.parse(text)


def test_a_field_that_is_not_there_is_named() -> None:
    with pytest.raises(CtlError) as caught:
        template.render(template.parse("{{.Labels.tier}}"), ROW)
    assert "tier" in caught.value.message and "app" in caught.value.hint


def test_table_template(capsys: pytest.CaptureFixture[str]) -> None:
    output.records([ROW, ROW | {"name": "longer"}], (), "table {{.Name}}\\t{{.Labels.app}}")
    assert capsys.readouterr().out == "NAME     APP\nweb      a b\nlonger   a b\n"


# --- tables ---


def test_nothing_of_others_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["A"], [["\x1b[31mred\x07"]])
    assert "\x1b" not in capsys.readouterr().out


def test_tables_fit() -> None:
    assert output.fit([12, 40, 20, 5], [True, False, False, True], 80) == [12, 40, 20, 5]
    assert output.fit([12, 40, 20, 5], [True, False, False, True], 60) == [12, 23, 20, 5]
    assert output.fit([12, 40, 20, 5], [True, False, False, True], 50) == [12, 16, 17, 5]
    assert output.fit([12, 40, 6], [True, False, False], 10) == [12, 8, 6]


def test_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    output.value({"b": 1, "a": ["x"]}, "yaml")
    assert capsys.readouterr().out == "b: 1\na:\n- x\n"


# --- the terminal ---


def test_detach_keys() -> None:
    assert terminal.parse_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert terminal.parse_keys("a,ctrl-],ctrl-@") == b"a\x1d\0"
    assert terminal.parse_keys("") == b""
    for text in ("ctrl-", "ab", "ctrl-1", "shift-a"):
        with pytest.raises(CtlError):
            terminal.parse_keys(text)


@pytest.mark.parametrize(
    ("pieces", "passed", "detached"),
    [
        ([b"ab"], b"ab", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10", b"\x11"], b"\x10", True),
    ],
)
def test_detach_keys_are_found_in_pieces(pieces: list[bytes], passed: bytes, detached: bool) -> None:
    keys = terminal.DetachKeys(b"\x10\x11")
    found = [keys.feed(piece) for piece in pieces]
    assert b"".join(data for data, _ in found) == passed
    assert found[-1][1] is detached


def test_no_detach_keys() -> None:
    assert terminal.DetachKeys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)


# --- settings ---


def load(home: Path, text: str = "", environ: dict[str, str] | None = None, **options: str) -> settings.Settings:
    if text:
        folder = home / ".config/hyperctl"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").write_text(text)
    given: dict[str, str | None] = dict(options)
    return settings.load(given, {"HOME": str(home)} | (environ or {}))


def test_order_of_settings(tmp_path: Path) -> None:
    assert load(tmp_path).host == settings.DEFAULT_HOST
    assert load(tmp_path, 'host = "tcp://a:1"\ntimeout_s = 5').host == "tcp://a:1"
    assert load(tmp_path).timeout_s == 5
    assert load(tmp_path, environ={"HYPER_HOST": "tcp://b"}).host == "tcp://b"
    assert load(tmp_path, environ={"HYPER_HOST": "tcp://b"}, host="/c").host == "/c"


@pytest.mark.parametrize("text", ["hosts = 1", "host = [1]", "host", "timeout_s = -1", 'timeout_s = "soon"', 'host = "ftp://x"', 'host = "tcp://x:99999"'])
def test_bad_settings(tmp_path: Path, text: str) -> None:
    with pytest.raises(CtlError):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("unix:///a", settings.Endpoint(path="/a")),
        ("tcp://h:1", settings.Endpoint(name="h", port=1)),
        ("tcp://h", settings.Endpoint(name="h", port=settings.DEFAULT_PORT)),
        ("tcp://[::1]:2", settings.Endpoint(name="::1", port=2)),
        ("tcp://[::1]", settings.Endpoint(name="::1", port=settings.DEFAULT_PORT)),
    ],
)
def test_hosts(host: str, found: Any) -> None:
    assert settings.endpoint(host) == found


# --- arguments ---


def test_sides_of_a_copy() -> None:
    assert parse_side("web:/a:b") == Side("web", "/a:b")
    assert parse_side("web/nginx:a") == Side("web/nginx", "/a")
    assert parse_side("./a:b") == Side("", "./a:b")
    assert parse_side("-") == Side("", "-")
    with pytest.raises(CtlError):
        parse_side("web:")


def test_forwards() -> None:
    assert [tuple(parse_forward(t)) for t in ("8080:80", "80", ":80")] == [(8080, 80), (80, 80), (0, 80)]
    for text in ("", "x", "80:", "0", "1:99999"):
        with pytest.raises(CtlError):
            parse_forward(text)


# --- progress ---


def test_progress_of_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    """An image is called by its whole name, a blob by the beginning of its digest."""
    blob = {"digest": "sha256:" + "0123456789abcdef" * 4, "total": 2048}
    lines = [
        {"progress": {"what": "resolve", "digest": "registry.example:5000/nosuchimage:latest"}},
        {"progress": {"what": "resolve", "digest": "nosuchimage:latest"}},
        {"progress": {"what": "download", "done": 1, **blob}},
        {"progress": {"what": "download", "done": 2, **blob}},
        {"image": {"id": "1"}},
    ]
    assert progress.follow(lines) == {"image": {"id": "1"}}
    assert capsys.readouterr().err.splitlines() == [
        "registry.example:5000/nosuchimage:latest: looking for",
        "nosuchimage:latest: looking for",
        "0123456789ab: downloading 2.00 KiB",
    ]
