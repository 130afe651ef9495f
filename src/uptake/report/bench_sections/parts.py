"""Parts of the benchmarks: the figures by every group, level and quality."""

from uptake.evaluate.bench_results import BenchResults, Timing
from uptake.report.bench_tables import parts
from uptake.report.section import LeftOut, Section


def build(results: BenchResults, timing: Timing) -> Section | LeftOut:
    """A table for every kind of figure."""
    found, about = parts(results), "Every group, level and quality of the benchmarks."
    return Section("Parts", about, found) if found else LeftOut("Parts", "no benchmark has any.")
