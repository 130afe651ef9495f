"""A real model (slow): UPTAKE_SMOLLM2 names the folder that `examples/smollm2.py` makes, UPTAKE_DATA the data sets."""

import os
import random
from pathlib import Path

import pytest

from uptake.annotators.cue import CueForm
from uptake.annotators.llm import LLMJudge
from uptake.datasets import Benchmark, Comparison, open_benchmarks
from uptake.evaluate.annotator import annotator_stats, goes_by_place
from uptake.models import LanguageModel, load

FOLDER, DATA = (Path(os.environ.get(name, "nowhere")) for name in ("UPTAKE_SMOLLM2", "UPTAKE_DATA"))
SETS = ("pandalm", "hh_helpful_base", "llmbar", "hh_harmless_base")
# Characters of prompt and responses.
LONGEST = 1500

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="UPTAKE_SMOLLM2 names no folder"),
]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load(FOLDER, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def pairs() -> list[Comparison]:
    """Twenty short pairs of each set where people prefer a response."""
    if not DATA.is_dir():
        pytest.skip("UPTAKE_DATA names no folder")
    found = []
    for name in SETS:
        (benchmark,) = open_benchmarks(name, DATA)
        assert isinstance(benchmark, Benchmark)
        short = [item for item in benchmark.items if isinstance(item, Comparison) and size(item) < LONGEST]
        found += random.Random(0).sample([item for item in short if item.preference in (0.0, 1.0)], 20)
    return found


def size(item: Comparison) -> int:
    return sum(len(text) for text in (*item.responses, *(turn.content for turn in item.prompt.turns)))


def test_nine_in_ten_verdicts_are_valid_and_the_judge_goes_by_place(lm: LanguageModel, pairs: list[Comparison]) -> None:
    judge = LLMJudge.from_pretrained(lm)
    assert judge.cue.form == CueForm(" ")
    verdicts = judge.compare([item.prompt for item in pairs], [item.responses for item in pairs])
    stats = annotator_stats(verdicts, *([len(item.responses[side]) for item in pairs] for side in (0, 1)))
    assert stats.invalid.rate <= 0.1
    assert "both orders agree in " in goes_by_place(stats)
    print(stats)
