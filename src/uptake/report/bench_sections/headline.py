"""Headline of a bench: which scorer comes nearest to people, and the mean of each."""

from collections.abc import Iterator, Sequence

from uptake.evaluate.bench_results import BenchResults, Timing
from uptake.report.bench_tables import BenchTable, tables
from uptake.report.section import Figure, Header, Section

# Scorers that have a figure of their own on the first screen.
MOST = 6


def build(results: BenchResults, timing: Timing) -> Section:
    """Headline with the scorers' means in the first table."""
    found = tables(results)
    header = Header("Uptake \N{MIDDLE DOT} bench", tuple(_figures(found))[:MOST] if found else ())
    return Section("Beside human judgements", sentence(found), header, styles=("bench.css",))


def sentence(found: Sequence[BenchTable]) -> str:
    """Scorer that comes nearest to people in the first of the tables where any has a figure in every row."""
    for table in found:
        if table.means:
            first, *others = _ranked(table)
            over = f", mean over {len(table.rows)} benchmarks" if len(table.rows) > 1 else ""
            rest = f" Next: {', '.join(others[:2])}." if others else ""
            return f"Nearest to people: {first} ({table.title.lower()}{over}).{rest}"
    return ""


def _ranked(table: BenchTable) -> list[str]:
    """Scorers with their means, the best first."""
    ranked = sorted(table.means.items(), key=lambda each: -each[1])
    return [f"{name} {table.scale.show(mean)}" for name, mean in ranked]


def _figures(found: Sequence[BenchTable]) -> Iterator[Figure]:
    """Every scorer by its mean in the first table, with those in the other main ones."""
    first, *others = (table for table in found if table.main)
    for name, mean in sorted(first.means.items(), key=lambda each: -each[1]):
        beside = [f"{each.title.lower()} {each.scale.show(each.means[name])}" for each in others if name in each.means]
        yield Figure(name, first.scale.show(mean), ", ".join((first.title.lower(), *beside)))
