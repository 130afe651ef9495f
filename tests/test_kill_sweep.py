"""Kills at every moment: a chain of calls that die ends byte-equal to one call that does not; planted faults are found.

Behind the slow marker; KILLS says how many processes are to die (100), SWEEP the seed of their moments (0).
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from test_commit_order import COMMANDS, FOLLOW_UPS, REPEATED, answers, arguments, at_hand, prompts
from test_loop import FAST, OPEN, SAMPLED
from tiny import command_line, in_process, pair_records, prompt_records, write_jsonl
from tiny_cli import sets
from tiny_kills import Command, Sweep
from tiny_server import INSTRUCTIONS, JudgeServer

KILLS = int(os.environ.get("KILLS", "100"))
SEED = os.environ.get("SWEEP", "0")

# A method of somebody else, whose loss draws random numbers.
NOISY = '''
"""Next tokens, with noise: what a step learns depends on the random numbers before it."""

from dataclasses import dataclass

import torch

from tiny import Imitated
from uptake.methods import MethodConfig, fill
from uptake.objective import Loss, NextToken
from uptake.recipe import Recipe, Stage
from uptake.update import Optimization


class Config(MethodConfig):
    lr: float = 1e-2
    batch_size: int = 2


@dataclass(frozen=True)
class Noisy(NextToken):
    def __call__(self, policy, reference, examples):
        loss = super().__call__(policy, reference, examples)
        return Loss(loss.total * (0.5 + torch.rand(())), loss.metrics)


def build(config):
    return Recipe((Stage(examples=Imitated(), objective=Noisy(), update=fill(Optimization, config), rounds=2),))
'''


def noisy() -> None:
    write_jsonl(Path("in.jsonl"), pair_records(4))
    Path("noisy.py").write_text(NOISY)


def few_pairs() -> None:
    write_jsonl(Path("in.jsonl"), pair_records(6))


def many_prompts() -> None:
    write_jsonl(Path("in.jsonl"), prompt_records(36))


def asked() -> None:
    write_jsonl(Path("in.jsonl"), pair_records(24))
    Path("oracle.txt").write_text(INSTRUCTIONS)


def asked_online() -> None:
    write_jsonl(Path("in.jsonl"), prompt_records(6))
    Path("oracle.txt").write_text(INSTRUCTIONS)


def labeled_and_not() -> None:
    write_jsonl(Path("in.jsonl"), [*pair_records(4), *prompt_records(4, seed=1)])


def judge_sets(options: Mapping[str, Any]) -> list[str]:
    return [f"--judge-set={name}={value}" for name, value in options.items()]


def moved() -> None:
    """A model and where it began."""
    few_pairs()
    command = arguments("train dpo --policy MODEL --data in.jsonl --out run", *sets(FAST))
    assert in_process(command_line, command) == 0
    Path("run/model").rename("start")
    shutil.rmtree("run")


TRAIN = "--policy MODEL --data in.jsonl --out out --resume --save-every 1"
JUDGED: dict[str, Any] = {"url": "URL", "model": "x", "concurrency": 3, "instructions": "oracle.txt"}
ONLINE = {**FAST, "steps": 4, "max_new_tokens": 4, "ahead": 1, "label": "soft", "judge": json.dumps({"server": JUDGED})}
SHORT: dict[str, Any] = {"temperature": 1.0, "max_new_tokens": 4}
SAMPLES = {**FAST, **OPEN, **SAMPLED, **SHORT, "n": 2, "followups": "followups.yaml", "rounds": 2}
CRITIC = {**SHORT, "reward": "length", "prompts": 4, "n": 2, "rounds": 3, "epochs": 1, "lr": 1e-3, "target_kl": 0.5}
SPREAD = {**FAST, **SHORT, "iterations": 2, "epochs": 1}

# Beside the commands that have an order to keep: what each is given, its words, its output.
FURTHER: dict[str, tuple[Callable[[], None], Sequence[str], str]] = {
    "score by a model": (answers, ["score in.jsonl --model MODEL --out out.jsonl", *FOLLOW_UPS], "out.jsonl"),
    "judge by a server": (
        *(asked, ["judge in.jsonl --judge server --out out.jsonl", *judge_sets(JUDGED)]),
        "out.jsonl",
    ),
    "extrapolate": (moved, ["extrapolate MODEL start --alpha 0.1,0.5 --out out"], "out"),
    "train with noise": (noisy, [f"train ./noisy.py {TRAIN}"], "out/model"),
    "train an adapter": (few_pairs, [f"train dpo --lora 2 {TRAIN}", *sets({**FAST, "epochs": 2})], "out/model"),
    "train on samples": (many_prompts, [f"train follow_up_likelihood {TRAIN}", *sets(SAMPLES)], "out/model"),
    "train with a critic": (prompts, [f"train ppo {TRAIN}", *sets(CRITIC)], "out/model"),
    "train in stages": (labeled_and_not, [f"train spa {TRAIN}", *sets(SPREAD)], "out/model"),
    "train beyond": (few_pairs, [f"train expo {TRAIN}", *sets({**FAST, "epochs": 2})], "out/model"),
    "train online": (asked_online, [f"train online_ai_feedback {TRAIN}", *sets(ONLINE)], "out/model"),
}
CASES = {**{name: case[:3] for name, case in COMMANDS.items()}, **FURTHER}


@pytest.fixture(scope="module")
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as server:
        yield server


@pytest.fixture
def begin(model: Path, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sweep]:
    """Sweeps by the name of their case."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def begun(name: str, control: str = "") -> Sweep:
        prepare, words, output = CASES[name]
        given = tmp_path / "given"
        given.mkdir()
        monkeypatch.chdir(given)
        at_hand(model)
        prepare()
        filled = [word.replace("URL", server.url) for word in arguments(*words)]
        return Sweep(Command(filled, output, name in REPEATED or name.startswith("train")), given, control)

    return begun


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_killed_chains_end_as_one_call_does(name: str, begin: Callable[..., Sweep]) -> None:
    sweep, rng = begin(name), random.Random(f"{SEED} {name}")
    wanted = ceil(KILLS / len(CASES))
    for number in count():
        if sweep.kills >= wanted or number == 10 * wanted:
            break
        sweep.chain(f"{SEED} {name} {number}", kills=min(rng.randint(1, 4), wanted - sweep.kills))
    print(f"{name}: {sweep.kills} kills in {number} chains, {sweep.refused} refused, {sweep.acts} acts")
    assert not sweep.problems, "\n".join(sweep.problems)
    assert sweep.kills >= wanted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("control", "name", "pairs"),
    [
        ("a dropped line", "train with noise", 0.0),
        ("a skipped lock", "train", 1.0),
        ("a lost random state", "train with noise", 0.0),
    ],
)
def test_a_sweep_finds_what_is_planted(control: str, name: str, pairs: float, begin: Callable[..., Sweep]) -> None:
    """Fewer kills than a sweep has at least for one case at KILLS of 500 find it."""
    sweep = begin(name, control)
    for number in range(12):
        sweep.chain(f"control {number}", kills=1, pairs=pairs, clock=0.0, signals=0.0)
        if sweep.problems:
            break
    print(f"{control}: found in chain {number + 1}: {sweep.problems[0] if sweep.problems else 'nothing'}")
    assert sweep.problems
