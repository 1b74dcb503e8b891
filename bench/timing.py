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
