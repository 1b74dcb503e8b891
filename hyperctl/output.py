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

        console = Console(highlight=False, soft_wrap=no_trunc)
        console.print(rich_table(headings, rows, columns, no_trunc=no_trunc), crop=not no_trunc)
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


def rich_table(headings: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[Column] = (), *, no_trunc: bool = False) -> "Table":
    """For a terminal. What does not fit is cut with an ellipsis, but for the columns that are kept."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, width=sum(widths) + 2 * len(widths) if no_trunc else None)
    for index, heading in enumerate(headings):
        column = columns[index] if index < len(columns) else Column(heading, str)
        least = widths[index] if no_trunc or column.keep else None
        drawn.add_column(heading, no_wrap=True, overflow="ellipsis", justify="right" if column.right else "left", min_width=least)
    for row in rows:
        drawn.add_row(*(Text(clean(cell), style=_STATES.get(cell.partition(" ")[0], "")) for cell in row))
    return drawn
