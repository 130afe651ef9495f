"""Stanford Human Preferences: of two comments on a Reddit post, the one that more readers voted for.

A comment is preferred that came later and still has the higher score. All pairs of the test split are evaluated; the
groups are the subreddits. Source: stanfordnlp/SHP on the Hub; Ethayarajh et al. (ICML 2022).
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row

FOLDER = local = None


class _Pair(BaseModel):
    domain: str
    history: str
    human_ref_A: str
    human_ref_B: str
    labels: Literal[0, 1]


def hub() -> Iterator[Row]:
    """One comparison a row."""
    return items(parse.hub("stanfordnlp/SHP", "test"))


def items(found: parse.Records) -> Iterator[Row]:
    """The items of records of the Hub; label 1 prefers the first comment."""
    for where, pair in parse.rows(found, _Pair):
        comments, group = (pair.human_ref_A, pair.human_ref_B), pair.domain.removesuffix("_test")
        yield parse.comparison(parse.prompt(pair.history, where), comments, float(pair.labels), where, group)
