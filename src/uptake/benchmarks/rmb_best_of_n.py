"""RMB, best of n: one model's answer to what a user of WildChat asked is better than all the others, says GPT-4.

The best answer has quality 1 and the others 0: among themselves they are not ranked. Source:
Zhou-Zoey/RMB-Reward-Model-Benchmark; Zhou et al. (arXiv 2410.09893). No license is stated.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from uptake.benchmarks import parse
from uptake.benchmarks.items import Candidates, Row
from uptake.benchmarks.rmb import Answer, Question

FOLDER = "rmb"
hub = None


class _Best(Question):
    bon_best: Answer
    loser_list: list[Answer] = Field(min_length=1)


def local(folder: Path) -> Iterator[Row]:
    """The candidates of every row, the best one first."""
    for where, row in parse.rows(parse.table(folder, "bon_helpfulness"), _Best):
        answers = tuple(each.answer for each in (row.bon_best, *row.loser_list))
        if all(answer.strip() for answer in answers):
            qualities = (1.0, *(0.0 for _ in row.loser_list))
            yield Candidates(row.asked(where), answers, qualities, row.goal, where)
        else:
            yield "no response"
