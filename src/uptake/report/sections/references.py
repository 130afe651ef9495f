"""References: how much each of several counted, and how often it was held to the trust in the first."""

from collections.abc import Sequence

from uptake.report.charts import LineChart, Series, line_chart
from uptake.report.folder import MetricRow, RunFolder
from uptake.report.section import Section
from uptake.report.text import words

WEIGHT, CLIPPED = "weight_", "clipped_"
ABOUT = (
    "The weight of every reference, a mean over pairs: by default the more, the further it sets chosen and rejected "
    "apart. Gray: the share of responses at which it was held near the primary one, which is never held."
)


def build(run: RunFolder) -> Section | None:
    """A chart for every reference; none where there is but one."""
    rows = run.metrics
    names = dict.fromkeys(key.removeprefix(WEIGHT) for row in rows for key in row if key.startswith(WEIGHT))
    charts = tuple(chart for chart in (_chart(rows, name) for name in names) if chart is not None)
    return Section("References", ABOUT, charts) if charts else None


def _chart(rows: Sequence[MetricRow], name: str) -> LineChart | None:
    steps = [row["step"] for row in rows]
    sides = (("weight", WEIGHT, "after"), ("clipped", CLIPPED, "before"))
    series = [Series(side, steps, [row.get(key + name) for row in rows], tone) for side, key, tone in sides]
    return line_chart(words(name), series, shares=True)
