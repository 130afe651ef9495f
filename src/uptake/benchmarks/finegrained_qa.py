"""Fine-grained RLHF, question answering: people compare four answers to a question two by two, or call them equal.

The prompt holds the passages of Wikipedia that the answers are to rest on, then the question. Source:
allenai/FineGrainedRLHF, qa_feedback; Wu et al. (arXiv 2306.01693). License: Apache-2.0.
"""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row

FOLDER = "finegrained-rlhf-qa"
hub = None

_PREFERENCES = {0: 0.5, 1: 1.0, 2: 0.0}

# A title and its sentences.
Passage = Annotated[list[str], Field(min_length=1)]


class _Compared(BaseModel):
    """A question with four answers and the preference in each pair of them: 1 and 2, 1 and 3, up to 3 and 4."""

    question: str
    passages: list[Passage]
    first: str = Field(alias="prediction 1")
    second: str = Field(alias="prediction 2")
    third: str = Field(alias="prediction 3")
    fourth: str = Field(alias="prediction 4")
    preference: Annotated[list[Literal[0, 1, 2]], Field(min_length=6, max_length=6)]


def local(folder: Path) -> Iterator[Row]:
    """Six comparisons a row."""
    for where, row in parse.rows(parse.table(folder, "dev_feedback"), _Compared):
        asked = parse.prompt("\n\n".join((*map(passage_text, row.passages), row.question)), where)
        pairs = combinations((row.first, row.second, row.third, row.fourth), 2)
        for pair, label in zip(pairs, row.preference, strict=True):
            yield parse.comparison(asked, pair, _PREFERENCES[label], where)


def passage_text(passage: Passage) -> str:
    """The title over the text, which begins with it in some passages."""
    title, *sentences = passage
    return f"{title}\n{' '.join(sentences).removeprefix(title).lstrip()}"
