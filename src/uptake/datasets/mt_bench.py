"""MT-Bench by people: an expert prefers one of two models' answers, or calls it a tie; one comparison a vote.

Second turns are left out: each model goes on from its own first answer, so the two have no prompt in common.
"""

from collections.abc import Iterator

from pydantic import BaseModel, Field

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import Records, hub, prompt, rows

FOLDER = None
SOURCE = "lmsys/mt_bench_human_judgments on the Hub; Zheng et al. (arXiv 2306.05685)"
LICENSE = "CC BY 4.0"

# Every other verdict is a tie: "tie", and "tie (inconsistent)" where the verdict turned with the order.
_PREFERENCES = {"model_a": 1.0, "model_b": 0.0}


class _Message(BaseModel):
    content: str


class _Vote(BaseModel):
    turn: int
    winner: str
    conversation_a: list[_Message] = Field(min_length=2)
    conversation_b: list[_Message] = Field(min_length=2)


def hub_comparisons() -> Iterator[Comparison | str]:
    """The votes on answers to the first turn."""
    return from_records(hub("lmsys/mt_bench_human_judgments", "human"))


def from_records(found: Records) -> Iterator[Comparison | str]:
    """The items of records of the Hub."""
    for where, vote in rows(found, _Vote):
        first, second = vote.conversation_a[1].content, vote.conversation_b[1].content
        if vote.turn == 1:
            question = prompt(vote.conversation_a[0].content, where)
            yield to_comparison(question, (first, second), _PREFERENCES.get(vote.winner, 0.5), where)
        else:
            yield "second turn"
