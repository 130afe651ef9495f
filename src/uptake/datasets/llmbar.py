"""LLMBar: one output follows the instruction and the other does not, however well it reads; checked by people.

The groups are its natural and adversarial parts, and what its authors cleaned of MT-Bench, FairEval and LLMEval².
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from uptake.datasets.items import Comparison, to_comparison
from uptake.datasets.parse import prompt, rows, table

FOLDER = "llmbar"
SOURCE = "princeton-nlp/LLMBar; Zeng et al. (arXiv 2310.07641)"
LICENSE = "MIT"

_PARTS = (
    "natural",
    "adversarial_neighbor",
    "adversarial_gptinst",
    "adversarial_gptout",
    "adversarial_manual",
    "processed_mtbench_human",
    "processed_faireval",
    "processed_llmeval2",
)


class _Pair(BaseModel):
    input: str
    output_1: str
    output_2: str
    label: Literal[1, 2]


def comparisons(folder: Path) -> Iterator[Comparison | str]:
    """The comparisons of every part."""
    for part in _PARTS:
        for where, pair in rows(table(folder, part), _Pair):
            outputs = pair.output_1, pair.output_2
            yield to_comparison(prompt(pair.input, where), outputs, float(pair.label == 1), where, part)
