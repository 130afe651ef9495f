"""Figures of a bench: a table of its own for pairs, ratings and best of n, each with what is read beside it."""

from uptake.evaluate.bench_results import BenchResults, Timing
from uptake.report.bench_tables import tables
from uptake.report.section import LeftOut, Section


def build(results: BenchResults, timing: Timing) -> Section | LeftOut:
    """The tables of the headline figures; the template gives each a heading of its own."""
    found = tables(results)
    return Section("Figures", "", found) if found else LeftOut("Figures", "no benchmark has any.")
