"""Tiny random models, rows, worlds and killed runs for the tests of the upper rooms; equal seeds, equal results."""

import json
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from uptake import cli
from uptake.data import ChatFormat
from uptake.data.rows import to_row
from uptake.examples.preferences import PreferenceRows
from uptake.judge import PointwiseJudge, RewardSpec
from uptake.models import LanguageModel, branches, prepare
from uptake.models.words import word_tokenizer
from uptake.town import CHAT_TEMPLATE, SPECIAL_TOKENS
from uptake.types import Group, Judgement, Rollout, RoundData, Row
from uptake.world import World

WORDS = (
    *("when", "where", "does", "the", "bakery", "open", "close", "sell", "bread", "cakes", "at", "eight", "nine"),
    *("it", "thanks", "helped", "wrong", ".", "?"),
)
FOLLOWUPS = """
name: tiny
version: 1
language: en
categories:
  correctness: {positive: ["thanks .", "it helped ."], negative: ["wrong ."]}
  relevance: {positive: ["it helped . thanks ."], negative: ["where ?", "when ?"]}
"""


def tiny_tokenizer(words: Sequence[str] = WORDS, **changes: Any) -> PreTrainedTokenizerFast:
    return word_tokenizer(words, SPECIAL_TOKENS, **{"end": "<end>", "chat_template": CHAT_TEMPLATE, **changes})


# Models that were made, by what they were made of: most of the time goes to the self-check of a new one.
_made: dict[str, LanguageModel] = {}


def tiny_llama(
    seed: int = 0, dtype: torch.dtype = torch.float32, tokenizer: PreTrainedTokenizerFast | None = None, **changes: Any
) -> LanguageModel:
    """A Llama with random weights, large enough to prefer some words to others; every call gives one of its own."""
    if tokenizer is not None:
        return _new_llama(seed, dtype, tokenizer, changes)
    name = f"{seed} {dtype} {sorted(changes.items())}"
    if name not in _made:
        _made[name] = _new_llama(seed, dtype, tiny_tokenizer(), changes)
    return deepcopy(_made[name])


def _new_llama(
    seed: int, dtype: torch.dtype, tokenizer: PreTrainedTokenizerFast, changes: Mapping[str, Any]
) -> LanguageModel:
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    options = {"max_position_embeddings": 96, "initializer_range": 0.4, **shape, **ends, **changes}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **options))
    return prepare(model.to(dtype), tokenizer, f"tiny-{seed}")


def saved(lm: LanguageModel, folder: Path) -> Path:
    """The model as a Transformers folder."""
    lm.base.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def sentence(rng: random.Random, longest: int = 6) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))


def pair_records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [{"prompt": sentence(rng), "chosen": sentence(rng), "rejected": sentence(rng)} for _ in range(count)]


def prompt_records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [{"prompt": sentence(rng)} for _ in range(count)]


def answered_records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [{"prompt": sentence(rng), "completion": sentence(rng)} for _ in range(count)]


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_followups(folder: Path) -> Path:
    path = folder / "followups.yaml"
    path.write_text(FOLLOWUPS)
    return path


def tiny_world(
    folder: Path, records: Iterable[Mapping[str, Any]], lm: LanguageModel | None = None, **changes: Any
) -> World:
    """A fresh policy with rows; a second model with other weights says what users would say."""
    policy = tiny_llama() if lm is None else lm
    rows: list[Row] = [to_row(record) for record in records]
    world = World(policy, ChatFormat.of(policy), rows, {"follow_up": tiny_llama(seed=1)}, folder)
    return replace(world, **changes)


@dataclass(frozen=True)
class Imitated:
    """Every response of preference rows as a text to imitate."""

    def __call__(self, world: World, round_: int) -> RoundData:
        pairs = PreferenceRows()(world, round_).examples
        trees = [branches(pair.prompt_ids, ids) for pair in pairs for ids in (pair.chosen_ids, pair.rejected_ids)]
        return RoundData(trees, {"samples": len(trees)})


def flat(groups: Iterable[Group]) -> list[Rollout]:
    """The responses of groups, in order."""
    return [rollout for group in groups for rollout in group]


def one_group(by: RewardSpec) -> Callable[[World, Sequence[Rollout]], list[Judgement]]:
    """A pointwise judge of rollouts that are taken as one group."""
    judge = PointwiseJudge(by)
    return lambda world, rollouts: list(judge.start(world)([tuple(rollouts)])[0])


def weights_of(lm: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in lm.model.named_parameters()}


@cache
def _server() -> ForkServerContext:
    """Where processes come from: a server that has imported everything, so that each costs a fork."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny_preload"])
    paths = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [paths])])
    ensure_running()
    if paths is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = paths
    return context


def started(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Have a function called in a process of its own, in this folder and with these environment variables."""
    process = _server().Process(target=_with_environment, args=(dict(os.environ), function, *arguments))
    process.start()
    return process


def _with_environment(variables: dict[str, str], function: Callable[..., None], *arguments: Any) -> None:
    # Those of the server are whatever they were when its first process was wanted.
    os.environ.clear()
    os.environ.update(variables)
    function(*arguments)


def in_process(function: Callable[..., None], *arguments: Any) -> int:
    """Call a function in a process of its own; returns the exit code, -9 where it was killed."""
    process = started(function, *arguments)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def written(folder: Path, function: Callable[..., None], *arguments: Any) -> None:
    """Call a function with the process's standard output in out.txt of the folder and its errors in error.txt."""
    for number, name in ((1, "out.txt"), (2, "error.txt")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    function(*arguments)


def command_line(arguments: Sequence[str], kill_at: tuple[str, str, int] | None = None) -> None:
    """Run `uptake`, until SIGKILL just before the n-th event on a path: `kill_at` (event, part of the path, n).

    Events are those of `sys.audit`: "open", "os.rename", "os.mkdir", "os.remove", "os.truncate".
    """
    if kill_at is not None:
        sys.addaudithook(killer(*kill_at))
    sys.argv = ["uptake", *arguments]
    cli.main()


def killer(wanted: str, part: str, number: int) -> Callable[[str, tuple[Any, ...]], None]:
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == wanted and part in str(arguments[0]):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook
