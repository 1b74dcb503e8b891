"""runv-monitor's log: the two formats, lines in parts, rotation, and files that cannot be written."""

import json
import os
import re
import resource
import signal
from pathlib import Path

import pytest

from tests.guest_build import Kind
from tests.host_c.monitor import ALL, HOLD, STDIN, Monitor, become_subreaper, running, shell, start
from tests.host_c.process import wait_until

LINE_MAX = 16384
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


def log_of(programs: Path, folder: Path, data: bytes, *options: str, log: str = "json-file") -> Monitor:
    """What becomes of data on stdout."""
    (folder / "data").write_bytes(data)
    with running(programs, folder, ["cat", str(folder / "data")], *options, log=log) as monitor:
        assert monitor.exit()["log"] == {"complete": True, "lost": 0, "error": ""}
    return monitor


def texts(monitor: Monitor) -> list[str]:
    return [entry["log"] for entry in monitor.entries()]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\0b\n", "a\0b\n"),
        (b"\x01\x1b[1m\t\"\\/\x7f\r\n", '\x01\x1b[1m\t"\\/\x7f\r\n'),
        ("gr\u00fc\u00df \u20ac \U0001f600\n".encode(), "gr\u00fc\u00df \u20ac \U0001f600\n"),
        (b"\xff\xfe\n", "\ufffd\ufffd\n"),
        (b"\xe2\x82\n", "\ufffd\ufffd\n"),
        (b"\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\n", "\ufffd" * 9 + "\n"),
        (b"\x80x\xc3\n", "\ufffdx\ufffd\n"),
    ],
)
def test_bytes_in_json(programs: Path, tmp_path: Path, data: bytes, text: str) -> None:
    monitor = log_of(programs, tmp_path, data)
    assert texts(monitor) == [text]
    assert re.fullmatch(TIME, monitor.entries()[0]["time"])


def test_every_pair_of_bytes_is_json(programs: Path, tmp_path: Path) -> None:
    pairs = [bytes([a, b]) for a in range(256) for b in range(256) if 10 not in (a, b)]
    monitor = log_of(programs, tmp_path, b"".join(pair + b"\n" for pair in pairs))
    for pair, text in zip(pairs, texts(monitor), strict=True):
        try:
            known = pair.decode()
        except UnicodeDecodeError:
            known = "".join(chr(byte) if byte < 0x80 else "\ufffd" for byte in pair)
        assert text == known + "\n", pair


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"", []),
        (b"\n\n", [b"\n", b"\n"]),
        (b"one\ntwo", [b"one\n", b"two"]),
        (b"x" * LINE_MAX + b"\n", [b"x" * LINE_MAX + b"\n"]),
        (b"x" * (LINE_MAX + 1) + b"\n", [b"x" * LINE_MAX, b"x\n"]),
        (b"x" * (3 * LINE_MAX), [b"x" * LINE_MAX, b"x" * LINE_MAX, b"x" * LINE_MAX]),
        # The border lies within a character.
        (b"x" + "\u20ac".encode() * 6000, [b"x" + "\u20ac".encode() * 5461, "\u20ac".encode() * 539]),
        (b"x" * (LINE_MAX - 1) + b"\xe2\n", [b"x" * (LINE_MAX - 1) + b"\xe2\n"]),
        (b"\x80" * 20000 + b"\n", [b"\x80" * LINE_MAX, b"\x80" * 3616 + b"\n"]),
    ],
)
def test_lines_in_parts(programs: Path, tmp_path: Path, data: bytes, parts: list[bytes]) -> None:
    json_folder, cri_folder = tmp_path / "json", tmp_path / "cri"
    json_folder.mkdir()
    cri_folder.mkdir()
    assert texts(log_of(programs, json_folder, data)) == [part.decode(errors="replace") for part in parts]
    entries = log_of(programs, cri_folder, data, log="cri").log.read_bytes().split(b"\n")
    assert entries.pop() == b""
    for entry, part in zip(entries, parts, strict=True):
        found = re.fullmatch(rb"(\S+) stdout (P|F) (.*)", entry, re.DOTALL)
        assert found and re.fullmatch(TIME, found[1].decode())
        assert (found[2], found[3]) == (b"F" if part.endswith(b"\n") else b"P", part.removesuffix(b"\n"))


def test_streams_are_parted(programs: Path, tmp_path: Path) -> None:
    """A line of one stream that has not ended does not touch the other's."""
    script = "printf begun; sleep 0.05; echo whole >&2; sleep 0.05; printf ' and ended\\n'"
    with running(programs, tmp_path, shell(script)) as monitor:
        monitor.exit()
    assert [(entry["stream"], entry["log"]) for entry in monitor.entries()] == [
        ("stderr", "whole\n"),
        ("stdout", "begun and ended\n"),
    ]


@pytest.mark.parametrize("log", ["json-file", "cri"])
def test_rotation_under_load(programs: Path, tmp_path: Path, kind: Kind, log: str) -> None:
    """Every line is there once and in order, no file is too long."""
    lines, limit = (200_000, 1_000_000) if kind == "plain" else (20_000, 100_000)
    options = ("--log-max-size", str(limit), "--log-max-files", "1000")
    with running(programs, tmp_path, ["seq", str(lines)], *options, log=log) as monitor:
        monitor.exit()
    names = [f"log.{number}" for number in range(len(list(tmp_path.glob("log.*"))), 0, -1)] + ["log"]
    assert len(names) > 8
    numbers = []
    for name in names:
        data = (tmp_path / name).read_bytes()
        assert len(data) <= limit
        for entry in data.splitlines():
            numbers.append(int(json.loads(entry)["log"] if log == "json-file" else entry.split(b" ")[3]))
    assert numbers == list(range(1, lines + 1))


def test_only_so_many_files(programs: Path, tmp_path: Path) -> None:
    data = b"".join(b"%05d\n" % number for number in range(1000))
    monitor = log_of(programs, tmp_path, data, "--log-max-size", "800", "--log-max-files", "3")
    assert {path.name for path in tmp_path.glob("log*")} == {"log", "log.1", "log.2"}
    found = [int(text) for text in texts(monitor)]
    assert found == list(range(found[0], 1000))


def test_one_file_begins_anew(programs: Path, tmp_path: Path) -> None:
    data = b"".join(b"%05d\n" % number for number in range(1000))
    monitor = log_of(programs, tmp_path, data, "--log-max-size", "800", "--log-max-files", "1")
    assert [path.name for path in tmp_path.glob("log*")] == ["log"]
    assert texts(monitor)[-1] == "00999\n"


def test_entry_that_is_longer_than_a_file(programs: Path, tmp_path: Path) -> None:
    data = b"x" * 5000 + b"\n" + b"y" * 5000 + b"\n"
    monitor = log_of(programs, tmp_path, data, "--log-max-size", "100", "--log-max-files", "5")
    assert texts(monitor) == ["x" * 5000 + "\n", "y" * 5000 + "\n"]
    assert (tmp_path / "log.1").exists() and not (tmp_path / "log.2").exists()


def test_goes_on_where_another_left(programs: Path, tmp_path: Path) -> None:
    """A second run appends; half an entry that a killed monitor left stays one line."""
    (tmp_path / "log").write_text('{"log":"whole\\n","stream":"stdout","time":"2020-01-01T00:00:00Z"}\n{"log":"ha')
    monitor = log_of(programs, tmp_path, b"next\n")
    lines = monitor.log.read_text().splitlines()
    assert (len(lines), lines[1], json.loads(lines[2])["log"]) == (3, '{"log":"ha', "next\n")


def test_full_disk(programs: Path, tmp_path: Path) -> None:
    """The process goes on, lines that were lost are counted, those that were written are whole; it is logged again when there is room."""
    with running(programs, tmp_path, ["cat"], "--stdin-once") as monitor:
        client = monitor.attach(ALL | HOLD)

        def say(text: bytes) -> None:
            client.send(STDIN, text)
            client.expect(text)

        say(b"first\n")
        resource.prlimit(monitor.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        for number in range(30):
            say(b"line %d\n" % number)
        resource.prlimit(monitor.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        say(b"last\n")
        client.send(STDIN)
        log = client.read_to_end()["log"]
    found = texts(monitor)
    assert (found[0], found[-1]) == ("first\n", "last\n")
    assert found[1:-1] == [f"line {number}\n" for number in range(len(found) - 2)]
    assert (log["complete"], log["error"], log["lost"]) == (False, "File too large", 32 - len(found))
    assert log["lost"] > 0


def test_rotation_that_fails(programs: Path, tmp_path: Path) -> None:
    """The log grows on rather than to end."""
    (tmp_path / "log.new").mkdir()
    with running(programs, tmp_path, ["seq", "100"], "--log-max-size", "500", "--log-max-files", "3") as monitor:
        log = monitor.exit()["log"]
    assert log == {"complete": True, "lost": 0, "error": "Is a directory"}
    assert [int(text) for text in texts(monitor)] == list(range(1, 101))


def test_current_file_removed_by_somebody(programs: Path, tmp_path: Path) -> None:
    with running(programs, tmp_path, ["cat"], "--stdin-once", "--log-max-size", "150", "--log-max-files", "9") as monitor:
        client = monitor.attach(ALL | HOLD)
        for text in (b"one\n", b"two\n", b"three\n", b"four\n"):
            client.send(STDIN, text)
            client.expect(text)
            if text == b"one\n":
                monitor.log.unlink()
        client.send(STDIN)
        client.read_to_end()
    assert texts(monitor)[-2:] == ["three\n", "four\n"]


@pytest.mark.parametrize("bad", ["fifo", "folder", "missing/log"])
def test_log_that_cannot_be(programs: Path, tmp_path: Path, bad: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    become_subreaper()
    told = start(programs, tmp_path, ["true"], "--log-format", "cri", "--log-path", str(tmp_path / bad))
    assert told["error"].startswith("cannot open the log: ")
    wait_until(lambda: {path.name for path in tmp_path.iterdir()} == {"fifo", "folder"})


def test_copied_and_cut_by_somebody(programs: Path, tmp_path: Path) -> None:
    """As logrotate's copytruncate does it."""
    with running(programs, tmp_path, ["cat"], "--stdin") as monitor:
        client = monitor.attach()
        for text in (b"one\n", b"two\n"):
            client.send(STDIN, text)
            client.expect(text)
            if text == b"one\n":
                os.truncate(monitor.log, 0)
        wait_until(lambda: texts(monitor) == ["two\n"])
        os.kill(monitor.process, signal.SIGKILL)
