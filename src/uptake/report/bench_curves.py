"""Curves of a bench as geometry in percent of the plot: accuracy by fifths of the pairs, for every scorer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from uptake.evaluate import Share
from uptake.evaluate.accuracy import QUINTILES
from uptake.evaluate.agreement import Agreement
from uptake.evaluate.bench_results import BenchResults
from uptake.report.bench_tables import labels
from uptake.report.charts import ChartAxis, Tick, nice_axis
from uptake.report.text import percent_tick


@dataclass(frozen=True, slots=True)
class Dot:
    """Dot at a place in percent of the plot, with the ends of its interval, if it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """Plot of a scorer's curve; `figure` stands beside the title."""

    title: str
    figure: str
    gray: tuple[str, ...]
    line: str
    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    chance: float | None


def curves(
    results: BenchResults, ends: tuple[str, str], shares: Callable[[Agreement], Sequence[Share]]
) -> tuple[Plot, ...]:
    """Accuracy by fifths for every scorer, by benchmark and in the mean; five pairs make the fewest fifths."""
    found: dict[str, list[list[float]]] = {}
    for by_scorer in results.by_benchmark.values():
        for name, result in by_scorer.items():
            for each in result.figures:
                if isinstance(each, Agreement) and len(shares(each)) == QUINTILES:
                    found.setdefault(name, []).append([share.rate for share in shares(each)])
    axis = nice_axis([0.5, *(rate for lines in found.values() for line in lines for rate in line)])
    x_ticks = tuple(Tick(position, label) for position, label in zip((12.0, 88.0), ends, strict=True))
    return tuple(_curve(labels(results.scorers)[name], lines, axis, x_ticks) for name, lines in found.items())


def points(places: Sequence[float], values: Sequence[float], axis: ChartAxis) -> str:
    """Points of an SVG line: places in percent of the plot, values on the axis."""
    return " ".join(f"{x:g},{100 - axis.percent(value):g}" for x, value in zip(places, values, strict=True))


def _curve(title: str, lines: Sequence[Sequence[float]], axis: ChartAxis, x_ticks: tuple[Tick, ...]) -> Plot:
    means = [fmean(rates) for rates in zip(*lines, strict=True)]
    places = [100 * position / (QUINTILES - 1) for position in range(QUINTILES)]
    return Plot(
        title=title,
        figure=f"{means[0]:.0%} to {means[-1]:.0%}",
        gray=tuple(points(places, line, axis) for line in lines) if len(lines) > 1 else (),
        line=points(places, means, axis),
        dots=tuple(Dot(x, axis.percent(mean)) for x, mean in zip(places, means, strict=True)),
        x_ticks=x_ticks,
        y_ticks=axis.labels(percent_tick),
        chance=axis.percent(0.5),
    )
