"""HaluEval: people marked what a language model made up in answers to users of a chat assistant.

An answer in which nothing was marked is one where nothing was found. A mark is the text of a stretch, which counts
where it stands first; rows with a mark that is not in the answer are left out. Held out is one question in ten.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import to_edited
from uptake.datasets.parse import prompt, rows, table
from uptake.types import Edited, Span

FOLDER = "halueval-general"
SOURCE = "RUCAIBox/HaluEval; Li et al. 2023 (arXiv 2305.11747)"
LICENSE = "MIT"


class _Marked(BaseModel):
    user_query: str
    chatgpt_response: str
    hallucination: Literal["yes", "no"]
    hallucination_spans: list[str]


def edits(folder: Path) -> Iterator[Edited | str]:
    """Every answer."""
    for where, row in rows(table(folder, "general_data"), _Marked):
        marks = [text for text in dict.fromkeys(row.hallucination_spans) if text.strip()]
        places = [row.chatgpt_response.find(text) for text in marks]
        if not row.user_query.strip():
            yield "no question"
        elif (row.hallucination == "yes") != bool(marks):
            yield "an invention without a place"
        elif -1 in places:
            yield "a mark that is not in the answer"
        else:
            spans = [Span(at, at + len(text), -1.0, "invented") for at, text in zip(places, marks, strict=True)]
            yield to_edited(prompt(row.user_query, where), "halueval", row.chatgpt_response, spans=spans)
