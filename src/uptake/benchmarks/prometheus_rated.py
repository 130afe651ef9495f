"""MT-Bench and Vicuna questions as packaged for Prometheus: GPT-4 rates four models by a rubric, 1 to 5, three times.

The groups are the second turns of MT-Bench ("mt_bench") and the Vicuna questions ("vicuna"). The rubric, one for each
question, is not shown to a reward. Source: prometheus-eval/prometheus-eval; Kim et al. (arXiv 2310.08491). License:
Apache-2.0.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel

from uptake.benchmarks.chats import rated
from uptake.benchmarks.items import Row
from uptake.benchmarks.parse import rows, table
from uptake.types import Role, Turn

FOLDER = "prometheus-rated"
hub = None

_ROLES: dict[str, Role] = {"User": "user", "Assistant": "assistant"}

# A conversation so far, spelled out within the instruction: a first line that asks for the next answer, then turns, the
# last of them a bare "Assistant:".
_DIALOGUE = "Here is a previous dialogue between an assistant and an user."
_MARK = re.compile(r"\n(User|Assistant):")


class _Response(BaseModel):
    response_source: str
    orig_instruction: str
    orig_response: str
    gpt4_score: list[float]


def local(folder: Path) -> Iterator[Row]:
    """The mean of GPT-4's scores of every response."""
    for group in ("mt_bench", "vicuna"):
        for where, row in rows(table(folder, f"{group}_eval"), _Response):
            turns = (*question(row.orig_instruction), Turn("assistant", row.orig_response))
            ratings = {"overall": fmean(row.gpt4_score)} if row.gpt4_score else {}
            yield rated(turns, ratings, where=where, system=row.response_source, group=group)


def question(instruction: str) -> tuple[Turn, ...]:
    """The conversation up to the response, out of an instruction that may spell several turns."""
    if not instruction.startswith(_DIALOGUE):
        return (Turn("user", instruction),)
    _, *parts = _MARK.split(instruction)
    return tuple(Turn(_ROLES[mark], said.strip()) for mark, said in zip(parts[::2], parts[1::2], strict=True))
