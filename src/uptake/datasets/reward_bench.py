"""RewardBench: a good and a bad response in chat, safety, math and code, checked by hand or by tests.

The groups are its 23 subsets, of which the leaderboard makes the sections Chat, Chat Hard, Safety and Reasoning.
"""

from collections.abc import Iterator

from pydantic import BaseModel

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import Records, hub, prompt, rows

FOLDER = None
SOURCE = "allenai/reward-bench on the Hub, filtered split; Lambert et al. (arXiv 2403.13787)"
LICENSE = "ODC-By"


class _Pair(BaseModel):
    prompt: str
    chosen: str
    rejected: str
    subset: str


def hub_comparisons() -> Iterator[Comparison | str]:
    """One comparison a row."""
    return from_records(hub("allenai/reward-bench", "filtered"))


def from_records(found: Records) -> Iterator[Comparison | str]:
    """The items of records of the Hub."""
    for where, pair in rows(found, _Pair):
        question = prompt(pair.prompt, where)
        yield to_comparison(question, (pair.chosen, pair.rejected), 1.0, where, pair.subset)
