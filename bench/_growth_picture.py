"""Picture of how cost grows with the context: how many times the trees' time a way by hand takes, and its memory."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, ScalarFormatter

STYLE: Any = {"font.size": 9.0, "svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "uptake"}
STYLE |= {"axes.spines.top": False, "axes.spines.right": False}
COLORS = {"trees": "#0b6e4f", "dense row": "#b3541e", "cache": "#4a5a8a"}
LINES = {"120": "-", "24": "--"}
_NUMBER = re.compile(r"[\d.,]+")


def draw(rows: Sequence[Mapping[str, str]], model: str, path: Path) -> None:
    """Draw the lines of a model's follow-ups, by the length of their context."""
    found = [row for row in rows if row["model"] == model and "follow-ups after" in row["work"]]
    with rc_context(STYLE):
        figure = Figure(figsize=(7.4, 3.5), layout="constrained")
        times, memory = figure.subplots(1, 2)
        for count, style in LINES.items():
            some = [row for row in found if row["work"].startswith(f"{count} ")]
            for name in ("dense row", "cache"):
                _line(times, some, name, f"{name} / trees", count, style)
            for name, column in (("trees", "MB: trees"), ("dense row", "dense row"), ("cache", "cache")):
                _line(memory, some, name, column, count, style)
        times.axhline(1, color=COLORS["trees"], linewidth=1)
        times.set_ylabel("times as long as token trees")
        memory.set_ylabel("MB above the model")
        memory.set_yscale("log")
        contexts = sorted({_context(row) for row in found})
        for axes in (times, memory):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(contexts))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.minorticks_off()
            axes.set_xlabel("tokens of the context")
        labels = memory.get_legend_handles_labels()
        figure.legend(*labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        figure.savefig(path, facecolor="white", metadata={"Date": None})


def _line(axes: Axes, rows: Sequence[Mapping[str, str]], name: str, column: str, count: str, style: str) -> None:
    points = sorted((_context(row), _first(row[column])) for row in rows if row[column])
    if points:
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, style, color=COLORS[name], marker="o", markersize=3, label=f"{name}, {count} follow-ups")


def _context(row: Mapping[str, str]) -> int:
    return int(row["work"].rsplit(" ", 1)[1])


def _first(cell: str) -> float:
    """The number that a cell begins with: 1234.5 of "1,234.5 (1,200 to 1,250)"."""
    number = _NUMBER.match(cell)
    assert number is not None
    return float(number[0].replace(",", ""))
