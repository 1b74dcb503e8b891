# SPDX-License-Identifier: Apache-2.0
"""Taking samples in turns, and what is said of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple


class BenchError(Exception):
    """Something could not be measured."""


class Figure(NamedTuple):
    """What was measured of one subject. ``unit`` is ``ms``, ``MB/s`` or ``KB``; ``floor`` names the figure it is a ratio of, and may be empty."""

    name: str
    unit: str
    samples: tuple[float, ...]
    floor: str = ""

    @property
    def median(self) -> float:
        """The median of the samples."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles; 0 for a single sample."""
        if len(self.samples) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (third - first) / 2


class Subject(NamedTuple):
    """Something to time. ``work`` is timed as a whole, unless it returns a number of its own; ``before`` and ``after`` are not."""

    name: str
    work: Callable[[], float | None]
    floor: str = ""
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None


def in_turns(subjects: list[Subject], count: int, tick: Callable[[], None]) -> list[Figure]:
    """Times each ``count`` times, one after the other in every round, so that what else the machine does meets all. A round before is not counted:
    it fills caches."""
    samples: Mapping[str, list[float]] = {subject.name: [] for subject in subjects}
    for number in range(count + 1):
        for subject in subjects:
            took = _once(subject)
            if number:
                samples[subject.name].append(took)
            tick()
    return [Figure(subject.name, "ms", tuple(samples[subject.name]), subject.floor) for subject in subjects]


def _once(subject: Subject) -> float:
    subject.before()
    try:
        begin = time.monotonic()
        own = subject.work()
        took = time.monotonic() - begin
    finally:
        subject.after()
    return (took if own is None else own) * 1000


class Measure(NamedTuple):
    """One of several things that a subject reports of itself: the ``key`` it reports it under, what it is, and its unit."""

    key: str
    what: str
    unit: str


def in_pairs(
    name: str,
    floor: str,
    works: tuple[Callable[[], dict[str, float]], Callable[[], dict[str, float]]],
    measures: list[Measure],
    count: int,
    tick: Callable[[], None],
) -> list[Figure]:
    """Runs the works of the subject called ``name`` and of its floor in turns, ``count`` times each after a round that does not count; each reports
    all ``measures``."""
    reports: list[tuple[dict[str, float], dict[str, float]]] = []
    for _ in range(count + 1):
        reports.append((works[0](), works[1]()))
        tick()
    figures = []
    for key, what, unit in measures:
        ours, theirs = (tuple(pair[side][key] for pair in reports[1:]) for side in range(2))
        figures += [Figure(f"{floor}: {what}", unit, theirs), Figure(f"{name}: {what}", unit, ours, f"{floor}: {what}")]
    return figures


def parse_report(text: str) -> dict[str, float]:
    """Lines of a word and a number each.

    :raise BenchError: there is something else
    """
    found = {}
    for line in text.splitlines():
        try:
            key, value = line.split()
            found[key] = float(value)
        except ValueError:
            raise BenchError(f"the probe says: {line}") from None
    return found
