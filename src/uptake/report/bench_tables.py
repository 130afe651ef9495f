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
from uptake.evaluate.scoreboard import Cell, RatingCorrelations, Scoreboard
from uptake.report.charts import Axis, nice_axis
from uptake.report.text import RANGE, number, percent, score

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
    """One kind of figure, for the contestants that have any; a main one is also drawn.

    `means` are over all rows, for contestants that have a figure in every one.
    """

    title: str
    about: str
    main: bool
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    means: Mapping[str, float]
    scale: Scale
    axis: Axis


def tables(board: Scoreboard) -> tuple[Table, ...]:
    """The headline figures: pairs, ratings, best of n, each with what is read beside it; those that have rows."""
    pairs, ratings, picks = (
        partial(_table, board, SHARES),
        partial(_table, board, CORRELATIONS),
        partial(_table, board, PICKS),
    )
    made = (
        pairs(_accuracy, "Pairs", "How often the response that people prefer scores higher.", main=True),
        pairs(_like_length, "Pairs of like length", "The same where lengths differ by a fifth at most."),
        pairs(_even, "Pairs that people call even", "How often one has the smaller margin, beside another pair."),
        ratings(_ratings, "Ratings", "Pearson correlation of scores with ratings.", main=True),
        ratings(_systems, "Systems", "Spearman correlation of the systems' mean scores and mean ratings."),
        picks(_picks, "Best of n", "How often the response that scores highest is one of the best.", main=True),
        ratings(_gains, "Gain of the pick", "What picking by score gains: 0 is a random pick, 1 the best response."),
    )
    return tuple(table for table in made if table.rows)


def parts(board: Scoreboard) -> tuple[Table, ...]:
    """The same figures by every part of a benchmark, and the other correlations."""
    made = (
        _table(board, SHARES, partial(_by_group, kind=Agreement), "Pairs, by group"),
        _table(board, PICKS, partial(_by_group, kind=BestOfN), "Best of n, by group"),
        *(
            _table(board, CORRELATIONS, partial(_by_quality, name=name), name.capitalize())
            for name in ("pearson", "spearman", "kendall")
        ),
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


def _table(
    board: Scoreboard,
    scale: Scale,
    figures: Callable[[Cell], Figures],
    title: str,
    about: str = "",
    *,
    main: bool = False,
) -> Table:
    rows: dict[str, dict[str, Estimate]] = {}
    for benchmark, cells in board.cells.items():
        for name, cell in cells.items():
            for part, found in figures(cell):
                rows.setdefault(f"{benchmark}, {part}" if part else benchmark, {})[name] = found
    shown = {
        name: label for name, label in labels(board.contestants).items() if any(name in row for row in rows.values())
    }
    values = {name: [row[name].value for row in rows.values() if name in row] for name in shown}
    known = {name: [value for value in given if value is not None] for name, given in values.items()}
    ends = [end for row in rows.values() for each in row.values() for end in (each.value, each.low, each.high)]
    return Table(
        title,
        about,
        main,
        tuple(shown.values()),
        tuple(TableRow(label, _entries([row.get(name) for name in shown], scale)) for label, row in rows.items()),
        {shown[name]: fmean(given) for name, given in known.items() if len(given) == len(rows)},
        scale,
        scale.axis([end for end in ends if end is not None]),
    )


def _entries(row: Sequence[Estimate | None], scale: Scale) -> tuple[Entry | None, ...]:
    given = [each for each in row if each is not None]
    values = [each.value for each in given if each.value is not None]
    top, most = max(values) if len(values) > 1 else None, max(each.n for each in given)
    return tuple(None if each is None else _entry(each, scale, top, most) for each in row)


def _entry(estimate: Estimate, scale: Scale, top: float | None, most: int) -> Entry:
    """A figure of fewer rows than another one of its line says so."""
    if estimate.value is None:
        return Entry(estimate, "undefined", estimate.reason, False)
    ends = [scale.show(end) for end in (estimate.low, estimate.high) if end is not None]
    between = scale.between.join((ends[0].removesuffix("%"), ends[1])) if ends else ""
    fewer = f"n {number(estimate.n)}" if estimate.n < most else ""
    return Entry(estimate, scale.show(estimate.value), ", ".join(filter(None, (between, fewer))), estimate.value == top)


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
    rated = [each for each in cell.figures if isinstance(each, RatingCorrelations)]
    parts_ = [", ".join(filter(None, (each.level, each.group, each.quality))) for each in rated]
    return [(part, getattr(each.correlations, name)) for part, each in zip(parts_, rated, strict=True)]


def _foremost(cell: Cell) -> list[RatingCorrelations]:
    """What stands for each level of a rating benchmark: its quality "overall", or else the first, in all groups."""
    found: dict[str, RatingCorrelations] = {}
    for each in cell.figures:
        if (
            isinstance(each, RatingCorrelations)
            and not each.group
            and (each.level not in found or each.quality == "overall")
        ):
            found[each.level] = each
    return list(found.values())
