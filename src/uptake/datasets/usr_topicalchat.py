"""USR-TopicalChat: six responses, four of them by machines, to each of 60 conversations, rated by three annotators.

The facts that the response should draw on are not shown to a reward.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from uptake.datasets.items import Rating, to_rating
from uptake.datasets.parse import context, rows, table
from uptake.types import Turn

FOLDER = "usr-topicalchat"
SOURCE = "Mehri and Eskenazi, ACL 2020 (arXiv 2005.00456), as in maszhongming/UniEval"
LICENSE = "MIT (of that repository)"


class _Response(BaseModel):
    source: str
    system_id: str
    system_output: str
    scores: dict[str, float]


def ratings(folder: Path) -> Iterator[Rating | str]:
    """Means over annotators of understandability, naturalness, coherence, engagingness, groundedness, and overall."""
    for where, row in rows(table(folder, "topical_chat"), _Response):
        turns = (*context(row.source.strip().split("\n")), Turn("assistant", row.system_output.strip()))
        yield to_rating(turns, row.scores, where=where, system=row.system_id)
