"""CUT: GPT-4 judges what one policy answers to instructions, in words, over five rounds of its training.

A judgment is written only where GPT-4 finds a fault, so all feedback is negative. Held out is one instruction in ten.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from uptake.datasets.items import Feedback, to_feedback
from uptake.datasets.parse import instruction, rows, table

FOLDER = "cut-judgments"
SOURCE = "wwxu21/CUT; Xu et al. (arXiv 2312.14591)"
LICENSE = "Apache-2.0"


class _Judged(BaseModel):
    instruction: str
    input: str
    output: str
    judgment: str | None


def feedback(folder: Path) -> Iterator[Feedback | str]:
    """Every judgment; an answer without one was judged good."""
    for round_ in range(1, 6):
        for _, row in rows(table(folder, f"iter{round_}"), _Judged):
            if row.judgment is None:
                yield "judged good without a word"
            else:
                yield to_feedback(instruction(row.instruction, row.input), row.output, row.judgment, "negative")
