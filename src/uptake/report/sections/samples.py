"""Samples: answers to held-out prompts side by side, with what each category of follow-ups says of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from uptake.report.charts import ChartAxis, axis_through_zero
from uptake.report.folder import RunFolder, Sample
from uptake.report.section import LeftOut, Section
from uptake.report.text import number

OPEN, MOST = 5, 40


@dataclass(frozen=True, slots=True)
class SampleCards:
    """Samples that are shown at once, and those behind a click; `axis` is the scale of all their categories."""

    shown: tuple[Sample, ...]
    folded: tuple[Sample, ...]
    axis: ChartAxis | None


def build(run: RunFolder) -> Section | LeftOut:
    """The first samples of the file."""
    if not run.samples:
        return LeftOut.no("sample in samples.jsonl", "Samples", "uptake eval")
    samples = run.samples[:MOST]
    about = (
        f"{number(len(samples))} of {number(len(run.samples))} prompts, in the order of the file. "
        "Bars: praise right of the line, complaint left of it."
    )
    return Section("Samples", about, SampleCards(samples[:OPEN], samples[OPEN:], axis_through_zero(_parts(samples))))


def _parts(samples: Iterable[Sample]) -> Iterator[float]:
    for sample in samples:
        for answer in (sample.before, sample.after):
            yield from answer.parts.values() if answer else ()
