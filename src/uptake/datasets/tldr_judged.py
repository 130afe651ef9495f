"""TL;DR: a model's summary of a Reddit post against the one its author wrote, judged by a GPT model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import prompt, rows, table

FOLDER = "tldr-judged"
SOURCE = "vwxyzjn/summarize_from_feedback_details, outputs of OpenAI's 1.3B model; Huang et al. (arXiv 2403.17031)"
LICENSE = "MIT"


class _Pair(BaseModel):
    query: str
    postprocessed_response: str
    reference_responses: str
    preferred: Literal["ours", "reference"]


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """One comparison a row, the model's summary first, both without the blanks that joined them to the post."""
    for where, pair in rows(table(folder, "pairs"), _Pair):
        summaries = pair.postprocessed_response.strip(), pair.reference_responses.strip()
        yield to_comparison(prompt(pair.query, where), summaries, float(pair.preferred == "ours"), where)
