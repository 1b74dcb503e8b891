"""How far a transfer is: bars on a terminal, a line for each thing done elsewhere. Lines of the API in, its last line out."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hyperctl.humans import show_size
from hyperctl.output import note, short

if TYPE_CHECKING:
    from rich.progress import Progress

_VERBS = {"resolve": "looking for", "download": "downloading", "unpack": "unpacking", "upload": "uploading", "done": "done"}


def _thing(name: str) -> str:
    """What a line is about: a blob by its digest, or, while that is still looked for, an image by its name."""
    return short(name) if name.startswith("sha256:") else name


def follow(lines: Iterable[Any], *, quiet: bool = False) -> dict[str, Any]:
    """Shows the progress on the standard error. The last line that is no progress, which says what came of it."""
    result: dict[str, Any] = {}
    with _shown(quiet) as show:
        for line in lines:
            if isinstance(line, dict) and isinstance(line.get("progress"), dict):
                show.update(line["progress"])
            elif isinstance(line, dict):
                result = line
    return result


@contextmanager
def sending(total: int, what: str, *, quiet: bool = False) -> Iterator["Show"]:
    """Within it, ``advance`` says how much was sent."""
    with _shown(quiet) as show:
        show.begin(what, total)
        yield show


class Show:
    """Shows nothing."""

    def update(self, line: dict[str, Any]) -> None:
        """One line of the API's."""

    def begin(self, what: str, total: int) -> None:
        """Something that is done in one go."""

    def advance(self, count: int) -> None:
        """So many bytes of it more."""


class Plain(Show):
    """A line when something begins to be done, none while it goes on."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def update(self, line: dict[str, Any]) -> None:
        what, digest = str(line.get("what", "")), str(line.get("digest") or "")
        if (what, digest) not in self._said:
            self._said.add((what, digest))
            total = line.get("total") or 0
            note(f"{_thing(digest) or 'image'}: {_VERBS.get(what, what)}{f' {show_size(total)}' if total else ''}")


class Bars(Show):
    """One bar for each digest."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}
        self._totals: dict[str, int] = {}

    def update(self, line: dict[str, Any]) -> None:
        what, digest = str(line.get("what", "")), str(line.get("digest") or "")
        text = f"{_thing(digest)} {_VERBS.get(what, what)}".strip()
        total, done = line.get("total") or None, line.get("done") or 0
        if total:
            self._totals[digest] = total
        if digest not in self._tasks:
            self._tasks[digest] = self._progress.add_task(text, total=total)
        if what == "done":
            whole = self._totals.get(digest, 1)
            self._progress.update(self._tasks[digest], description=text, total=whole, completed=whole)
        else:
            self._progress.update(self._tasks[digest], description=text, total=total, completed=done)

    def begin(self, what: str, total: int) -> None:
        self._tasks[""] = self._progress.add_task(what, total=total or None)

    def advance(self, count: int) -> None:
        self._progress.advance(self._tasks[""], count)


@contextmanager
def _shown(quiet: bool) -> Iterator[Show]:
    if quiet:
        yield Show()
    elif not sys.stderr.isatty():
        yield Plain()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
            yield Bars(progress)
