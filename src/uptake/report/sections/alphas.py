"""Alphas: how models that go on past an aligned one do, and how long their answers are, by how far they go."""

from collections.abc import Iterator, Sequence

from uptake.report.charts import LineChart, Series, line_chart
from uptake.report.folder import AlphaPoint, RunFolder
from uptake.report.section import Section

ABOUT = (
    "Models beyond the aligned one, by alpha: 0 is that model, which wins half of the time against itself. Shaded: 95% "
    "interval. Gray: the win rate at equal lengths, since answers mostly grow longer on this way."
)


def build(run: RunFolder) -> Section | None:
    """Win rate, reward and tokens of an answer over alpha; none where nothing was extrapolated and compared."""
    charts = tuple(chart for chart in _charts(run.alphas) if chart is not None)
    return Section("Beyond", ABOUT, charts) if charts else None


def _charts(curve: Sequence[AlphaPoint]) -> Iterator[LineChart | None]:
    alphas = [point.alpha for point in curve]
    interval = ([point.low for point in curve], [point.high for point in curve])
    wins = Series("plain", alphas, [point.win_rate for point in curve], band=interval)
    equal = Series("equal-length", alphas, [point.length_controlled for point in curve], "before")
    yield line_chart("Win rate", [wins, equal], reference=0.5, shares=True, over="alpha")
    yield line_chart("Tokens of an answer", [Series("tokens", alphas, [point.tokens for point in curve])], over="alpha")
    rewards = [point.follow_up_reward for point in curve]
    yield line_chart("Follow-up score", [Series("follow-up score", alphas, rewards)], over="alpha")
