"""RMB: models' answers to what users of WildChat asked, judged by GPT-4, as pairs and as best of n.

Pairs are judged for helpfulness or for harmlessness, which are the groups. Of several answers for helpfulness, one
model's is better than all the others: it has quality 1 and the others 0, since among themselves they are not ranked.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from uptake.data.turns import conversation
from uptake.datasets.items import Candidates, Comparison, to_comparison
from uptake.datasets.parse import prompt, rows, table
from uptake.types import Prompt, Turn, Where

FOLDER = "rmb"
SOURCE = "Zhou-Zoey/RMB-Reward-Model-Benchmark; Zhou et al. (arXiv 2410.09893)"
LICENSE = "none stated"


class _Answer(BaseModel):
    answer: str


class _Question(BaseModel):
    """A conversation that ends with the user, and the path "Pairwise_set/Helpfulness/Code" or the like."""

    conversation_input: list[dict[str, Any]]
    category_path: str = Field(pattern="^[^/]*/[^/]+")

    @property
    def goal(self) -> str:
        """What the answers are judged for: "helpfulness" or "harmlessness"."""
        return self.category_path.split("/")[1].lower()

    def prompt(self, where: Where) -> Prompt:
        """The conversation as a prompt."""
        turns = conversation(self.conversation_input, where, "conversation_input")
        return prompt(tuple(Turn(turn.role, turn.content) for turn in turns), where)


class _Pair(_Question):
    chosen: _Answer
    reject: _Answer


class _Best(_Question):
    bon_best: _Answer
    loser_list: list[_Answer] = Field(min_length=1)


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """One comparison a row, the better answer first."""
    for name in ("pairwise_helpfulness", "pairwise_harmlessness"):
        for where, pair in rows(table(folder, name), _Pair):
            answers = pair.chosen.answer, pair.reject.answer
            yield to_comparison(pair.prompt(where), answers, 1.0, where, pair.goal)


def candidates(folder: Path) -> Iterator[Candidates | str]:
    """The candidates of every row, the best one first."""
    for where, row in rows(table(folder, "bon_helpfulness"), _Best):
        answers = tuple(each.answer for each in (row.bon_best, *row.loser_list))
        if all(answer.strip() for answer in answers):
            qualities = (1.0, *(0.0 for _ in row.loser_list))
            yield Candidates(row.prompt(where), answers, qualities, row.goal, where)
        else:
            yield "no response"
