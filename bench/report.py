# SPDX-License-Identifier: Apache-2.0
"""Figures for people (a table, a chart) and for machines (JSON)."""

import json
import platform
import time
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.timing import Figure


def ratio(figure: Figure, figures: list[Figure]) -> float | None:
    """How many times its floor a figure is; None without one."""
    floor = next((other for other in figures if other.name == figure.floor), None)
    return figure.median / floor.median if floor and floor.median else None


def digits(value: float) -> str:
    """A number with as many digits as can mean something: all before the point, at least two in all."""
    return f"{value:.2g}" if 0 < value < 10 else f"{value:.0f}"


def show(figures: list[Figure]) -> None:
    """The table on stdout."""
    table = Table("what", box=box.SIMPLE_HEAD)
    for heading in ("median", "±", "n", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column("of")
    for figure in figures:
        times = ratio(figure, figures)
        cells = [f"{digits(figure.median)} {figure.unit}", digits(figure.spread), str(len(figure.samples))]
        table.add_row(figure.name, *cells, f"{times:.2f}" if times else "", figure.floor if times else "")
    Console(width=None if Console().is_terminal else 160).print(table)


def write_json(figures: list[Figure], path: Path, about: dict[str, str]) -> None:
    """Every sample, with the ratios."""
    rows: list[dict[str, Any]] = [
        {**figure._asdict(), "median": figure.median, "spread": figure.spread, "ratio": ratio(figure, figures)}
        for figure in figures
    ]
    host = {"kernel": platform.release(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **about}
    path.write_text(json.dumps({"host": host, "figures": rows}, indent=2) + "\n")


def write_chart(figures: list[Figure], path: Path) -> None:
    """Times as bars, in a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    timed = [figure for figure in figures if figure.unit == "ms"]
    size = (9, 1 + 0.35 * len(timed))
    figure_, axes = pyplot.subplots(figsize=size, layout="constrained")
    names = [figure.name for figure in reversed(timed)]
    colours = ["#3b6ea8" if "runv" in name else "#b0b7bf" for name in names]
    bars = axes.barh(
        names, [f.median for f in reversed(timed)], xerr=[f.spread for f in reversed(timed)], color=colours
    )
    axes.bar_label(bars, fmt="%.0f", padding=4)
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds, median and half of the distance between the quartiles")
    axes.spines[["top", "right"]].set_visible(False)
    figure_.savefig(path, dpi=150)
