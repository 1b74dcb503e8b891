"""The text of kernel configurations: what fragments ask for, and what a finished configuration says.

Pure; build.py reads and writes the files. A symbol is asked for once, in a group with its reason above.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ASSIGNMENT = re.compile(r"(CONFIG_\w+)=(.+)")
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")


class BuildError(Exception):
    """One sentence for the user. ``hint`` says what to do, where there is something to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Request:
    """A symbol, the value a fragment asks for (``n`` for "is not set"), and where it says so."""

    symbol: str
    value: str
    fragment: str
    line: int

    @property
    def place(self) -> str:
        """``net.config:12``."""
        return f"{self.fragment}:{self.line}"


def parse_line(line: str) -> tuple[str, str] | None:
    """Symbol and value of a line of a configuration, None for any other line."""
    if match := _ASSIGNMENT.fullmatch(line):
        return match[1], match[2]
    if match := _UNSET.fullmatch(line):
        return match[1], "n"
    return None


def parse_fragment(name: str, text: str) -> list[Request]:
    """The requests of a fragment. Each group of them, up to an empty line, begins with the reason for it."""
    requests: list[Request] = []
    explained = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            explained = False
        elif found := parse_line(line):
            if not explained:
                raise BuildError(f"{name}:{number}: {found[0]} stands in a group without a comment above it")
            requests.append(Request(*found, name, number))
        elif line.startswith("# "):
            explained = True
        else:
            raise BuildError(f"{name}:{number}: not a comment and not a symbol: {line}")
    return requests


def parse_config(text: str) -> dict[str, str]:
    """What a finished ``.config`` says, including what it says is not set."""
    return dict(found for line in text.splitlines() if (found := parse_line(line)))


def reject_repeats(requests: Sequence[Request]) -> None:
    """Each symbol has one home: a second mention is a contradiction today or tomorrow."""
    seen: dict[str, Request] = {}
    for request in requests:
        if first := seen.get(request.symbol):
            raise BuildError(f"{request.symbol} is asked for twice: {first.place} and {request.place}")
        seen[request.symbol] = request


def lost_symbols(requests: Sequence[Request], final: Mapping[str, str]) -> list[str]:
    """A sentence for each request that the finished configuration does not honour."""
    return [
        f"{request.symbol}={request.value} ({request.place}) became {final.get(request.symbol, 'unavailable')}"
        for request in requests
        if final.get(request.symbol, "n") != request.value
    ]
