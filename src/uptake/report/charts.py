"""Charts as geometry in percent of the plot, so that the page draws them at any width with text at its own size.

The template stretches the lines (strokes keep their width) and sets labels and dots as HTML beside them, in the page's
own colors: one drawing serves a phone, a wide screen, light and dark.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from uptake.report.folder import Histogram
from uptake.report.text import number, percent, percent_tick, tick

Array = NDArray[np.float64]
Show = Callable[[float], str]
MOST_POINTS = 240
SMOOTH_FROM = 40


@dataclass(frozen=True, slots=True)
class Series:
    """Series of numbers over steps; `tone` is "after" (accent) or "before" (gray), `band` its interval.

    A step where any number is missing or not finite is not drawn. What begins anew again and again is not to `smooth`.
    """

    name: str
    steps: Sequence[float | None]
    values: Sequence[float | None]
    tone: str = "after"
    band: tuple[Sequence[float | None], Sequence[float | None]] | None = None
    smooth: bool = True


@dataclass(frozen=True, slots=True)
class Tick:
    """Tick of an axis: a label at a place in percent."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """Line of a chart: `points` (and `faint`, its raw numbers where `points` is smoothed) as SVG points."""

    name: str
    tone: str
    points: str
    faint: str
    band: str
    x: float
    y: float
    last: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """Line chart over steps, or `over` what else; `reference` is a dashed line's height, `marks` where rounds start."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    reference: float | None
    marks: tuple[float, ...]
    over: str = "steps"


@dataclass(frozen=True, slots=True)
class ChartBar:
    """Bar from `at`, `size` wide, in percent of its axis."""

    at: float
    size: float


@dataclass(frozen=True, slots=True)
class HistogramChart:
    """Histogram: bars with their height in percent of the plot; the tallest stands for `most`."""

    title: str
    bars: tuple[tuple[ChartBar, float], ...]
    most: int
    x_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class ChartAxis:
    """Linear axis from `low` to `high`."""

    low: float
    high: float
    ticks: tuple[float, ...] = ()

    def percent(self, value: float) -> float:
        """Place of a value in percent of the axis."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def bar(self, value: float, start: float = 0.0) -> ChartBar:
        """Bar between two values."""
        left, right = sorted((self.percent(start), self.percent(value)))
        return ChartBar(left, round(right - left, 2))

    def labels(self, show: Show = tick) -> tuple[Tick, ...]:
        """Labels at the ticks, as `show` writes them."""
        return tuple(Tick(self.percent(value), show(value)) for value in self.ticks)


def nice_axis(values: Sequence[float], count: int = 3) -> ChartAxis:
    """Axis with round ticks that covers all values; ticks at both ends."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    ticks = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return ChartAxis(float(ticks[0]), float(ticks[-1]), tuple(float(at) for at in ticks))


def axis_through_zero(values: Iterable[float]) -> ChartAxis | None:
    """Axis that covers 0 and all values; None where there are none."""
    known = tuple(values)
    low, high = min((0.0, *known)), max((0.0, *known))
    return ChartAxis(low, high if high > low else low + 1) if known else None


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    reference: float | None = None,
    marks: Sequence[float] = (),
    shares: bool = False,
    over: str = "steps",
) -> LineChart | None:
    """Line chart of series over steps; long ones are thinned and smoothed. None where no number is finite.

    `shares` writes the values as percent; over anything but steps, ticks need not be whole numbers.
    """
    tables = [(one, table) for one in series if (table := _finite(one)).size]
    if not tables:
        return None
    steps = np.concatenate([table[0] for _, table in tables])
    heights = np.concatenate([table[1:].ravel() for _, table in tables])
    x = _bounded_axis(float(steps.min()), float(steps.max()), whole=over == "steps")
    y = nice_axis([*heights.tolist(), *([] if reference is None else [reference])])
    return LineChart(
        title=title,
        lines=tuple(_line(one, table, (x, y), percent if shares else number) for one, table in tables),
        x_ticks=x.labels(),
        y_ticks=y.labels(percent_tick if shares else tick),
        reference=None if reference is None else y.percent(reference),
        marks=tuple(x.percent(mark) for mark in marks),
        over=over,
    )


def histogram_chart(title: str, histogram: Histogram) -> HistogramChart:
    """Histogram of counts over their edges."""
    ticks = nice_axis(histogram.edges, 4).ticks
    axis = ChartAxis(histogram.edges[0], histogram.edges[-1])
    axis = ChartAxis(axis.low, axis.high, tuple(at for at in ticks if axis.low <= at <= axis.high))
    tallest = max(histogram.counts, default=0) or 1
    bars = (axis.bar(right, left) for left, right in pairwise(histogram.edges))
    heights = (round(100 * count / tallest, 2) for count in histogram.counts)
    return HistogramChart(title, tuple(zip(bars, heights, strict=True)), tallest, axis.labels())


def _bounded_axis(low: float, high: float, *, whole: bool) -> ChartAxis:
    if low == high:
        return ChartAxis(low - 1, high + 1, (low,))
    ticks = MaxNLocator(4, integer=whole, steps=[1, 2, 5, 10]).tick_values(low, high)
    return ChartAxis(low, high, tuple(float(at) for at in ticks if low <= at <= high))


def _finite(series: Series) -> Array:
    """Rows: steps, values and, where there is one, both ends of the band; columns with a gap are gone."""
    table = np.array([series.steps, series.values, *(series.band or ())], dtype=np.float64)
    return table[:, np.isfinite(table).all(axis=0)]


def _line(series: Series, table: Array, axes: tuple[ChartAxis, ChartAxis], show: Show) -> Line:
    x, y = axes
    steps, values, *band = _thin(table)
    smooth = _smooth(values) if series.smooth and len(values) >= SMOOTH_FROM else values
    outline = [_points(steps, band[0], x, y), _points(steps[::-1], band[1][::-1], x, y)] if band else []
    last = float(smooth[-1])
    return Line(
        name=series.name,
        tone=series.tone,
        points=_points(steps, smooth, x, y),
        faint=_points(steps, values, x, y) if smooth is not values else "",
        band=" ".join(outline),
        x=x.percent(float(steps[-1])),
        y=y.percent(last),
        last=show(last),
    )


def _points(steps: Array, values: Array, x: ChartAxis, y: ChartAxis) -> str:
    places = zip(steps.tolist(), values.tolist(), strict=True)
    return " ".join(f"{x.percent(step):g},{100 - y.percent(value):g}" for step, value in places)


def _thin(table: Array) -> Array:
    """Means of neighboring columns, at most `MOST_POINTS` of them."""
    groups = np.array_split(table, min(table.shape[1], MOST_POINTS), axis=1)
    return np.stack([group.mean(axis=1) for group in groups], axis=1)


def _smooth(values: Array) -> Array:
    """Mean over a centered window of an eighth of the row, cut short at both ends."""
    window = np.ones(max(3, len(values) // 8 | 1))
    return np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
