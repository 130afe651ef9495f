"""Accuracy of each scorer by margin: from pairs with close scores to pairs with scores far apart."""

from uptake.evaluate.bench_results import BenchResults, Timing
from uptake.report.bench_curves import curves
from uptake.report.section import LeftOut, Section

ABOUT = (
    "Accuracy from the fifth of the pairs whose scores are closest to the fifth where they are furthest apart. "
    "In color the mean over benchmarks, in gray each of them."
)


def build(results: BenchResults, timing: Timing) -> Section | LeftOut:
    """A curve for every scorer that has judged five pairs of a benchmark."""
    found = curves(results, ("closest", "furthest"), lambda each: each.accuracy.by_margin)
    return Section("By margin", ABOUT, found) if found else LeftOut("By margin", "no benchmark has five judged pairs.")
