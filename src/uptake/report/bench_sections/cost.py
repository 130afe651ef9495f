"""Cost of a bench: the time inside each scorer."""

from uptake.evaluate.bench_results import BenchResults, Timing
from uptake.report.section import Section
from uptake.report.text import duration, percent


def build(results: BenchResults, timing: Timing) -> Section:
    """Seconds and scores of this call alone."""
    spent = f"{duration(timing.seconds)}, of which {percent(timing.share)} in scoring."
    return Section("Cost", f"{spent} What an earlier call had kept was not scored again.", timing)
