"""The measured step of `check`: it is one that the run takes, moves nothing, and its memory is that of the run."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import pair_records, prompt_records, read_jsonl, tiny_llama, tiny_world, weights_of, write_jsonl

from uptake import methods
from uptake.errors import InputError
from uptake.tasks.check import check, too_large
from uptake.tasks.measured_step import MeasuredStep
from uptake.train.loop import run

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


def test_a_run_that_a_laptop_cannot_hold_is_told_what_takes_less() -> None:
    (stage,) = methods.build("dpo").stages
    assert too_large(stage, MeasuredStep(1.0, 6000, 8 * 2**30)) == ""
    line = too_large(stage, MeasuredStep(1.0, 6000, 9 * 2**30))
    assert line == "the run takes 9.0 GiB, and a laptop has 8: smaller are --lora 16 and --set micro_tokens=1500"


def test_nothing_is_measured_before_it_is_sampled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is sampled yet"):
        check(methods.build("flr"), tiny_world(tmp_path, prompt_records(2)), measure=True)


@pytest.mark.slow
@pytest.mark.skipif("UPTAKE_SMOLLM2" not in os.environ, reason="UPTAKE_SMOLLM2 names no model")
@pytest.mark.parametrize("lora", [0, 16])
def test_memory_of_a_real_model_is_that_of_its_run(tmp_path: Path, lora: int) -> None:
    """Both in processes of their own, whose peaks the kernel counts."""
    data = write_jsonl(tmp_path / "pairs.jsonl", pair_records(8))
    given = ["dpo", "--policy", os.environ["UPTAKE_SMOLLM2"], "--data", str(data), "--dtype", "float32"]
    given += ["--lora", str(lora), "--set", "batch_size=4"]
    told = called(["check", *given, "--measure"])
    (expected,) = re.findall(r"about (\S+) GiB, at that step", told)
    done = called(["train", *given, "--out", str(tmp_path / "run")])
    assert float(expected) * 2**20 == pytest.approx(int(done.split()[-1]), rel=0.2)


def called(arguments: list[str]) -> str:
    """What a command prints, and the peak of its process in KiB at the end."""
    program = (
        "import atexit, sys; from uptake import cli\n"
        "atexit.register(lambda: print(*[x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM')]))\n"
        f"sys.argv = ['uptake', *{arguments!r}]; cli.main()"
    )
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
