"""A real model (slow): UPTAKE_SMOLLM2 names the folder that `examples/smollm2.py` makes, UPTAKE_DATA the data sets."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import read_jsonl, write_jsonl
from tiny_cli import Cli, sets

from uptake.annotators.cue import CueForm
from uptake.annotators.llm import LLMJudge
from uptake.datasets import Benchmark, Comparison, open_benchmarks
from uptake.evaluate.annotator import annotator_stats, position_bias_warning
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
    assert "both orders agree in " in position_bias_warning(stats)
    print(stats)


PAIRS = Path(__file__).parent.parent / "examples" / "human_pairs.jsonl"
EDITS = (
    ("Correct this: He go to school.", "He go to school every day.", "He goes to school every day."),
    ("Correct this: She have two cat.", "She have two cats.", "She has two cats."),
    ("Correct this: They was late.", "They was late again.", "They were late again."),
    ("Correct this: I likes tea.", "I likes tea very much.", "I like tea very much."),
)
FEW = sets({"batch_size": 2, "lr": 1e-5})
SHORT = sets({"max_new_tokens": 8, "keep_unfinished": True, "batch_size": 2, "lr": 1e-5})


@pytest.fixture
def rows(uptake: Cli) -> Cli:
    """A folder with four pairs of people, their prompts, and four edits."""
    pairs = [json.loads(line) for line in PAIRS.read_text().splitlines()[:4]]
    write_jsonl(Path("pairs.jsonl"), pairs)
    write_jsonl(Path("prompts.jsonl"), [{"prompt": pair["prompt"]} for pair in pairs[:2]])
    write_jsonl(
        Path("edits.jsonl"), [dict(zip(("prompt", "completion", "edited"), edit, strict=True)) for edit in EDITS]
    )
    return uptake


@pytest.mark.parametrize("adapter", [(), ("--lora", 8)], ids=["all weights", "adapter"])
@pytest.mark.parametrize("method", ["dpo", "kto", "reward_model"])
def test_a_method_of_pairs_learns(rows: Cli, method: str, adapter: tuple[object, ...]) -> None:
    rows("train", method, "--policy", FOLDER, "--data", "pairs.jsonl", "--out", "run", *adapter, *FEW)
    assert {row["tokens"] > 0 for row in read_jsonl(Path("run/metrics.jsonl"))} == {True}


def test_follow_ups_mine_and_align(rows: Cli) -> None:
    options = sets({"n": 2, "followups": "short-en", "min_category_agreement": 0})
    said = rows(
        "train", "flr", "--policy", FOLDER, "--data", "prompts.jsonl", "--out", "run", "--lora", 8, *SHORT, *options
    )
    assert "report:" in said


def test_a_reward_model_of_people_is_the_annotator(rows: Cli) -> None:
    rows("train", "reward_model", "--policy", FOLDER, "--data", "pairs.jsonl", "--out", "rm", *FEW)
    said = rows(
        *("train", "oaif", "--policy", FOLDER, "--data", "prompts.jsonl", "--out", "run", "--lora", 8, *SHORT),
        *("--set=steps=1", "--judge", "classifier:rm/model"),
    )
    assert "report:" in said


def test_edits_become_token_rewards_and_a_policy(rows: Cli) -> None:
    rows("train", "token_reward_model", "--policy", FOLDER, "--data", "edits.jsonl", "--out", "trm", *FEW)
    options = sets({"critic": "shared", "n": 2, "prompts": 2})
    said = rows(
        *("train", "fine_grained_ppo", "--policy", FOLDER, "--data", "prompts.jsonl", "--out", "run", "--lora", 8),
        *("--reward", "token_reward:trm/model", *sets({"max_new_tokens": 8, "rounds": 1}), *options),
    )
    assert "report:" in said


RELATIVES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "spin": ("scored.jsonl", {"iterations": 2, "max_new_tokens": 8, "keep_unfinished": True}),
    "spa": ("mixed.jsonl", {"iterations": 2, "epochs": 1, "max_new_tokens": 8, "least": 1}),
    "selm": ("pairs.jsonl", {"iterations": 2, "reward": "length", "max_new_tokens": 8}),
    "osp": ("prompts.jsonl", {"steps": 2, "n": 2, "max_new_tokens": 8, "allow_position_bias": True}),
    "bpo": ("prompts.jsonl", {"steps": 2, "steps_per_round": 1, "judge": "length", "max_new_tokens": 8, "ensemble": 2}),
    "fa": ("scored.jsonl", {}),
    "rwr": ("scored.jsonl", {}),
    "ca": ("scored.jsonl", {}),
    "mrpo": ("pairs.jsonl", {}),
    "expo": ("pairs.jsonl", {"method": "dpo", "alpha": 0.3}),
}


@pytest.mark.parametrize("method", RELATIVES)
def test_a_relative_learns_and_a_killed_run_ends_with_the_same_bits(rows: Cli, method: str) -> None:
    pairs = read_jsonl(Path("pairs.jsonl"))
    write_jsonl(
        Path("scored.jsonl"),
        [
            {"prompt": pair["prompt"], "completion": pair["chosen"], "reward": len(str(pair["chosen"]))}
            for pair in pairs
        ],
    )
    write_jsonl(Path("mixed.jsonl"), [*pairs[:2], *({"prompt": pair["prompt"]} for pair in pairs)])
    data, options = RELATIVES[method]
    more = ("--model", f"second={FOLDER}") if method == "mrpo" else ()
    settings = sets({**options, "lr": 1e-5, **({} if method == "expo" else {"batch_size": 2})})
    command = ("train", method, "--policy", FOLDER, "--data", data, "--lora", 8, *more, *settings, "--save-every", 1)
    assert "report:" in rows(*command, "--out", "whole")
    process = subprocess.Popen([sys.executable, "-m", "uptake", *map(str, command), "--out", "killed"])
    lines = Path("killed/metrics.jsonl")
    while process.poll() is None and not (lines.exists() and lines.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "report:" in rows(*command, "--out", "killed", "--resume")
    for path in Path("whole/model").glob("*.safetensors"):
        assert (Path("killed/model") / path.name).read_bytes() == path.read_bytes()
