"""The page of a bench, and the same figures as Markdown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from uptake.data.write import disk_errors, replacing
from uptake.evaluate import Share
from uptake.evaluate.accuracy import QUINTILES
from uptake.evaluate.agreement import Agreement
from uptake.evaluate.scoreboard import UNJUDGED, Confidence, Scoreboard, Timing
from uptake.report.bench_tables import Table, labels, parts, spelled, tables
from uptake.report.charts import Axis, Tick, nice_axis
from uptake.report.headline import Figure
from uptake.report.text import number, percent_tick
from uptake.report.write import environment

# Contestants that have a figure of their own on the first screen.
FIRST = 6


@dataclass(frozen=True, slots=True)
class Dot:
    """A place in percent of the plot, with the ends of its interval, if it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """A contestant's curve as geometry in percent; `figure` stands beside the title."""

    title: str
    figure: str
    gray: tuple[str, ...]
    line: str
    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    chance: float | None


@dataclass(frozen=True, slots=True)
class BenchPage:
    """What the template prints, top to bottom."""

    board: Scoreboard
    timing: Timing
    headline: str
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    parts: tuple[Table, ...]
    by_margin: tuple[Plot, ...]
    by_length: tuple[Plot, ...]
    confidence: tuple[Plot, ...]
    notes: tuple[str, ...]


def write_bench_report(board: Scoreboard, timing: Timing, folder: Path) -> None:
    """Write page.html and results.md to a folder; times are on the page only."""
    html = environment().get_template("bench.html.j2").render(page=bench_page(board, timing))
    for name, text in (("page.html", html), ("results.md", markdown(board))):
        with replacing(folder / name, overwrite=True) as temporary, disk_errors(folder / name):
            temporary.write_text(text, encoding="utf-8")


def bench_page(board: Scoreboard, timing: Timing) -> BenchPage:
    """Lay out a scoreboard for the template."""
    found = tables(board)
    return BenchPage(
        board=board,
        timing=timing,
        headline=headline(found),
        figures=tuple(_figures(found))[:FIRST] if found else (),
        tables=found,
        parts=parts(board),
        by_margin=_curves(board, ("closest", "furthest"), lambda each: each.accuracy.by_margin),
        by_length=_curves(board, ("shorter", "longer"), lambda each: [fifth.right for fifth in each.by_length]),
        confidence=_confidences(board),
        notes=tuple(notes(board)),
    )


def headline(found: Sequence[Table]) -> str:
    """Who comes nearest to people in the first of the tables where anybody has a figure in every row."""
    for table in found:
        if table.means:
            first, *others = _ranked(table)
            over = f", mean over {len(table.rows)} benchmarks" if len(table.rows) > 1 else ""
            rest = f" Next: {', '.join(others[:2])}." if others else ""
            return f"Nearest to people: {first} ({table.title.lower()}{over}).{rest}"
    return ""


def markdown(board: Scoreboard) -> str:
    """All figures as Markdown."""
    found = tables(board)
    blocks = ["# Rewards and annotators beside human judgements", headline(found)]
    blocks += [_markdown_table(table) for table in (*found, *parts(board))]
    blocks += [_markdown_confidence(board)]
    blocks += ["\n".join(("## Left out", "", *(f"* {note}" for note in notes(board))))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def notes(board: Scoreboard) -> Iterator[str]:
    """One line for everything that has no figure, or stands in none, with the reason."""
    shown = labels(board.contestants)
    yield from (f"{name}: {reason}" for name, reason in board.absent.items())
    for name, subject in board.benchmarks.items():
        if subject.skipped:
            yield f"{name}: rows of its files left out: {_counts(subject.skipped)}"
    for name, cells in board.cells.items():
        whose: dict[str, list[str]] = {}
        for who, cell in cells.items():
            for reason, count in cell.invalid.items():
                whose.setdefault(reason, []).append(f"{shown[who]} {number(count)}")
        yield from (f"{name}: not judged: {reason} ({', '.join(counts)})" for reason, counts in whose.items())
        yield from (
            f"{name}, {shown[who]}: {each.note}" for who, each in cells.items() if each.note not in ("", UNJUDGED)
        )
    for who, contestant in board.contestants.items():
        if contestant.note:
            yield f"confidence of {shown[who]}: {contestant.note}"


def _counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} ({number(count)})" for reason, count in reasons.items())


def _ranked(table: Table) -> list[str]:
    """Contestants with their means, the best first."""
    ranked = sorted(table.means.items(), key=lambda each: -each[1])
    return [f"{name} {table.scale.show(mean)}" for name, mean in ranked]


def _figures(found: Sequence[Table]) -> Iterator[Figure]:
    """Every contestant by its mean in the first table, with those in the other main ones."""
    first, *others = (table for table in found if table.main)
    for name, mean in sorted(first.means.items(), key=lambda each: -each[1]):
        beside = [f"{each.title.lower()} {each.scale.show(each.means[name])}" for each in others if name in each.means]
        yield Figure(name, first.scale.show(mean), ", ".join((first.title.lower(), *beside)))


def _curves(
    board: Scoreboard, ends: tuple[str, str], shares: Callable[[Agreement], Sequence[Share]]
) -> tuple[Plot, ...]:
    """Accuracy by fifths for every contestant, by benchmark and in the mean; five pairs make the fewest fifths."""
    curves: dict[str, list[list[float]]] = {}
    for cells in board.cells.values():
        for name, cell in cells.items():
            for each in cell.figures:
                if isinstance(each, Agreement) and len(shares(each)) == QUINTILES:
                    curves.setdefault(name, []).append([share.rate for share in shares(each)])
    axis = nice_axis([0.5, *(rate for lines in curves.values() for line in lines for rate in line)])
    x_ticks = tuple(Tick(place, label) for place, label in zip((12.0, 88.0), ends, strict=True))
    return tuple(_curve(labels(board.contestants)[name], lines, axis, x_ticks) for name, lines in curves.items())


def _curve(title: str, lines: Sequence[Sequence[float]], axis: Axis, x_ticks: tuple[Tick, ...]) -> Plot:
    means = [fmean(rates) for rates in zip(*lines, strict=True)]
    places = [100 * place / (QUINTILES - 1) for place in range(QUINTILES)]
    return Plot(
        title=title,
        figure=f"{means[0]:.0%} to {means[-1]:.0%}",
        gray=tuple(_line(places, line, axis) for line in lines) if len(lines) > 1 else (),
        line=_line(places, means, axis),
        dots=tuple(Dot(x, axis.place(mean)) for x, mean in zip(places, means, strict=True)),
        x_ticks=x_ticks,
        y_ticks=axis.labels(percent_tick),
        chance=axis.place(0.5),
    )


def _line(places: Sequence[float], values: Sequence[float], axis: Axis) -> str:
    return " ".join(f"{x:g},{100 - axis.place(value):g}" for x, value in zip(places, values, strict=True))


def _confidences(board: Scoreboard) -> tuple[Plot, ...]:
    shown = labels(board.contestants)
    found = {shown[name]: each.confidence for name, each in board.contestants.items() if each.confidence is not None}
    return tuple(_confidence(name, each) for name, each in found.items())


def _confidence(title: str, confidence: Confidence) -> Plot:
    """Probability of the preferred response against how often it is right; on the gray line both are equal."""
    x, bins = Axis(0.5, 1.0, (0.5, 0.75, 1.0)), confidence.reliability.bins
    y = Axis(0.0, 1.0, (0.0, 0.5, 1.0))
    return Plot(
        title=title,
        figure=f"error {number(confidence.reliability.error)}",
        gray=(_line((0.0, 100.0), (0.5, 1.0), y),),
        line="",
        dots=tuple(
            Dot(x.place(each.p), y.place(each.right.rate), y.place(each.right.low), y.place(each.right.high))
            for each in bins
        ),
        x_ticks=x.labels(percent_tick),
        y_ticks=y.labels(percent_tick),
        chance=None,
    )


def _markdown_table(table: Table) -> str:
    """A table with the interval beside every figure, and how many rows are behind the largest of a line."""
    rows = [
        (row.label, *map(spelled, row.entries), str(max(each.estimate.n for each in row.entries if each is not None)))
        for row in table.rows
    ]
    head = ("", *table.columns, "n"), ["---"] * (len(table.columns) + 2)
    lines = [_cells(*each) for each in (*head, *rows)]
    if len(table.rows) > 1 and table.means:
        means = [table.scale.show(table.means[name]) if name in table.means else "" for name in table.columns]
        lines.append(_cells("mean", *means, ""))
    return "\n".join((f"## {table.title}", "", *((table.about, "") if table.about else ()), *lines))


def _markdown_confidence(board: Scoreboard) -> str:
    shown = labels(board.contestants)
    lines = [
        _cells(
            shown[name],
            "" if each.confidence.temperature is None else number(each.confidence.temperature),
            number(each.confidence.reliability.error),
        )
        for name, each in board.contestants.items()
        if each.confidence is not None
    ]
    head = ["## Confidence", "", _cells("", "temperature", "calibration error"), _cells("---", "---", "---")]
    return "\n".join((*head, *lines)) if lines else ""


def _cells(*texts: str) -> str:
    return f"| {' | '.join(text.replace('|', '/') for text in texts)} |"
