"""HH-RLHF helpful prompts: what people asked an assistant first, each with one good reply.

The prompts are those of helpful-base, train.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from uptake.datasets.parse import rows, table
from uptake.types import Dialogue, Turn

FOLDER = "hh-helpful-prompts"
SOURCE = "Anthropic/hh-rlhf, as in xu1998hz/BPO; Bai et al. (arXiv 2204.05862)"
LICENSE = "MIT, none stated in the second repository"

# The mark that asks for the reply.
_ASKS = re.compile(r"\s*Assistant:\s*\Z")


class _Replied(BaseModel):
    prompt: str
    label: str


def conversations(folder: Path) -> Iterator[Dialogue]:
    """Every prompt with its reply."""
    for _, row in rows(table(folder, "train"), _Replied):
        yield Turn("user", _ASKS.sub("", row.prompt)), Turn("assistant", _ASKS.sub("", row.label))
