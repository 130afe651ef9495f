"""Prometheus: GPT-4 explains its grades, 1 to 5 by a rubric, of answers of four models; three times each.

Grades of 4 and 5 are positive, 1 and 2 negative. Nothing is left to train on: a benchmark evaluates both files, so all
of it is held out, for perplexity. Source: prometheus-eval/prometheus-eval; Kim et al. (arXiv 2310.08491). License:
Apache-2.0.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from uptake.benchmarks.parse import rows, table
from uptake.benchmarks.prometheus_rated import question
from uptake.feedback_sets.items import Polarity, Row, feedback, graded

FOLDER = "prometheus-rated"


class _Graded(BaseModel):
    orig_instruction: str
    orig_response: str
    gpt4_score: list[float]
    gpt4_feedback: list[str]


def local(folder: Path) -> Iterator[Row]:
    """Every explanation."""
    for name in ("mt_bench", "vicuna"):
        for where, row in rows(table(folder, f"{name}_eval"), _Graded):
            for text, grade in graded(row.gpt4_feedback, row.gpt4_score, where):
                asked = question(row.orig_instruction)
                yield feedback(asked, row.orig_response, text, _polarity(grade), "heldout", rating=grade)


def _polarity(grade: float) -> Polarity:
    return "unknown" if grade == 3 else "positive" if grade > 3 else "negative"
