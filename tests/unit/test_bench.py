"""The parts of the benchmark that are arithmetic and text; `make bench` runs the others."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from bench import __main__ as command
from bench import census, pods, programs, report, usage
from bench.parts import PARTS, Part
from bench.timing import BenchError, Figure, Measure, Subject, in_pairs, in_turns, parse_report
from bench.world import Bench


def test_the_median_and_its_spread() -> None:
    assert Figure("one", "ms", (4.0,)).spread == 0
    figure = Figure("some", "ms", (1.0, 2.0, 3.0, 4.0, 100.0))
    assert (figure.median, figure.spread) == (3.0, 1.0)


def test_a_ratio_needs_its_floor() -> None:
    floor, figure = Figure("floor", "ms", (2.0,)), Figure("it", "ms", (5.0,), "floor")
    assert report.ratio(figure, [figure, floor]) == 2.5
    assert report.ratio(figure, [figure]) is None and report.ratio(floor, [figure, floor]) is None


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (0.034, "0.034"), (3.14, "3.1"), (99.6, "100"), (43700.0, "43700")])
def test_digits(value: float, text: str) -> None:
    assert report.digits(value) == text


def test_subjects_take_turns_and_a_first_round_does_not_count() -> None:
    said: list[str] = []
    before, after = lambda: said.append("before"), lambda: said.append("after")
    numbers = iter((0.001, 0.002, 0.003))
    subjects = [Subject("own", lambda: next(numbers), before=before, after=after), Subject("timed", lambda: said.append("work"))]
    own, timed = in_turns(subjects, 2, lambda: None)
    assert own.samples == (2.0, 3.0) and len(timed.samples) == 2
    assert said == ["before", "after", "work"] * 3


def test_what_failed_is_cleared_away_all_the_same() -> None:
    said: list[str] = []

    def fail() -> None:
        raise BenchError("no")

    with pytest.raises(BenchError):
        in_turns([Subject("it", fail, after=lambda: said.append("after"))], 1, lambda: None)
    assert said == ["after"]


def test_the_last_pods_are_compared_with_the_first() -> None:
    took = [100.0] * 10 + [500.0] * 80 + [120.0] * 10
    first, last, first_cpu, last_cpu, rate = pods.starts(took, [10.0] * 100)
    assert report.ratio(last, [first, last]) == pytest.approx(1.2)
    assert report.ratio(last_cpu, [first_cpu, last_cpu]) == 1
    assert rate.median == pytest.approx(60_000 * 100 / 42_200)
    assert [len(figure.samples) for figure in pods.starts([1.0], [1.0])] == [1] * 5


_SMAPS = """\
7f1000000000-7f1002000000 rwxp 00000000 00:00 0
Size:              32768 kB
Pss:               17800 kB
7f1010000000-7f1020000000 rw-p 00000000 00:1a 12                         /dev/shm/bench/templates/one/memory
Pss:                9360 kB
VmFlags: rd wr mr mw me ac
55d000000000-55d000100000 rw-p 00000000 00:00 0                          [heap]
Pss:                7000 kB
7f1030000000-7f1030100000 rw-p 00000000 00:00 0
Pss:                   4 kB
7f1040000000-7f1040100000 r--p 00000000 08:01 77                         /usr/lib/lib a.so
Pss:                 300 kB
7f1050000000-7f1050100000 rw-p 00000000 08:01 77                         /usr/lib/lib a.so
Pss:                  50 kB
"""


def test_memory_by_what_it_is() -> None:
    parts = usage.pss_parts(_SMAPS)
    assert parts == {"translated code": 17800, "guest memory": 9360, "heap": 7000, "anonymous": 4, "programs and libraries": 350}
    figures = {figure.name: figure for figure in pods.memory([("qemu", parts), ("bridge", {"heap": 86.0}), ("qemu", {"heap": 8000.0})], 2)}
    assert figures["PSS of qemu: heap, 2 pods"].samples == (7000, 8000)
    assert figures["PSS of qemu, 2 pods"].samples == (34514, 8000)
    assert figures["PSS of a pod, 2 pods"].samples == (21300,)


def test_a_census_sees_what_is_ours_only(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "@sandboxes").mkdir(parents=True)
    before = census.take("bench-no-", root)
    (root / "left").touch()
    (tmp_path / "other").touch()
    left = census.difference(before, census.take("bench-no-", root))
    assert left == [f"files: {root}/left"]


def test_json_has_every_sample(tmp_path: Path) -> None:
    figures = [Figure("floor", "ms", (2.0,)), Figure("it", "ms", (5.0, 7.0), "floor")]
    report.write_json(figures, tmp_path / "out.json", {"accelerator": "tcg"})
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["host"]["accelerator"] == "tcg"
    assert written["figures"][1] == {
        "name": "it", "unit": "ms", "samples": [5.0, 7.0], "floor": "floor", "median": 6.0, "spread": 0.5, "ratio": 3.0,
    }  # fmt: skip


def test_pairs_stand_beside_each_other() -> None:
    rounds = iter([(9.0, 9.0), (3.0, 6.0), (5.0, 10.0)])
    now = (0.0, 0.0)

    def ours() -> dict[str, float]:
        nonlocal now
        now = next(rounds)
        return {"read": now[0]}

    theirs, it = in_pairs("it", "floor", (ours, lambda: {"read": now[1]}), [Measure("read", "read 1 MB", "MB/s")], 2, lambda: None)
    assert theirs == ("floor: read 1 MB", "MB/s", (6.0, 10.0), "")
    assert it == ("it: read 1 MB", "MB/s", (3.0, 5.0), "floor: read 1 MB")


def test_a_report_is_words_and_numbers() -> None:
    assert parse_report("write 12.5\nstat 3\n") == {"write": 12.5, "stat": 3.0}
    with pytest.raises(BenchError, match="cannot measure: No space left on device"):
        parse_report("write 12.5\ncannot measure: No space left on device\n")


def test_the_probe_itself(tmp_path: Path) -> None:
    """On the host: what it reports of a folder, and what it says where it cannot."""
    probe = programs.build("probe", tmp_path)
    done = subprocess.run([probe, "files", tmp_path / "data", "1", "3"], capture_output=True, text=True, timeout=60, check=True)
    assert list(parse_report(done.stdout)) == ["write", "read", "create", "stat", "unlink"]
    assert list((tmp_path / "data").iterdir()) == []
    refused = subprocess.run([probe, "files", "/proc", "1", "3"], capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "probe: No such file or directory\n")


@pytest.mark.parametrize(("error", "word"), [(BenchError("a pod did not answer"), "a pod did not answer"), (KeyError("x"), "'x'")])
def test_a_part_that_fails_keeps_what_it_has_measured(monkeypatch: pytest.MonkeyPatch, error: Exception, word: str) -> None:
    def work(_: Bench) -> Iterator[Figure]:
        yield Figure("before", "ms", (1.0,))
        raise error

    monkeypatch.setitem(PARTS, "pods", Part("", work))
    figures: list[Figure] = []
    console = Console(file=io.StringIO())
    assert command.run_part("pods", cast(Bench, None), figures, console) == f"pods: {word}"
    assert [figure.name for figure in figures] == ["before"]
