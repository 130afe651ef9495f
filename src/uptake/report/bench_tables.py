"""A scoreboard as tables, for the page and for Markdown: a row a benchmark or a part of one, a column a contestant."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from uptake.evaluate import Share
from uptake.evaluate.agreement import Agreement
from uptake.evaluate.best_of_n import BestOfN
from uptake.evaluate.bootstrap import Estimate
from uptake.evaluate.scoreboard import Cell, Rated, Scoreboard
from uptake.report.charts import Axis, nice_axis
from uptake.report.text import RANGE, percent, score

# Figures of a cell by the part of the benchmark that they are of; the name of all of it is empty.
Figures = Iterable[tuple[str, Estimate]]


@dataclass(frozen=True, slots=True)
class Scale:
    """How a kind of figure is written and drawn: `chance` is what a coin would get, `ends` those of its axis."""

    show: Callable[[float], str]
    between: str
    chance: float | None
    ends: tuple[float, float] | None = None

    def axis(self, values: Sequence[float]) -> Axis:
        return Axis(*self.ends) if self.ends else nice_axis([0.0, *values])


SHARES = Scale(percent, RANGE, 0.5, (0.0, 1.0))
PICKS = Scale(percent, RANGE, None, (0.0, 1.0))
CORRELATIONS = Scale(score, " to ", 0.0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One figure as text, with its interval; `best` of its row. A figure that is undefined says why."""

    estimate: Estimate
    text: str
    range: str
    best: bool


@dataclass(frozen=True, slots=True)
class TableRow:
    """A benchmark or a part of it, with an entry a contestant: None where it has no figure."""

    label: str
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of figure; `means` are over all rows, for contestants that have a figure in every one."""

    title: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    means: Mapping[str, float]
    scale: Scale
    axis: Axis


def tables(board: Scoreboard) -> tuple[Table, ...]:
    """The headline figures: pairs, pairs of like length, ratings, systems, best of n; those that have rows."""
    made = (
        _table(board, "Pairs", "How often the response that people prefer scores higher.", SHARES, _accuracy),
        _table(
            board, "Pairs of like length", "The same where lengths differ by a fifth at most.", SHARES, _like_length
        ),
        _table(
            board,
            "Pairs that people call even",
            "How often one has the smaller margin, beside another pair.",
            SHARES,
            _even,
        ),
        _table(board, "Ratings", "Pearson correlation of scores with ratings.", CORRELATIONS, _ratings),
        _table(
            board, "Systems", "Spearman correlation of the systems' mean scores and ratings.", CORRELATIONS, _systems
        ),
        _table(board, "Best of n", "How often the response that scores highest is one of the best.", PICKS, _picks),
        _table(
            board, "Gain of the pick", "Its quality: 0 is a random pick, 1 the best response.", CORRELATIONS, _gains
        ),
    )
    return tuple(table for table in made if table.rows)


def parts(board: Scoreboard) -> tuple[Table, ...]:
    """The same figures by every part of a benchmark, and the other correlations."""
    correlations = (
        _table(board, name.capitalize(), "", CORRELATIONS, partial(_by_quality, name=name))
        for name in ("pearson", "spearman", "kendall")
    )
    made = (
        _table(board, "Pairs, by group", "", SHARES, partial(_by_group, kind=Agreement)),
        _table(board, "Best of n, by group", "", PICKS, partial(_by_group, kind=BestOfN)),
        *correlations,
    )
    return tuple(table for table in made if table.rows)


def spelled(entry: Entry | None) -> str:
    """A figure with its interval, on one line."""
    if entry is None:
        return ""
    return f"{entry.text} ({entry.range})" if entry.range else entry.text


def labels(names: Iterable[str]) -> dict[str, str]:
    """Contestants as a table heads them: a path is cut to its last part, where that tells them apart."""
    short = {}
    for name in names:
        kind, found, path = name.partition(":")
        short[name] = f"{kind}:{Path(path).name}" if found else name
    often = Counter(short.values())
    return {name: label if often[label] == 1 else name for name, label in short.items()}


def _table(board: Scoreboard, title: str, about: str, scale: Scale, figures: Callable[[Cell], Figures]) -> Table:
    shown = labels(board.contestants)
    rows: dict[str, dict[str, Estimate]] = {}
    for benchmark, cells in board.cells.items():
        for name, cell in cells.items():
            for part, found in figures(cell):
                rows.setdefault(f"{benchmark}, {part}" if part else benchmark, {})[name] = found
    values = {name: [row[name].value for row in rows.values() if name in row] for name in shown}
    known = {name: [value for value in given if value is not None] for name, given in values.items()}
    return Table(
        title,
        about,
        tuple(shown.values()),
        tuple(TableRow(label, _entries([row.get(name) for name in shown], scale)) for label, row in rows.items()),
        {shown[name]: fmean(given) for name, given in known.items() if len(given) == len(rows) > 0},
        scale,
        scale.axis([value for given in known.values() for value in given]),
    )


def _entries(row: Sequence[Estimate | None], scale: Scale) -> tuple[Entry | None, ...]:
    values = [each.value for each in row if each is not None and each.value is not None]
    top = max(values) if len(values) > 1 else None
    return tuple(None if each is None else _entry(each, scale, top) for each in row)


def _entry(estimate: Estimate, scale: Scale, top: float | None) -> Entry:
    if estimate.value is None:
        return Entry(estimate, "undefined", estimate.reason, False)
    low, high = estimate.low, estimate.high
    between = (
        "" if low is None or high is None else f"{scale.show(low).removesuffix('%')}{scale.between}{scale.show(high)}"
    )
    return Entry(estimate, scale.show(estimate.value), between, estimate.value == top)


def _of(share: Share) -> Estimate:
    return Estimate(share.rate, share.low, share.high, share.n)


def _accuracy(cell: Cell) -> Figures:
    return [("", _of(each.accuracy.plain)) for each in cell.figures if isinstance(each, Agreement)]


def _like_length(cell: Cell) -> Figures:
    matched = [each.accuracy.length_matched for each in cell.figures if isinstance(each, Agreement)]
    return [("", _of(share)) for share in matched if share is not None]


def _even(cell: Cell) -> Figures:
    told = [(each.ties_told, each.human_ties) for each in cell.figures if isinstance(each, Agreement)]
    return [("", Estimate(share, None, None, ties)) for share, ties in told if share is not None]


def _ratings(cell: Cell) -> Figures:
    return [(f"{each.level}, {each.quality}", each.correlations.pearson) for each in _foremost(cell)]


def _systems(cell: Cell) -> Figures:
    ranked = [(f"{each.level}, {each.quality}", each.systems) for each in _foremost(cell)]
    return [(part, systems.spearman) for part, systems in ranked if systems is not None]


def _picks(cell: Cell) -> Figures:
    return [("", _of(each.best)) for each in cell.figures if isinstance(each, BestOfN)]


def _gains(cell: Cell) -> Figures:
    return [("", each.gain) for each in cell.figures if isinstance(each, BestOfN)]


def _by_group(cell: Cell, kind: type[Agreement] | type[BestOfN]) -> Figures:
    shares = [each.by_group for each in cell.figures if isinstance(each, kind)]
    return [(group, _of(share)) for groups in shares for group, share in groups.items()]


def _by_quality(cell: Cell, name: str) -> Figures:
    rated = [each for each in cell.figures if isinstance(each, Rated)]
    parts_ = [", ".join(filter(None, (each.level, each.group, each.quality))) for each in rated]
    return [(part, getattr(each.correlations, name)) for part, each in zip(parts_, rated, strict=True)]


def _foremost(cell: Cell) -> list[Rated]:
    """What stands for each level of a rating benchmark: its quality "overall", or else the first, in all groups."""
    found: dict[str, Rated] = {}
    for each in cell.figures:
        if isinstance(each, Rated) and not each.group and (each.level not in found or each.quality == "overall"):
            found[each.level] = each
    return list(found.values())
