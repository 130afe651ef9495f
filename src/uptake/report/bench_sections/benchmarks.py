"""Benchmarks that the scorers were compared on."""

from uptake.evaluate.bench_results import BenchResults, Timing
from uptake.report.section import Section
from uptake.report.text import number


def build(results: BenchResults, timing: Timing) -> Section:
    """What every benchmark holds, and how many of its items were used."""
    about = "All items of each."
    if results.limit is not None:
        about = f"At most {number(results.limit)} items of each, drawn with seed {results.seed}."
    return Section("Benchmarks", about, results.benchmarks)
