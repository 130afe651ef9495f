"""TL;DR: a model's summary of a Reddit post against the one its author wrote, judged by a GPT model.

Source: vwxyzjn/summarize_from_feedback_details, the judged outputs of OpenAI's 1.3B model; Huang et al. (arXiv
2403.17031). License: MIT.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row

FOLDER = "tldr-judged"
hub = None


class _Pair(BaseModel):
    query: str
    postprocessed_response: str
    reference_responses: str
    preferred: Literal["ours", "reference"]


def local(folder: Path) -> Iterator[Row]:
    """One comparison a row, the model's summary first, both without the blanks that joined them to the post."""
    for where, pair in parse.rows(parse.table(folder, "pairs"), _Pair):
        summaries = pair.postprocessed_response.strip(), pair.reference_responses.strip()
        yield parse.comparison(parse.prompt(pair.query, where), summaries, float(pair.preferred == "ours"), where)
