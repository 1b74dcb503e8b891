"""What is told about a long piece of work while it goes on."""

from collections.abc import Callable
from typing import Literal, NamedTuple


class Progress(NamedTuple):
    """``done`` of ``total`` bytes of the blob ``digest``; ``total`` 0: not known. ``done`` as ``what``: the blob is complete."""

    what: Literal["resolve", "download", "upload", "unpack", "done"]
    digest: str
    done: int = 0
    total: int = 0


Report = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """Where nobody wants to know."""
