"""USR-TopicalChat: six responses, four of them by machines, to each of 60 conversations, rated by three annotators.

The facts that the response should draw on are not shown to a reward. Source: Mehri and Eskenazi, ACL 2020 (arXiv
2005.00456), as in maszhongming/UniEval. License of that repository: MIT.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from uptake.benchmarks.chats import context, rated
from uptake.benchmarks.items import Row
from uptake.benchmarks.parse import rows, table
from uptake.types import Turn

FOLDER = "usr-topicalchat"
hub = None


class _Response(BaseModel):
    source: str
    system_id: str
    system_output: str
    scores: dict[str, float]


def local(folder: Path) -> Iterator[Row]:
    """Means over annotators of understandability, naturalness, coherence, engagingness, groundedness, and overall."""
    for where, row in rows(table(folder, "topical_chat"), _Response):
        turns = (*context(row.source.strip().split("\n")), Turn("assistant", row.system_output.strip()))
        yield rated(turns, row.scores, where=where, system=row.system_id)
