"""Tables of bench results, for page and Markdown: a row for a benchmark or a part of one, a column for a scorer."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from uptake.evaluate import Share
from uptake.evaluate.agreement import Agreement
from uptake.evaluate.bench_results import UNJUDGED, BenchResults, RatingCorrelations, Result
from uptake.evaluate.best_of_n import BestOfN
from uptake.evaluate.bootstrap import Estimate
from uptake.report.charts import ChartAxis, nice_axis
from uptake.report.text import RANGE, number, percent, score

# Figures of a result by the part of the benchmark that they are of; the name of all of it is empty.
Figures = Iterable[tuple[str, Estimate]]


@dataclass(frozen=True, slots=True)
class Scale:
    """Scale of a kind of figure: how it is written, what `chance` a coin has, and the `ends` of its axis."""

    show: Callable[[float], str]
    between: str
    chance: float | None
    ends: tuple[float, float] | None = None

    def axis(self, values: Sequence[float]) -> ChartAxis:
        return ChartAxis(*self.ends) if self.ends else nice_axis([0.0, *values])


SHARES = Scale(percent, RANGE, 0.5, (0.0, 1.0))
PICKS = Scale(percent, RANGE, None, (0.0, 1.0))
CORRELATIONS = Scale(score, " to ", 0.0)


@dataclass(frozen=True, slots=True)
class Entry:
    """Entry of a table: a figure as text, with its interval; `best` of its row. One that is undefined says why."""

    estimate: Estimate
    text: str
    range: str
    best: bool


@dataclass(frozen=True, slots=True)
class TableRow:
    """Row of a table: a benchmark or a part of it, with an entry for each scorer; None where it has no figure."""

    label: str
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True, slots=True)
class BenchTable:
    """Table of one kind of figure, for the scorers that have any; a main one is also drawn.

    `means` are over all rows, for scorers that have a figure in every one.
    """

    title: str
    about: str
    main: bool
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    means: Mapping[str, float]
    scale: Scale
    axis: ChartAxis


def tables(results: BenchResults) -> tuple[BenchTable, ...]:
    """Tables of the headline figures that have rows: pairs, ratings, best of n, each with what is read beside it."""
    pairs, ratings, picks = (
        partial(_table, results, SHARES),
        partial(_table, results, CORRELATIONS),
        partial(_table, results, PICKS),
    )
    made = (
        pairs(_accuracy, "Pairs", "How often the response that people prefer scores higher.", kind="comparisons"),
        pairs(_like_length, "Pairs of like length", "The same where lengths differ by a fifth at most."),
        pairs(_orders, "Orders that agree", "How often a judge prefers the same response whichever it is shown first."),
        pairs(_longer, "Longer response", "How often a judge prefers the longer one, where lengths differ."),
        pairs(_even, "Pairs that people call even", "How often one has the smaller margin, beside another pair."),
        ratings(_ratings, "Ratings", "Pearson correlation of scores with ratings.", kind="ratings"),
        ratings(_systems, "Systems", "Spearman correlation of the systems' mean scores and mean ratings."),
        picks(_picks, "Best of n", "How often the response that scores highest is one of the best.", kind="candidates"),
        ratings(_gains, "Gain of the pick", "What picking by score gains: 0 is a random pick, 1 the best response."),
    )
    return tuple(table for table in made if table.rows)


def parts(results: BenchResults) -> tuple[BenchTable, ...]:
    """Tables by every part of a benchmark, with the other correlations."""
    made = (
        _table(results, SHARES, partial(_by_group, kind=Agreement), "Pairs, by group"),
        _table(results, PICKS, partial(_by_group, kind=BestOfN), "Best of n, by group"),
        *(
            _table(results, CORRELATIONS, partial(_by_quality, name=name), name.capitalize())
            for name in ("pearson", "spearman", "kendall")
        ),
    )
    return tuple(table for table in made if table.rows)


def spelled(entry: Entry | None) -> str:
    """Entry as one line: the figure with its interval."""
    if entry is None:
        return ""
    return f"{entry.text} ({entry.range})" if entry.range else entry.text


def labels(names: Iterable[str]) -> dict[str, str]:
    """Labels of scorers in the head of a table: a path is cut to its last part, where that tells them apart."""
    short = {}
    for name in names:
        kind, found, path = name.partition(":")
        short[name] = f"{kind}:{Path(path).name}" if found else name
    often = Counter(short.values())
    return {name: label if often[label] == 1 else name for name, label in short.items()}


def _table(
    results: BenchResults,
    scale: Scale,
    figures: Callable[[Result], Figures],
    title: str,
    about: str = "",
    *,
    kind: str = "",
) -> BenchTable:
    """Table of some figures; that of a `kind` of benchmark is a main one, in which every scorer of these stands."""
    rows: dict[str, dict[str, Estimate]] = {}
    for benchmark, by_scorer in results.by_benchmark.items():
        labels_: list[str] = []
        for name, result in by_scorer.items():
            for part, found in figures(result):
                labels_.append(f"{benchmark}, {part}" if part else benchmark)
                rows.setdefault(labels_[-1], {})[name] = found
        if results.benchmarks[benchmark].kind == kind:
            for name, nothing in _unjudged(by_scorer):
                for label in labels_ or [benchmark]:
                    rows.setdefault(label, {})[name] = nothing
    shown = {
        name: label for name, label in labels(results.scorers).items() if any(name in row for row in rows.values())
    }
    values = {name: [row[name].value for row in rows.values() if name in row] for name in shown}
    known = {name: [value for value in given if value is not None] for name, given in values.items()}
    ends = [end for row in rows.values() for each in row.values() for end in (each.value, each.low, each.high)]
    return BenchTable(
        title,
        about,
        bool(kind),
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
    if not estimate.n:
        return Entry(estimate, estimate.reason, "", False)
    if estimate.value is None:
        return Entry(estimate, "undefined", estimate.reason, False)
    ends = [scale.show(end) for end in (estimate.low, estimate.high) if end is not None]
    between = scale.between.join((ends[0].removesuffix("%"), ends[1])) if ends else ""
    fewer = f"n {number(estimate.n)}" if estimate.n < most else ""
    return Entry(estimate, scale.show(estimate.value), ", ".join(filter(None, (between, fewer))), estimate.value == top)


def _unjudged(by_scorer: Mapping[str, Result]) -> Figures:
    """A figure of no row for every scorer that could judge none."""
    for name, result in by_scorer.items():
        if result.note == UNJUDGED:
            yield name, Estimate(None, None, None, 0, f"0 of {sum(result.invalid.values())}")


def _of(share: Share) -> Estimate:
    return Estimate(share.rate, share.low, share.high, share.n)


def _accuracy(result: Result) -> Figures:
    return [("", _of(each.accuracy.plain)) for each in result.figures if isinstance(each, Agreement)]


def _like_length(result: Result) -> Figures:
    matched = [each.accuracy.length_matched for each in result.figures if isinstance(each, Agreement)]
    return [("", _of(share)) for share in matched if share is not None]


def _orders(result: Result) -> Figures:
    agreed = result.verdicts and result.verdicts.agreement
    return [("", _of(agreed))] if agreed else []


def _longer(result: Result) -> Figures:
    longer = result.verdicts and result.verdicts.longer_wins
    return [("", _of(longer))] if longer else []


def _even(result: Result) -> Figures:
    told = [(each.ties_told, each.human_ties) for each in result.figures if isinstance(each, Agreement)]
    return [("", Estimate(share, None, None, ties)) for share, ties in told if share is not None]


def _ratings(result: Result) -> Figures:
    return [(f"{each.level}, {each.quality}", each.correlations.pearson) for each in _foremost(result)]


def _systems(result: Result) -> Figures:
    ranked = [(f"{each.level}, {each.quality}", each.systems) for each in _foremost(result)]
    return [(part, systems.spearman) for part, systems in ranked if systems is not None]


def _picks(result: Result) -> Figures:
    return [("", _of(each.best)) for each in result.figures if isinstance(each, BestOfN)]


def _gains(result: Result) -> Figures:
    return [("", each.gain) for each in result.figures if isinstance(each, BestOfN)]


def _by_group(result: Result, kind: type[Agreement] | type[BestOfN]) -> Figures:
    shares = [each.by_group for each in result.figures if isinstance(each, kind)]
    return [(group, _of(share)) for groups in shares for group, share in groups.items()]


def _by_quality(result: Result, name: str) -> Figures:
    rated = [each for each in result.figures if isinstance(each, RatingCorrelations)]
    parts_ = [", ".join(filter(None, (each.level, each.group, each.quality))) for each in rated]
    return [(part, getattr(each.correlations, name)) for part, each in zip(parts_, rated, strict=True)]


def _foremost(result: Result) -> list[RatingCorrelations]:
    """What stands for each level of a rating benchmark: its quality "overall", or else the first, in all groups."""
    found: dict[str, RatingCorrelations] = {}
    for each in result.figures:
        if not isinstance(each, RatingCorrelations) or each.group:
            continue
        if each.level not in found or each.quality == "overall":
            found[each.level] = each
    return list(found.values())
