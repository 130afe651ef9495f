"""Progress: how the held-out prompts were answered as training went on."""

from collections.abc import Iterator, Sequence

from uptake.report.charts import LineChart, Series, line_chart
from uptake.report.folder import CurvePoint, RunFolder
from uptake.report.section import LeftOut, Section

ABOUT = (
    "Held-out prompts, asked again as training went on. Horizontal: optimizer steps. "
    "Shaded: 95% interval of the win rate against the start."
)


def build(run: RunFolder) -> Section | LeftOut:
    """Charts of win rate, quality and follow-up score by step, from the evaluation or else from the run."""
    points = (run.evaluation.curve if run.evaluation else ()) or run.curve
    charts = tuple(chart for chart in _charts(points) if chart is not None)
    return Section("Progress", ABOUT, charts) if charts else LeftOut.no("figure in curve.jsonl", "Progress")


def _charts(curve: Sequence[CurvePoint]) -> Iterator[LineChart | None]:
    steps = [point.step for point in curve]
    interval = ([point.low for point in curve], [point.high for point in curve])
    wins = Series("win rate", steps, [point.win_rate for point in curve], band=interval)
    yield line_chart("Win rate", [wins], reference=0.5, shares=True)
    yield line_chart("Quality", [Series("quality", steps, [point.quality for point in curve])])
    rewards = [point.follow_up_reward for point in curve]
    yield line_chart("Follow-up score", [Series("follow-up score", steps, rewards)])
