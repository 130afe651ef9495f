"""Doubts: how many of its own labels a run did not trust, by iteration and step."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from uptake.report.charts import LineChart, Series, line_chart
from uptake.report.folder import MetricRow, RunFolder
from uptake.report.section import Section

ABOUT = (
    "Pairs whose margin was among the lowest of recent ones: there the policy is the least sure of its label, which "
    "was smoothed, but for the first steps of an iteration."
)


@dataclass(frozen=True, slots=True)
class Iteration:
    """Iteration of a run that doubts labels: its steps, the share of its pairs that was doubted, and their margin."""

    name: str
    steps: int
    doubted: float
    margin: float | None


@dataclass(frozen=True, slots=True)
class DoubtTable:
    """Iterations as rows, and the share of doubted pairs by step."""

    iterations: tuple[Iteration, ...]
    chart: LineChart | None


def build(run: RunFolder) -> Section | None:
    """Shares of doubted pairs; none where the method doubts no label."""
    rows = [row for row in run.metrics if row.get("doubted") is not None]
    if not rows:
        return None
    by_stage = groupby(rows, key=lambda row: row.get("stage"))
    iterations = tuple(_iteration(number, list(group)) for number, (_, group) in enumerate(by_stage, 1))
    doubted = Series("doubted", [row["step"] for row in rows], [row["doubted"] for row in rows])
    chart = line_chart("Doubted pairs", [doubted], shares=True)
    return Section("Doubted labels", ABOUT, DoubtTable(iterations, chart))


def _iteration(number: int, rows: Sequence[MetricRow]) -> Iteration:
    doubted = [share for row in rows if (share := row["doubted"]) is not None]
    margins = [margin for row in rows if (margin := row.get("mixed_margin")) is not None]
    return Iteration(str(number), len(rows), fmean(doubted), fmean(margins) if margins else None)
