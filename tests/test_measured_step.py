"""The measured step of `check`: it is one that the run takes, moves nothing, and its memory is that of the run."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from record.make import token_rater
from tiny import (
    pair_records,
    prompt_records,
    read_jsonl,
    tiny_llama,
    tiny_world,
    weights_of,
    write_followups,
)

from uptake import methods
from uptake.errors import InputError
from uptake.tasks.check import check
from uptake.train.loop import run

PAIRS = Path(__file__).parent.parent / "examples" / "human_pairs.jsonl"
LEARNS: dict[str, Any] = {"lr": 1e-2, "batch_size": 4, "micro_tokens": 60}


@pytest.mark.parametrize("method", ["dpo", "reward_model"])
@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "adafactor"])
def test_measuring_moves_nothing(tmp_path: Path, method: str, optimizer: Any) -> None:
    """A run on the very model that was measured ends as one that was not: weights and metrics to the last bit."""
    recipe = methods.build(method, {**LEARNS, "optimizer": optimizer, "weight_decay": 0.1})
    lm, other = tiny_llama(), tiny_llama()
    found = check(recipe, tiny_world(tmp_path / "run", pair_records(10), lm), measure=True)
    assert all(torch.equal(weight, weights_of(other)[name]) for name, weight in weights_of(lm).items())
    for name, each in (("run", lm), ("plain", other)):
        run(recipe, tiny_world(tmp_path / name, pair_records(10), each))
    assert all(torch.equal(weight, weights_of(other)[name]) for name, weight in weights_of(lm).items())
    lines, plain = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("run", "plain"))
    assert lines == plain
    # The step that was measured is the run's second one.
    facts = dict(found.facts)
    minutes, seconds, tokens = re.findall(r"(?:about|:|of) (\S+) (?:minutes|s|tokens)", facts["time"])
    assert int(tokens) == lines[1]["tokens"]
    whole = sum(line["tokens"] for line in lines)
    assert float(minutes) == pytest.approx(float(seconds) / lines[1]["tokens"] * whole / 60, rel=0.15)


def test_measuring_what_is_sampled_keeps_nothing_and_moves_nothing(tmp_path: Path) -> None:
    """A few responses are sampled, judged and learned from; the run afterwards is that of an untouched model."""
    write_followups(tmp_path)
    options = {"n": 2, "max_new_tokens": 6, "keep_unfinished": True, "max_length_ratio": 100.0, "lr": 1e-2}
    options |= {"followups": str(tmp_path / "followups.yaml"), "batch_size": 2, "min_category_agreement": 0.0}
    recipe, rows, lm = methods.build("flr", options), prompt_records(12), tiny_llama()
    found = dict(check(recipe, tiny_world(tmp_path / "run", rows, lm), measure=True).facts)
    assert not (tmp_path / "run").exists()
    plain = tiny_llama()
    for name, each in (("run", lm), ("plain", plain)):
        run(recipe, tiny_world(tmp_path / name, rows, each))
    assert all(torch.equal(weight, weights_of(plain)[name]) for name, weight in weights_of(lm).items())
    assert re.fullmatch(r"about \S+ minutes: \S+ s for 16 responses of 8 prompts, \d+ tokens", found["time: sampling"])
    assert re.fullmatch(r"about \S+ minutes: \S+ s for 16 responses", found["time: judging"])
    minutes = [float(found[f"time: {name}"].split()[1]) for name in ("sampling", "judging", "update")]
    whole, count = re.findall(r"about (\S+) minutes for (\d+) prompts, by 8 of them", found["time"])[0]
    assert float(whole) == pytest.approx(sum(minutes), rel=0.05)
    assert int(count) == 12


@pytest.mark.parametrize("method", ["ppo", "fine_grained_ppo", "online_ai_feedback"])
def test_every_method_that_samples_is_measured(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    token_rater()
    sampling = {"n": 2, "prompts": 4, "rounds": 3, "epochs": 2, "max_new_tokens": 6}
    options: dict[str, dict[str, Any]] = {
        "ppo": {**sampling, "reward": "length"},
        "fine_grained_ppo": {**sampling, "reward": {"token_reward": {"path": "recorded-token-rater"}}},
        "online_ai_feedback": {
            "judge": {"from_reward": {"reward": "length"}},
            "steps": 3,
            "batch_size": 4,
            "max_new_tokens": 6,
        },
    }
    found = dict(
        check(methods.build(method, options[method]), tiny_world(tmp_path, prompt_records(8)), measure=True).facts
    )
    assert {"time: sampling", "time: judging", "time: update", "time", "memory of a step"} <= found.keys()


def test_a_share_that_gives_no_example_is_said(tmp_path: Path) -> None:
    write_followups(tmp_path)
    options = {
        "n": 2,
        "max_new_tokens": 4,
        "followups": str(tmp_path / "followups.yaml"),
        "min_category_agreement": 1.0,
        "max_length_ratio": 1.0,
    }
    with pytest.raises(InputError, match="no training example came of 8 rows"):
        check(methods.build("flr", options), tiny_world(tmp_path, prompt_records(12)), measure=True)


PAIRWISE = ["dpo", "--limit", "16", "--set", "batch_size=8"]
SAMPLED = ["ppo", "--limit", "4", "--lora", "16", "--reward", "length", "--set", "critic=shared", "--set", "epochs=1"]
SAMPLED += ["--set", "n=2", "--set", "prompts=4", "--set", "rounds=2", "--set", "max_new_tokens=48"]


@pytest.mark.slow
@pytest.mark.skipif("UPTAKE_SMOLLM2" not in os.environ, reason="UPTAKE_SMOLLM2 names no model")
@pytest.mark.parametrize(
    ("method", "within"),
    [(PAIRWISE, 0.1), ([*PAIRWISE, "--lora", "16"], 0.1), (SAMPLED, 0.2)],
    ids=["all weights", "adapter", "ppo"],
)
def test_memory_of_a_real_model_is_that_of_its_run(tmp_path: Path, method: list[str], within: float) -> None:
    """Both in processes of their own, whose peaks the kernel counts: as told before a step, and as measured."""
    given = [*method, "--policy", os.environ["UPTAKE_SMOLLM2"], "--data", str(PAIRS)]
    given += ["--dtype", "float32", "--set", "micro_tokens=512"]
    said = called(["check", *given, "--measure"])
    done = called(["train", *given, "--out", str(tmp_path / "run")])
    taken = int(done.split()[-1]) / 2**20
    (told,), (measured,) = (
        re.findall(rf"{name} +│ about (\S+) GiB", said) for name in ("memory of a step", "peak memory")
    )
    assert 0.9 <= float(told) / taken <= 1.25
    assert float(measured) == pytest.approx(taken, rel=within)


def called(arguments: list[str]) -> str:
    """What a command prints, and the peak of its process in KiB at the end."""
    program = (
        "import atexit, sys; from uptake import cli\n"
        "atexit.register(lambda: print(*[x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM')]))\n"
        f"sys.argv = ['uptake', *{arguments!r}]; cli.main()"
    )
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
