"""What is on disk of a container, and the tables that show it."""

import os
from pathlib import Path

import pytest

from runv.cli.show import container_list, state, table
from runv.cli.signals import signal_number
from runv.errors import ConfigError, ExistsError, NotFoundError, StateError, UsageError
from runv.processes import identify
from runv.state import Container, ContainerRecord, check_id, containers, timestamp


@pytest.mark.parametrize("name", ["a", "A0_+.-", "..a", "a" * 128, "-x", "0"])
def test_good_ids(name: str) -> None:
    check_id(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "a b", "@sandboxes", "a\n", "\u00e4", "a" * 129, "a\0", "*"]
)
def test_bad_ids(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^invalid container ID format: "):
        check_id(name)


def record(name: str = "one", **more: str) -> ContainerRecord:
    return ContainerRecord(
        id=name, sandbox="s", bundle="/b", rootfs="/b/rootfs", oci_version="1.0.2", created=timestamp(),
        annotations={"a": "b"}, groups=["/g"], made_groups=[], **more,
    )  # fmt: skip


def test_an_id_is_taken_once(tmp_path: Path) -> None:
    one = Container(str(tmp_path / "root"), "one")
    one.reserve()
    with pytest.raises(ExistsError, match=r"^container with given ID already exists: one$"):
        one.reserve()
    with pytest.raises(NotFoundError):
        one.load()


def test_saved_is_loaded(tmp_path: Path) -> None:
    one = Container(str(tmp_path), "one")
    one.reserve()
    saved = record()
    one.save(saved)
    loaded = one.load()
    assert all(getattr(loaded, name) == getattr(saved, name) for name in ContainerRecord.__slots__)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 1}', "null"])
def test_a_broken_record_is_told_apart_from_none(tmp_path: Path, text: str) -> None:
    one = Container(str(tmp_path), "one")
    one.reserve()
    Path(one.path("state.json")).write_text(text)
    with pytest.raises(StateError, match="cannot read") as failure:
        one.load()
    assert not isinstance(failure.value, NotFoundError)


def test_status_is_what_lives(tmp_path: Path) -> None:
    one = Container(str(tmp_path), "one")
    one.reserve()
    saved = record()
    assert one.status(saved) == ("stopped", 0)
    Path(one.path("init.pid")).write_text(str(identify(os.getpid())))
    assert one.status(saved) == ("creating", os.getpid())
    one.mark_ready()
    assert one.status(saved) == ("created", os.getpid())
    saved.started = timestamp()
    assert one.status(saved) == ("running", os.getpid())
    Path(one.path("init.pid")).write_text(f"{os.getpid()} 1")
    assert one.status(saved) == ("stopped", 0)


def test_listing_skips_what_is_no_container(tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert containers(str(root)) == []
    for name in ("b", "a"):
        Container(str(root), name).reserve()
    (root / ".tmp").touch()
    assert [container.id for container in containers(str(root))] == ["a", "b"]
    assert container_list(str(root), "json", quiet=False) == "null\n"
    Container(str(root), "a").save(record("a"))
    assert container_list(str(root), "table", quiet=True) == "a\n"
    assert '"owner": "root"' in container_list(str(root), "json", quiet=False) or os.geteuid() != 0


def test_state_is_json_without_a_newline(tmp_path: Path) -> None:
    one = Container(str(tmp_path), "one")
    one.reserve()
    one.save(record())
    text = state(one)
    assert text.startswith('{\n  "ociVersion": "1.0.2",\n  "id": "one",\n  "pid": 0,\n  "status": "stopped",')
    assert text.endswith('"owner": ""\n}')


def test_tables_are_set_as_runc_sets_them() -> None:
    head = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
    # What `runc list` of 1.1.5 prints where there is no container.
    assert table([head]) == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    row = ("a", "0", "stopped", "/tmp/a-long-bundle", "2026-01-01T00:00:00.000000000Z", "root")
    assert table([head, row]).splitlines() == [
        "ID          PID         STATUS      BUNDLE               CREATED                          OWNER",
        "a           0           stopped     /tmp/a-long-bundle   2026-01-01T00:00:00.000000000Z   root",
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("KILL", 9), ("SIGKILL", 9), ("kill", 9), ("sigterm", 15), ("0", 0), ("64", 64), ("RTMIN", 34)],
)
def test_signals(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "65", "-1", "NOSUCH", "SIG", "SIG_DFL", "_DFL", "9.0", "\u0669", "BLOCK"])
def test_unknown_signals(text: str) -> None:
    with pytest.raises(UsageError, match=r"^unknown signal "):
        signal_number(text)
