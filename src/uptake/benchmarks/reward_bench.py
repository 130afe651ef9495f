"""RewardBench: a good and a bad response in chat, safety, math and code, checked by hand or by tests.

The groups are its 23 subsets, of which the leaderboard makes the sections Chat, Chat Hard, Safety and Reasoning.
Source: allenai/reward-bench on the Hub, split "filtered"; Lambert et al. (arXiv 2403.13787). License: ODC-By.
"""

from collections.abc import Iterator

from pydantic import BaseModel

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row

FOLDER = local = None


class _Pair(BaseModel):
    prompt: str
    chosen: str
    rejected: str
    subset: str


def hub() -> Iterator[Row]:
    """One comparison a row."""
    return items(parse.hub("allenai/reward-bench", "filtered"))


def items(found: parse.Records) -> Iterator[Row]:
    """The items of records of the Hub."""
    for where, pair in parse.rows(found, _Pair):
        asked = parse.prompt(pair.prompt, where)
        yield parse.comparison(asked, (pair.chosen, pair.rejected), 1.0, where, pair.subset)
