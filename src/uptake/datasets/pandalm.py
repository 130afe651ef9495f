"""PandaLM test set: three people each prefer one of two models' responses to an instruction, or call it a tie.

The preference is the share of the three for the first response, where a tie counts one half.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import instruction, prompt, rows, table

FOLDER = "pandalm-test"
SOURCE = "WeOpenML/PandaLM; Wang et al. (arXiv 2306.05087)"
LICENSE = "Apache-2.0"

_PREFERENCES = {0: 0.5, 1: 1.0, 2: 0.0}

Vote = Literal[0, 1, 2]


class _Pair(BaseModel):
    instruction: str
    input: str
    response1: str | bool
    response2: str | bool
    annotator1: Vote
    annotator2: Vote
    annotator3: Vote


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """One comparison a row; rows are left out whose response "True" has become a truth value on the way."""
    for where, pair in rows(table(folder, "test"), _Pair):
        if isinstance(pair.response1, bool) or isinstance(pair.response2, bool):
            yield "a response that is no text"
            continue
        votes = (pair.annotator1, pair.annotator2, pair.annotator3)
        question = prompt(instruction(pair.instruction, pair.input), where)
        share = fmean(_PREFERENCES[vote] for vote in votes)
        yield to_comparison(question, (pair.response1, pair.response2), share, where)
