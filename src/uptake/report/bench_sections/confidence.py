"""Confidence of each scorer: how sure it is against how often it is right."""

from uptake.evaluate.bench_results import BenchResults, Confidence, Timing
from uptake.report.bench_curves import Dot, Plot, points
from uptake.report.bench_tables import labels
from uptake.report.charts import ChartAxis
from uptake.report.section import LeftOut, Section
from uptake.report.text import number, percent_tick

ABOUT = (
    "How sure (across) against how often right (up), with 95% intervals, over all pairs; on the gray line both are "
    "equal. Margins of rewards become probabilities at a temperature fitted to the other half of the prompts."
)


def build(results: BenchResults, timing: Timing) -> Section | LeftOut:
    """A reliability diagram for every scorer that has one."""
    shown, scorers = labels(results.scorers), results.scorers.items()
    found = tuple(_plot(shown[name], each.confidence) for name, each in scorers if each.confidence is not None)
    return Section("Confidence", ABOUT, found) if found else LeftOut("Confidence", "no scorer has any on these pairs.")


def _plot(title: str, confidence: Confidence) -> Plot:
    """Probability of the preferred response against how often it is right; on the gray line both are equal."""
    x, bins = ChartAxis(0.5, 1.0, (0.5, 0.75, 1.0)), confidence.reliability.bins
    y = ChartAxis(0.0, 1.0, (0.0, 0.5, 1.0))
    return Plot(
        title=title,
        figure=f"error {number(confidence.reliability.error)}",
        gray=(points((0.0, 100.0), (0.5, 1.0), y),),
        line="",
        dots=tuple(
            Dot(x.percent(each.p), y.percent(each.right.rate), y.percent(each.right.low), y.percent(each.right.high))
            for each in bins
        ),
        x_ticks=x.labels(percent_tick),
        y_ticks=y.labels(percent_tick),
        chance=None,
    )
