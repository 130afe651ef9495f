"""Stanford Human Preferences: of two comments on a Reddit post, the one that more readers voted for.

A comment is preferred that came later and still has the higher score. All pairs of the test split are evaluated; the
groups are the subreddits.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import Records, hub, prompt, rows

FOLDER = None
SOURCE = "stanfordnlp/SHP on the Hub; Ethayarajh et al. (ICML 2022)"
LICENSE = "see its page on the Hub"


class _Pair(BaseModel):
    domain: str
    history: str
    human_ref_A: str
    human_ref_B: str
    labels: Literal[0, 1]


def hub_comparisons() -> Iterator[Comparison | str]:
    """One comparison a row."""
    return from_records(hub("stanfordnlp/SHP", "test"))


def from_records(found: Records) -> Iterator[Comparison | str]:
    """The items of records of the Hub; label 1 prefers the first comment."""
    for where, pair in rows(found, _Pair):
        comments, group = (pair.human_ref_A, pair.human_ref_B), pair.domain.removesuffix("_test")
        yield to_comparison(prompt(pair.history, where), comments, float(pair.labels), where, group)
