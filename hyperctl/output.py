"""What is printed: tables for people, and JSON, YAML or a template for machines. rich is imported only for a table on a terminal."""

import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hyperctl.errors import CtlError

if TYPE_CHECKING:
    from rich.table import Table

KINDS = ("table", "json", "yaml")
SHORT_ID = 12
_GAP = 3
# So many letters of a column are left where the terminal is narrow.
_LEAST = 8
# What text of others could do to a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STATES = {"running": "green", "paused": "yellow", "failed": "red", "starting": "cyan", "stopping": "cyan", "waiting": "yellow"}


class Column(NamedTuple):
    """``cell`` makes the text of a record. ``keep``: never cut where the terminal is narrow."""

    heading: str
    cell: Callable[[Any], str]
    keep: bool = False
    right: bool = False


def records(rows: Sequence[Any], columns: Sequence[Column], kind: str | None, *, no_trunc: bool = False) -> None:
    """Prints records as ``--format`` says; as a table where it says nothing."""
    if not kind or kind == "table":
        table([c.heading for c in columns], [[c.cell(row) for c in columns] for row in rows], columns, no_trunc=no_trunc)
    else:
        value(list(rows), kind)


def value(found: Any, kind: str) -> None:
    """Prints a record, or a list of them, as JSON, YAML or by a template (a line for each record)."""
    if kind == "json":
        out(json.dumps(found, indent=2, ensure_ascii=False))
    elif kind == "yaml":
        out(yaml_text(found))
    elif "{{" in kind:
        _by_template(found if isinstance(found, list) else [found], kind)
    else:
        raise CtlError(f"format {kind!r}: not understood", hint="it is table, json, yaml or a template such as '{{.Name}}'", exit_code=2)


def yaml_text(found: Any) -> str:
    """Block style, in the order that the daemon has."""
    import yaml

    return str(yaml.safe_dump(found, sort_keys=False, allow_unicode=True, default_flow_style=False)).rstrip("\n")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[Column] = (), *, no_trunc: bool = False) -> None:
    """On a terminal it fits the width; elsewhere its columns are as wide as they must be."""
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        drawn = rich_table(headings, rows, columns, width=console.width, no_trunc=no_trunc)
        # Where even that does not fit, the terminal may fold it: nothing that matters is lost.
        console.width = max(console.width, sum(column.width or 0 for column in drawn.columns) + _GAP * len(headings))
        console.print(drawn, crop=False, soft_wrap=True)
        return
    lines = [[clean(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        out((" " * _GAP).join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def out(text: str) -> None:
    """A line on the standard output."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A line on the standard error: what a script does not want to read."""
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def tell_if_starting(name: str, found: Any) -> None:
    """Nobody is left to wonder why a pod that was started does not run yet."""
    if isinstance(found, dict) and found.get("state") == "starting":
        note(f"hyperctl: {name} is still starting: {found.get('reason') or 'it waits'}")


def clean(text: str) -> str:
    """Without what would move the cursor or set colours."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def short(identifier: str) -> str:
    """An id as tables show it."""
    return identifier.removeprefix("sha256:")[:SHORT_ID]


def _by_template(rows: Sequence[Any], text: str) -> None:
    from hyperctl import template

    parsed = template.parse(text)
    lines = [template.render(parsed, row) for row in rows]
    if parsed.table:
        table(template.columns(parsed), [_fill(line.split("\t"), len(template.columns(parsed))) for line in lines])
        return
    for line in lines:
        out(line)


def _fill(cells: list[str], count: int) -> list[str]:
    return (cells + [""] * count)[:count]


def rich_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[Column] = (), *, width: int = 0, no_trunc: bool = False
) -> "Table":
    """For a terminal of so many columns. What does not fit is cut with an ellipsis."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    known = [columns[index] if index < len(columns) else Column(heading, str) for index, heading in enumerate(headings)]
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    if not no_trunc:
        widths = fit(widths, [column.keep for column in known], width - _GAP * (len(widths) - 1))
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading, column, cells in zip(headings, known, widths, strict=True):
        drawn.add_column(heading, no_wrap=True, overflow="ellipsis", justify="right" if column.right else "left", width=cells)
    for row in rows:
        drawn.add_row(*(Text(clean(cell), style=_STATES.get(cell.partition(" ")[0], "")) for cell in row))
    return drawn


def fit(widths: Sequence[int], keep: Sequence[bool], room: int) -> list[int]:
    """Widths that take no more room, as far as that can be: the widest column that may be cut gives way first, and each keeps a few letters."""
    found = list(widths)
    while sum(found) > room:
        widest = max((index for index, kept in enumerate(keep) if not kept and found[index] > _LEAST), key=lambda index: found[index], default=None)
        if widest is None:
            break
        found[widest] -= 1
    return found
