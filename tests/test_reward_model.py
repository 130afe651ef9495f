"""Reward models: scores of plain rows, a run that can be killed, and a folder that plain Transformers reads."""

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import same_run
from tiny import (
    command_line,
    in_process,
    pair_records,
    read_jsonl,
    saved,
    tiny_llama,
    tiny_tokenizer,
    tiny_world,
    weights_of,
    write_jsonl,
)
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from uptake import methods
from uptake.errors import InputError
from uptake.examples.preferences import PreferenceRows
from uptake.losses.scalar import BradleyTerry
from uptake.models import LanguageModel, add_lora, pack
from uptake.models.heads import AddHead, node_last, token_values
from uptake.objective import ScoredPairs
from uptake.reference import NoReference
from uptake.rewards.classifier import Classifier
from uptake.tasks.check import check
from uptake.town import CHAT_TEMPLATE
from uptake.train.loop import Options, run
from uptake.types import Pair, Turn
from uptake.update import Optimization, build_optimizer, optimizer_step, trainable
from uptake.world import World

FAST: dict[str, Any] = {"lr": 1e-2, "batch_size": 4, "warmup": 0, "epochs": 6, "micro_tokens": 60}
# After the end of an answer there is more, as in most templates.
TALKATIVE = CHAT_TEMPLATE.replace("<end>", "<end> thanks")


def scorer(dtype: torch.dtype = torch.float64, std: float = 0.5) -> LanguageModel:
    lm = tiny_llama(dtype=dtype)
    torch.manual_seed(3)
    return replace(lm, heads=AddHead(std=std)(lm))


def pairs(world: World) -> Sequence[Pair]:
    found: Sequence[Pair] = PreferenceRows()(world, 0).examples
    return [replace(pair, margin=index / 4, p=1 - index / 20) for index, pair in enumerate(found)]


def score_by_hand(lm: LanguageModel, ids: Sequence[int]) -> Tensor:
    states = lm.base.base_model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
    score: Tensor = states[0, -1] @ lm.heads["score"].weight[0]
    return score


def test_the_loss_is_that_of_plain_rows() -> None:
    lm = scorer()
    examples = pairs(tiny_world(Path("unused"), pair_records(5), lm))
    loss = ScoredPairs(BradleyTerry(0.5, 0.1))(lm, NoReference().start(tiny_world(Path("unused"), [], lm)), examples)
    total, hits = torch.zeros((), dtype=torch.float64), 0
    for pair in examples:
        good, bad = (score_by_hand(lm, (*pair.prompt_ids, *ids)) for ids in (pair.chosen_ids, pair.rejected_ids))
        sides = [torch.sigmoid(sign * (good - bad) - 0.5 * pair.margin).log() for sign in (1, -1)]
        total = total - pair.p * sides[0] - (1 - pair.p) * sides[1] + 0.1 * (good + bad) ** 2
        hits += int(good > bad)
    torch.testing.assert_close(loss.total, total, atol=1e-5, rtol=1e-6)
    assert loss.metrics["accuracy"] == hits
    by_hand = torch.autograd.grad(total, [*trainable(lm).values()], allow_unused=True)
    ours = torch.autograd.grad(loss.total, [*trainable(lm).values()], allow_unused=True)
    for one, other in zip(ours, by_hand, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_the_end_of_the_turn_carries_the_score() -> None:
    examples = pairs(tiny_world(Path("unused"), pair_records(3), scorer()))
    ends = {ids[-1] for pair in examples for ids in (pair.chosen_ids, pair.rejected_ids)}
    assert ends == {tiny_tokenizer().eos_token_id}


@pytest.mark.parametrize("micro_tokens", [1, 40])
def test_micro_batches_add_up_to_the_big_batch(micro_tokens: int) -> None:
    objective = ScoredPairs(BradleyTerry(0.5, 0.1))
    results = []
    for budget in (micro_tokens, 10**6):
        lm = scorer()
        world = tiny_world(Path("unused"), pair_records(7), lm)
        settings = Optimization(lr=1e-2, micro_tokens=budget)
        optimizer = build_optimizer(settings, trainable(lm).values())
        metrics = optimizer_step(lm, NoReference().start(world), objective, pairs(world), optimizer, settings)
        results.append((metrics, trainable(lm)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-12)
    for name, weight in results[0][1].items():
        torch.testing.assert_close(weight, results[1][1][name], atol=1e-10, rtol=0)


def scores_of(world: World, records: Sequence[dict[str, Any]]) -> list[float]:
    lm = world.policy
    at = tiny_world(Path("unused"), records, lm, chat=world.chat)
    trees = [ScoredPairs(BradleyTerry()).tree(pair) for pair in pairs(at)]
    with torch.no_grad():
        packed = pack(trees)
        return [float(score) for score in node_last(packed, token_values(lm, packed, "score"))]


def dialogues(records: Sequence[dict[str, Any]]) -> list[tuple[Turn, ...]]:
    sides = [(each["prompt"], each[side]) for each in records for side in ("chosen", "rejected")]
    return [(Turn("user", prompt), Turn("assistant", response)) for prompt, response in sides]


def plain_scores(folder: Path, records: Sequence[dict[str, Any]]) -> list[float]:
    """What Transformers alone makes of a folder: its chat template, its padding, its classifier."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    messages = [[{"role": turn.role, "content": turn.content} for turn in turns] for turns in dialogues(records)]
    texts = tokenizer.apply_chat_template(messages, tokenize=False)
    batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        scores: list[float] = model.eval()(batch["input_ids"], batch["attention_mask"]).logits[:, 0].tolist()
    return scores


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, TALKATIVE])
@pytest.mark.parametrize("lora", [0, 4])
def test_a_run_leaves_a_classifier_with_the_same_scores(template: str, lora: int, tmp_path: Path) -> None:
    """Padding and end of the turn are one token in this tokenizer, as in many."""
    tokenizer = tiny_tokenizer(chat_template=template)
    tokenizer.pad_token = "<end>"
    policy = tiny_llama(tokenizer=tokenizer)
    torch.manual_seed(0)
    policy = add_lora(policy, rank=lora) if lora else policy
    before = weights_of(policy)
    world = run(methods.build("rm", {**FAST, "epochs": 14}), tiny_world(tmp_path / "run", pair_records(8), policy))
    first, *_, last = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert first["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert last["accuracy"] == 1.0
    assert last["loss"] < 0.4
    assert last["margin"] == pytest.approx(last["chosen_reward"] - last["rejected_reward"], abs=1e-5)
    moved = {name for name, weight in weights_of(world.policy).items() if not torch.equal(weight, before[name])}
    assert moved
    assert all(("lora_" in name) == bool(lora) for name in moved)
    held_out = [*pair_records(8), *pair_records(4, seed=9)]
    expected = scores_of(world, held_out)
    assert max(expected) - min(expected) > 1
    assert plain_scores(tmp_path / "run" / "model", held_out) == pytest.approx(expected, abs=1e-4)
    rated = Classifier.from_pretrained(tmp_path / "run" / "model", dtype="float32").rate(dialogues(held_out))
    assert [judgement.score for judgement in rated] == pytest.approx(expected, abs=1e-4)


def test_the_first_weights_of_a_head_depend_on_the_seed_alone(tmp_path: Path) -> None:
    found = []
    for name, before, seed in (("one", 1, 3), ("same", 2, 3), ("other", 1, 4)):
        torch.manual_seed(before)  # what the process did before
        world = tiny_world(tmp_path / name, pair_records(4), seed=seed)
        run(methods.build("reward_model", {**FAST, "head_std": 0.5, "epochs": 1}), world)
        found.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert found[0] == found[1] != found[2]


def test_resuming_a_finished_run_writes_the_classifier_again(tmp_path: Path) -> None:
    recipe = methods.build("reward_model", {**FAST, "epochs": 1})
    run(recipe, tiny_world(tmp_path / "run", pair_records(4)))
    weights = tmp_path / "run" / "model" / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    world = run(recipe, tiny_world(tmp_path / "run", pair_records(4)), Options(resume=True))
    assert weights.read_bytes() == before
    assert world.policy.heads["score"].weight.any()


# --- from the command line --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("given")
    data = write_jsonl(folder / "pairs.jsonl", pair_records(12))
    options = [
        f"--set={name}={value}" for name, value in {**FAST, "epochs": 2, "center": 0.01, "head_std": 0.1}.items()
    ]
    policy = saved(tiny_llama(), folder / "policy")
    return ["train", "reward_model", "--policy", str(policy), "--data", str(data), "--save-every", "2", *options]


def test_killed_and_resumed(given: list[str], tmp_path: Path) -> None:
    assert in_process(command_line, [*given, "--out", str(tmp_path / "whole")]) == 0
    for number, moment in enumerate([("open", "00000004.partial/manifest.json", 1), ("os.rename", "model.partial", 1)]):
        arguments = [*given, "--out", str(tmp_path / str(number))]
        assert in_process(command_line, arguments, moment) == -signal.SIGKILL
        assert in_process(command_line, [*arguments, "--resume"]) == 0
        assert same_run(tmp_path / str(number), tmp_path / "whole")
    assert (tmp_path / "whole" / "report.html").exists()


def test_an_adapter_from_the_command_line(given: list[str], tmp_path: Path) -> None:
    """A method without a reference takes `--lora` too, and what is saved is a whole model."""
    assert in_process(command_line, [*given, "--out", str(tmp_path / "run"), "--lora", "2"]) == 0
    assert not (tmp_path / "run" / "model" / "adapter_config.json").exists()
    assert len(plain_scores(tmp_path / "run" / "model", pair_records(2))) == 4


def test_the_preflight_knows_the_head(tmp_path: Path) -> None:
    facts = dict(check(methods.build("rm"), tiny_world(tmp_path, pair_records(3))).facts)
    assert facts["loss before step 1"] == "0.693147, 0.693147"
    check(methods.build("rm", {"head_std": 1.0}), tiny_world(tmp_path, pair_records(3)))


# --- margins ----------------------------------------------------------------------------------------------------------


def test_margins_come_from_the_rows(tmp_path: Path) -> None:
    """With a zero head the loss of a row is -log sigmoid(-scale * margin)."""
    records = [{**record, "margin": float(index)} for index, record in enumerate(pair_records(4))]
    recipe = methods.build("rm", {**FAST, "epochs": 1, "margin_scale": 0.5})
    run(recipe, tiny_world(tmp_path / "run", records))
    (line,) = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    expected = -torch.sigmoid(-0.5 * torch.arange(4.0)).log().mean()
    assert line["loss"] == pytest.approx(float(expected), abs=1e-5)
    plain = methods.build("rm", {**FAST, "epochs": 1})
    run(plain, tiny_world(tmp_path / "plain", records))
    assert read_jsonl(tmp_path / "plain" / "metrics.jsonl")[0]["loss"] == pytest.approx(0.693147, abs=1e-5)


@pytest.mark.parametrize("margin", [None, "much", -1, float("nan")])
def test_a_row_without_a_usable_margin(margin: Any, tmp_path: Path) -> None:
    records = [{**pair_records(1)[0], "margin": margin}]
    with pytest.raises(InputError) as caught:
        run(methods.build("rm", {**FAST, "margin_scale": 1.0}), tiny_world(tmp_path / "run", records))
    assert caught.value.field == "margin"
