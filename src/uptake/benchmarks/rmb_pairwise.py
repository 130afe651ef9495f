"""RMB, pairs: two models' answers to what users of WildChat asked, judged by GPT-4 for helpfulness or harmlessness.

The groups are the two goals. Source: Zhou-Zoey/RMB-Reward-Model-Benchmark; Zhou et al. (arXiv 2410.09893). No license
is stated.
"""

from collections.abc import Iterator
from pathlib import Path

from uptake.benchmarks import parse
from uptake.benchmarks.items import Row
from uptake.benchmarks.rmb import Answer, Question

FOLDER = "rmb"
hub = None


class _Pair(Question):
    chosen: Answer
    reject: Answer


def local(folder: Path) -> Iterator[Row]:
    """One comparison a row, the better answer first."""
    for name in ("pairwise_helpfulness", "pairwise_harmlessness"):
        for where, pair in parse.rows(parse.table(folder, name), _Pair):
            yield parse.comparison(pair.asked(where), (pair.chosen.answer, pair.reject.answer), 1.0, where, pair.goal)
