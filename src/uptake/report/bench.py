"""Bench report: the page of a bench, and the same figures as Markdown."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from uptake.data.write import disk_errors, replacing
from uptake.evaluate.annotator import position_bias_warning
from uptake.evaluate.bench_results import UNJUDGED, BenchResults, Timing
from uptake.report import bench_sections
from uptake.report.bench_sections.headline import sentence
from uptake.report.bench_tables import BenchTable, labels, parts, spelled, tables
from uptake.report.page import Page, build_page
from uptake.report.text import number
from uptake.report.write import write_page


def write_bench_report(results: BenchResults, timing: Timing, folder: Path) -> None:
    """Write page.html and results.md to a folder; times are on the page only."""
    write_page(bench_page(results, timing), folder / "page.html", overwrite=True)
    written = folder / "results.md"
    with replacing(written, overwrite=True) as temporary, disk_errors(written):
        temporary.write_text(markdown(results), encoding="utf-8")


def bench_page(results: BenchResults, timing: Timing) -> Page:
    """Page of a bench, with the notes on what has no figure among what is left out."""
    page = build_page("Bench", bench_sections, results, timing)
    return replace(page, left_out=(*page.left_out, *notes(results)))


def markdown(results: BenchResults) -> str:
    """Bench results as Markdown."""
    found = tables(results)
    blocks = ["# Rewards and annotators beside human judgements", sentence(found)]
    blocks += [_markdown_table(table) for table in (*found, *parts(results))]
    blocks += [_markdown_confidence(results)]
    blocks += ["\n".join(("## Left out", "", *(f"* {note}" for note in notes(results))))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def notes(results: BenchResults) -> Iterator[str]:
    """Notes, one for everything that has no figure, or stands in none, with the reason."""
    shown = labels(results.scorers)
    yield from (f"{name}: {reason}" for name, reason in results.absent.items())
    for name, benchmark in results.benchmarks.items():
        if benchmark.skipped:
            yield f"{name}: rows of its files left out: {_counts(benchmark.skipped)}"
    for name, by_scorer in results.by_benchmark.items():
        for reason in dict.fromkeys(reason for each in by_scorer.values() for reason in each.invalid):
            told = {shown[who]: each for who, each in by_scorer.items() if reason in each.invalid}
            counts = ", ".join(f"{who} {number(each.invalid[reason])}" for who, each in told.items())
            first = next(
                (f"; the first: {each.details[reason]}" for each in told.values() if reason in each.details), ""
            )
            yield f"{name}: not judged: {reason} ({counts}){first}"
        for who, each in by_scorer.items():
            if each.verdicts and (warning := position_bias_warning(each.verdicts)):
                yield f"{name}, {shown[who]}: {warning}"
        yield from (
            f"{name}, {shown[who]}: {each.note}" for who, each in by_scorer.items() if each.note not in ("", UNJUDGED)
        )
    for who, scorer in results.scorers.items():
        if scorer.note:
            yield f"confidence of {shown[who]}: {scorer.note}"


def _counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} ({number(count)})" for reason, count in reasons.items())


def _markdown_table(table: BenchTable) -> str:
    """A table with the interval beside every figure, and how many rows are behind the largest of a line."""
    rows = [
        (row.label, *map(spelled, row.entries), str(max(each.estimate.n for each in row.entries if each is not None)))
        for row in table.rows
    ]
    head = ("", *table.columns, "n"), ["---"] * (len(table.columns) + 2)
    lines = [_cells(*each) for each in (*head, *rows)]
    if len(table.rows) > 1 and table.means:
        means = [table.scale.show(table.means[name]) if name in table.means else "" for name in table.columns]
        lines.append(_cells("mean", *means, ""))
    return "\n".join((f"## {table.title}", "", *((table.about, "") if table.about else ()), *lines))


def _markdown_confidence(results: BenchResults) -> str:
    shown = labels(results.scorers)
    lines = [
        _cells(
            shown[name],
            "" if each.confidence.temperature is None else number(each.confidence.temperature),
            number(each.confidence.reliability.error),
        )
        for name, each in results.scorers.items()
        if each.confidence is not None
    ]
    head = ["## Confidence", "", _cells("", "temperature", "calibration error"), _cells("---", "---", "---")]
    return "\n".join((*head, *lines)) if lines else ""


def _cells(*texts: str) -> str:
    return f"| {' | '.join(text.replace('|', '/') for text in texts)} |"
