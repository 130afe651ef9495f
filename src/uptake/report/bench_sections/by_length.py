"""Accuracy of each scorer by length: from pairs where people prefer the shorter response to those where the longer."""

from uptake.evaluate.bench_results import BenchResults, Timing
from uptake.report.bench_curves import curves
from uptake.report.section import LeftOut, Section

ABOUT = (
    "Accuracy from the fifth of the pairs whose preferred response is shortest beside the other to the fifth where it "
    "is longest. A level line is what a scorer has that length does not sway."
)


def build(results: BenchResults, timing: Timing) -> Section | LeftOut:
    """A curve for every scorer that has judged five pairs of a benchmark."""
    found = curves(results, ("shorter", "longer"), lambda each: [fifth.right for fifth in each.by_length])
    return Section("By length", ABOUT, found) if found else LeftOut("By length", "no benchmark has five judged pairs.")
