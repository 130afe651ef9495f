"""The actor-critic objective against plain forward calls and its own limits, and whole runs of both of its methods."""

import json
import random
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import (
    in_process,
    killer,
    prompt_records,
    read_jsonl,
    tiny_llama,
    tiny_world,
    weights_of,
    write_jsonl,
)
from tiny_models import ready, tiny
from torch import Tensor

from uptake import methods
from uptake.data import read as read_rows
from uptake.errors import InputError, ModelError, UptakeError
from uptake.methods import fine_grained_ppo, ppo
from uptake.models import LanguageModel, add_lora, pack, token_logps
from uptake.models.heads import AddCritic, AddHead, Critic, last_values, read
from uptake.models.scorer import packed_states
from uptake.objective import ActorCritic, RolloutBatch
from uptake.objective.rollout_batch import compare, measure, response_mask, response_tree, reward_table
from uptake.ops.divergence import KLPenalty
from uptake.ops.reward_shaping import RewardShaping
from uptake.recipe import Recipe
from uptake.reference import AdapterOff, Frozen
from uptake.reference.frozen import FrozenModel
from uptake.rewards.function import FromFunction, Rewards
from uptake.train.loop import Options, run
from uptake.types import JudgedGroup, Judgement, Prompt, Rollout, Span
from uptake.update import Optimization, build_optimizer, optimizer_step, trainable, trainable_modules

PLAIN = RewardShaping(center="none", scale="none", clip_reward=None)


def rollout(prompt: Sequence[int], response: Sequence[int], sample: int = 0, finished: bool = True) -> Rollout:
    return Rollout(Prompt((), repr(prompt)), tuple(prompt), tuple(response), "", finished, sample=sample)


def group(*rollouts: Rollout, tokens: bool = True) -> JudgedGroup:
    """Every token is worth its own id, and a response the number of its tokens."""
    return tuple(
        (each, Judgement(float(len(each.response_ids)), tokens=tuple(map(float, each.response_ids)) if tokens else ()))
        for each in rollouts
    )


def responses(example: JudgedGroup) -> list[Rollout]:
    return [rollout for rollout, _ in example]


EXAMPLES = [
    group(rollout((1, 7), (4, 9, 2)), rollout((1, 7), (5, 2), 1), rollout((1, 7), (6, 6, 6, 8), 2, finished=False)),
    group(rollout((1, 3, 8, 9), (11, 2))),
    group(rollout((1, 5, 5), (9, 4, 7, 8, 2)), rollout((1, 5, 5), (2,), 1)),
    group(rollout((1,), (12, 13, 14), finished=False), rollout((1,), (12, 13, 2), 1), rollout((1,), (8, 2), 2)),
]
LENGTHS = [len(each.response_ids) for example in EXAMPLES for each in responses(example)]


def actor(critic: str = "separate", seed: int = 0) -> LanguageModel:
    """A policy in double precision whose critic has something to say."""
    lm = tiny_llama(seed, dtype=torch.float64)
    heads = (AddCritic("value") if critic == "separate" else AddHead("value"))(lm)
    head: Any = heads["value"]
    with torch.no_grad():
        (head.head if critic == "separate" else head).weight.normal_(generator=torch.Generator().manual_seed(5))
    return replace(lm, heads=heads)


def frozen(seed: int = 1) -> FrozenModel:
    return FrozenModel(tiny_llama(seed, dtype=torch.float64))


def plain_states(lm: LanguageModel, example: JudgedGroup) -> list[Tensor]:
    """Final hidden states of prompt and response, one plain row a response."""
    rows = [torch.tensor([[*each.prompt_ids, *each.response_ids]]) for each in responses(example)]
    other = tiny_llama(0, dtype=torch.float64)
    other.base.load_state_dict(lm.base.state_dict())
    with torch.no_grad():
        return [other.base(ids, output_hidden_states=True).hidden_states[-1][0] for ids in rows]


def objective(**changes: Any) -> ActorCritic:
    return ActorCritic(**{"reward_shaping": PLAIN, "kl_penalty": KLPenalty(0.1), **changes})


@dataclass(frozen=True)
class Found:
    """What a round's start says: columns of all tokens in order, without padding, and the numbers beside them."""

    tables: Mapping[str, Tensor]
    memory: Mapping[str, float]
    metrics: Mapping[str, float]

    def __getitem__(self, name: str) -> Tensor:
        return self.tables[name][self.tables["response_mask"]]

    @property
    def columns(self) -> dict[str, Tensor]:
        return {name: self[name] for name in self.tables}


def prepared(
    lm: LanguageModel,
    goal: ActorCritic,
    examples: Sequence[JudgedGroup] = EXAMPLES,
    budget: int = 8192,
    **memory: float,
) -> Found:
    return Found(*goal.prepare(lm, frozen(), examples, memory, budget))


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 1e-10) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=tolerance, rtol=0)


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_values_come_from_the_state_before_the_token(critic: str) -> None:
    lm = actor(critic)
    head: Any = lm.heads["value"]
    weight = (head.head if critic == "separate" else head).weight[0]
    for example in EXAMPLES:
        with torch.no_grad():
            seen = read(lm, pack([response_tree(example)], lean=True), "value")
            after = last_values(lm, pack([response_tree(example)]), "value")
        states = plain_states(lm, example)
        prompt = len(responses(example)[0].prompt_ids)
        before = torch.cat([row[prompt - 1 : -1] @ weight for row in states])
        torch.testing.assert_close(seen.values, before.detach(), atol=1e-10, rtol=0)
        torch.testing.assert_close(
            after, torch.stack([row[-1] @ weight for row in states]).detach(), atol=1e-10, rtol=0
        )


def test_a_critic_starts_at_zero_and_is_a_network_of_its_own() -> None:
    lm = tiny_llama(dtype=torch.float64)
    critic = AddCritic("value")(lm)["value"]
    assert isinstance(critic, Critic)
    assert not critic(pack([response_tree(EXAMPLES[0])])).detach().any()
    with_critic = replace(lm, heads={"value": critic})
    own, beside = dict(lm.model.named_parameters()), trainable_modules(with_critic)
    assert not {id(weight) for weight in own.values()} & {id(weight) for weight in beside.values()}
    # The vocabulary projection stays out, the head comes in.
    assert len(beside) == len(own) - 1 + 1
    assert trainable(with_critic).keys() == own.keys() | beside.keys()


def test_a_critic_of_a_policy_with_an_adapter_learns_by_its_own_adapter() -> None:
    lm = add_lora(tiny_llama(), rank=2)
    beside = trainable_modules(replace(lm, heads=AddCritic("value")(lm)))
    assert all("lora" in name or name == "heads.value.head.weight" for name in beside)
    assert len(beside) > 2


def test_rewards_stand_at_their_tokens() -> None:
    """A reward that is the token's own id gives the response ids, and returns of which two neighbors differ by it."""
    mask = response_mask(EXAMPLES)
    given = reward_table(EXAMPLES, mask, torch.float64)
    ids = [float(token) for example in EXAMPLES for each in responses(example) for token in each.response_ids]
    assert given[mask].tolist() == ids
    assert mask.sum(1).tolist() == LENGTHS
    assert not given[~mask].any()
    goal = objective(kl_penalty=KLPenalty(0.0), reward_shaping=replace(PLAIN, penalty=0.0))
    for budget in (1, 9, 8192):
        returns = prepared(actor(), goal, budget=budget)["returns"].split(LENGTHS)
        found = [row - torch.cat((row[1:], torch.zeros(1))) for row in returns]
        torch.testing.assert_close(torch.cat(found), torch.tensor(ids, dtype=torch.float64), atol=1e-10, rtol=0)


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_the_exact_divergence_reads_the_rest_as_the_others_do(critic: str) -> None:
    """Log-probabilities, values and log-ratios of the one pass are those of a pass each."""
    lm = actor(critic)
    whole, apart = (measure(lm, frozen(), EXAMPLES, 20, kl, "value", temperature=0.7) for kl in ("full", "k1"))
    for one, other in zip(whole[:3], apart[:3], strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kl", ["k1", "k2", "k3", "full"])
def test_the_reference_itself_costs_nothing(kl: Any) -> None:
    lm = actor()
    *_, found = measure(lm, FrozenModel(tiny_llama(0, dtype=torch.float64)), EXAMPLES, 20, kl, "value")
    assert float(found.abs().max()) < 1e-12


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_exact_divergence_is_that_of_plain_rows(temperature: float) -> None:
    lm, reference = actor(), frozen()
    packed = pack([response_tree(example) for example in EXAMPLES], lean=True)
    with torch.no_grad():
        found = compare(lm, reference, packed, packed_states(lm, packed), temperature)[2].split(LENGTHS)
    rows = [
        (each, state)
        for example in EXAMPLES
        for each, state in zip(responses(example), plain_states(lm, example), strict=True)
    ]
    others = [state for example in EXAMPLES for state in plain_states(reference.lm, example)]
    for (each, mine), theirs, kl in zip(rows, others, found, strict=True):
        at = slice(len(each.prompt_ids) - 1, -1)
        p, q = (
            (head(states[at]) / temperature).log_softmax(-1)
            for head, states in ((lm.head, mine), (reference.lm.head, theirs))
        )
        torch.testing.assert_close(kl, (p.exp() * (p - q)).sum(-1).detach(), atol=1e-10, rtol=0)


def test_the_exact_divergence_in_padded_rows() -> None:
    """One pass gives what two readings do; a head that multiplies where others divide is refused."""
    packed = pack([response_tree(example) for example in EXAMPLES], lean=True)
    for family, good in (("Bloom", True), ("HyperCLOVAX", False)):
        lm, other = (ready(tiny(family, seed), family) for seed in (0, 1))
        assert lm.attention == "rows"
        with torch.no_grad():
            if good:
                logps, base, _ = compare(lm, FrozenModel(other), packed, packed_states(lm, packed))
                torch.testing.assert_close(logps, token_logps(lm, packed), atol=1e-5, rtol=0)
                torch.testing.assert_close(base, token_logps(other, packed), atol=1e-5, rtol=0)
            else:
                with pytest.raises(InputError, match="HyperCLOVAX: its log-probabilities differ"):
                    compare(lm, FrozenModel(other), packed, packed_states(lm, packed))


def test_the_adapter_off_is_the_frozen_start(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, [], lm=add_lora(tiny_llama(), rank=2))
    packed = pack([response_tree(EXAMPLES[0])], lean=True)
    start = Frozen().start(world)
    with torch.no_grad():
        for weight in trainable(world.policy).values():
            weight.add_(0.1)
        off = AdapterOff().start(world)
        states = packed_states(world.policy, packed)
        found, wanted = (compare(world.policy, reference, packed, states)[2] for reference in (off, start))
    assert float(found.abs().max()) > 1e-3
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


# --- before the first step -------------------------------------------------------------------------------------------


def test_how_a_round_is_cut_does_not_matter() -> None:
    for goal in (objective(), objective(truncated="bootstrap"), objective(kl_penalty=KLPenalty(0.1, "full"))):
        whole = prepared(actor(), goal)
        for budget in (1, 12, 30):
            cut = prepared(actor(), goal, budget=budget)
            same(cut.tables, whole.tables)
            assert cut.metrics == pytest.approx(whole.metrics, abs=1e-10)
            assert cut.memory == pytest.approx(whole.memory, abs=1e-10)


def test_the_order_of_prompts_does_not_matter() -> None:
    whole, turned = prepared(actor(), objective()), prepared(actor(), objective(), EXAMPLES[::-1])
    sizes = [sum(len(each.response_ids) for each in responses(example)) for example in EXAMPLES]
    for name, column in whole.columns.items():
        back = torch.cat(turned[name].split(sizes[::-1])[::-1])
        torch.testing.assert_close(column, back, atol=1e-10, rtol=0)


@pytest.mark.parametrize("beta", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_the_first_update_is_neutral(beta: float, critic: str) -> None:
    """At the weights of the round's start every ratio is 1, and whitened advantages add up to nothing."""
    lm, goal = actor(critic), objective(kl_penalty=KLPenalty(beta))
    examples = goal.with_prepared(EXAMPLES, prepared(lm, goal).tables)
    loss = goal(lm, frozen(), examples)
    total = sum(map(goal.size, examples))
    assert float(loss.metrics["ratio"]) / total == pytest.approx(1, abs=1e-12)
    for name in ("policy_loss", "approx_kl", "approx_kl3", "clip_fraction"):
        assert float(loss.metrics[name]) / total == pytest.approx(0, abs=1e-12)


def test_components_add_up() -> None:
    """The mean return of whole responses is the sum of the logged parts; the penalty is beta times the KL."""
    lm = actor()
    found = prepared(lm, objective(reward_shaping=RewardShaping(weight=0.5)))
    firsts = torch.stack([row[0] for row in found["returns"].split(LENGTHS)])
    parts = [found.metrics[name] for name in ("reward_tokens", "kl_penalty", "reward_end")]
    assert float(firsts.mean()) == pytest.approx(sum(parts), abs=1e-10)
    assert found.metrics["reward"] == pytest.approx(sum(parts), abs=1e-10)
    assert found.metrics["kl_penalty"] == pytest.approx(-0.1 * found.metrics["kl"], abs=1e-10)
    scores = [score for example in EXAMPLES for score in (judgement.score for _, judgement in example)]
    cut = sum(not each.finished for example in EXAMPLES for each in responses(example))
    assert found.metrics["reward_end"] == pytest.approx((0.5 * sum(scores) - cut) / len(scores), abs=1e-10)


def test_a_reward_at_the_end_is_a_reward_of_the_response() -> None:
    """Tokens of 0 but for the last, and the same number as the score of the response."""
    at_end = [
        tuple((one, Judgement(0.0, tokens=(0.0,) * (int(told.score) - 1) + (told.score,))) for one, told in example)
        for example in EXAMPLES
    ]
    as_score = [group(*responses(each), tokens=False) for each in EXAMPLES]
    one = prepared(actor(), objective(), at_end)
    other = prepared(actor(), objective(reward_shaping=replace(PLAIN, weight=1.0)), as_score)
    same(one.tables, other.tables)


def test_what_follows_a_response_that_was_cut_off() -> None:
    """Terminal, its last return is its last reward; with the critic's word for what would follow, that comes on top."""
    lm = actor()
    quiet = replace(PLAIN, penalty=0.0)
    ended = prepared(lm, objective(reward_shaping=quiet))["returns"].split(LENGTHS)
    going = prepared(lm, objective(reward_shaping=quiet, truncated="bootstrap"))["returns"].split(LENGTHS)
    with torch.no_grad():
        after = last_values(lm, pack([response_tree(example) for example in EXAMPLES]), "value")
    finished = [each.finished for example in EXAMPLES for each in responses(example)]
    for one, other, value, whole in zip(ended, going, after, finished, strict=True):
        torch.testing.assert_close(
            other - one, torch.full_like(one, 0.0 if whole else float(value)), atol=1e-10, rtol=0
        )
    penalized = prepared(lm, objective())["returns"].split(LENGTHS)
    for one, other, whole in zip(ended, penalized, finished, strict=True):
        torch.testing.assert_close(other - one, torch.full_like(one, whole - 1.0), atol=1e-10, rtol=0)


def test_few_responses_are_not_whitened() -> None:
    few = prepared(actor(), objective(), EXAMPLES[:2])
    assert few.metrics["advantage_std"] == pytest.approx(float(few["advantages"].std(correction=0)))
    for whiten, correction in (("sample", 1), ("population", 0)):
        advantages = prepared(actor(), objective(whiten=whiten))["advantages"]
        assert float(advantages.std(correction=correction)) == pytest.approx(1, abs=1e-6)
        assert float(advantages.mean()) == pytest.approx(0, abs=1e-12)
    raw = prepared(actor(), objective(whiten="none"))
    assert raw.metrics["advantage_std"] == pytest.approx(float(raw["advantages"].std(correction=0)))


def test_the_critic_warms_up_alone() -> None:
    goal = objective(critic_warmup=2)
    first = prepared(actor(), goal)
    assert not first["advantages"].any()
    assert first["returns"].any()
    assert not prepared(actor(), goal, **first.memory)["advantages"].any()
    assert prepared(actor(), goal, round=2.0)["advantages"].any()


def test_a_critic_that_has_diverged_is_said(caplog: pytest.LogCaptureFixture) -> None:
    lm = actor()
    prepared(tiny_critic_off(lm), objective())
    assert "worse than a constant" not in caplog.text
    value: Any = lm.heads["value"]
    with torch.no_grad():
        value.head.weight.mul_(1e3)
    assert prepared(lm, objective()).metrics["explained_variance"] < -0.5
    assert "the critic is worse than a constant" in caplog.text
    with torch.no_grad():
        value.head.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="not-a-number among the values"):
        prepared(lm, objective())


def tiny_critic_off(lm: LanguageModel) -> LanguageModel:
    return replace(lm, heads=AddCritic("value")(lm))


# --- the step --------------------------------------------------------------------------------------------------------


def moved(lm: LanguageModel, goal: ActorCritic, micro_tokens: int, order: Sequence[int] = (0, 1, 2, 3)) -> Any:
    """Metrics and gradients of a step on rollouts of another policy."""
    made: list[RolloutBatch] = list(goal.with_prepared(EXAMPLES, prepared(actor(seed=2), goal).tables))
    settings = Optimization(lr=1e-3, micro_tokens=micro_tokens, clip=None)
    optimizer = build_optimizer(settings, trainable(lm).values())
    metrics = optimizer_step(lm, frozen(), goal, [made[index] for index in order], optimizer, settings)
    return metrics, {name: weight.grad for name, weight in trainable(lm).items()}


@pytest.mark.parametrize("mean", ["token", "response"])
def test_micro_batches_add_up(mean: Any) -> None:
    goal = objective(mean=mean, value_clip=0.1, dual_clip=3.0)
    metrics, gradients = moved(actor(), goal, 8192)
    assert metrics["clip_fraction"] > 0.1
    for micro_tokens, order in ((1, (0, 1, 2, 3)), (20, (0, 1, 2, 3)), (20, (2, 0, 3, 1))):
        again, others = moved(actor(), goal, micro_tokens, order)
        assert again == pytest.approx(metrics, abs=1e-10)
        same({name: each for name, each in others.items() if each is not None}, _given(gradients))


def _given(gradients: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: each for name, each in gradients.items() if each is not None}


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_the_loss_is_that_of_the_tempered_distribution(critic: str) -> None:
    """Log-probabilities, ratios and gradient against softmax(logits / T) of plain forward calls."""
    lm, goal = actor(critic), objective(temperature=0.7, value_coef=0.0, clip=0.2)
    made = prepared(actor(critic, seed=2), goal)
    old = tempered(tiny_llama(2, dtype=torch.float64), 0.7).detach()
    torch.testing.assert_close(made["policy_logps"], old, atol=1e-10, rtol=0)
    goal(lm, frozen(), goal.with_prepared(EXAMPLES, made.tables)).total.backward()
    other = tiny_llama(0, dtype=torch.float64)
    ratio, worth = (tempered(other, 0.7) - old).exp(), made["advantages"]
    torch.minimum(ratio * worth, ratio.clamp(0.8, 1.2) * worth).sum().neg().backward()
    # Normalization computes in fp32 whatever the precision of the model.
    same(*(_given({name: each.grad for name, each in one.model.named_parameters()}) for one in (lm, other)), 1e-5)


def tempered(lm: LanguageModel, temperature: float) -> Tensor:
    """Log-probabilities of all response tokens under softmax(logits / temperature), one plain row a response."""
    lm.base.set_attn_implementation("sdpa")
    found = []
    for each in (one for example in EXAMPLES for one in responses(example)):
        ids, first = torch.tensor([[*each.prompt_ids, *each.response_ids]]), len(each.prompt_ids)
        rows = (lm.model(ids).logits[0] / temperature).softmax(-1)
        found.append(rows[torch.arange(first - 1, ids.shape[1] - 1), ids[0, first:]].log())
    return torch.cat(found)


def test_means_over_tokens_and_over_responses() -> None:
    """The value loss by hand: one mean over all tokens, or the mean over responses of means."""
    lm = actor()
    losses: dict[str, float] = {}
    for mean in ("token", "response"):
        goal = objective(mean=mean)
        found = prepared(lm, goal)
        per_token = ((found["values"] - found["returns"]) ** 2 / 2).split(LENGTHS)
        loss = goal(lm, frozen(), goal.with_prepared(EXAMPLES, found.tables))
        losses[mean] = float(loss.metrics["value_loss"]) / (sum(LENGTHS) if mean == "token" else len(LENGTHS))
        wanted = (
            torch.cat(per_token).mean() if mean == "token" else torch.stack([row.mean() for row in per_token]).mean()
        )
        assert losses[mean] == pytest.approx(float(wanted), abs=1e-10)
    assert losses["token"] != pytest.approx(losses["response"], abs=1e-3)


def test_a_critic_has_its_own_rate_and_its_own_clip() -> None:
    lm = actor()
    settings = Optimization(lr=1e-4, module_lr=1e-2, clip=1e-3, optimizer="adamw")
    modules = trainable_modules(lm)
    own = {name: weight for name, weight in trainable(lm).items() if name not in modules}
    before = {name: weight.detach().clone() for name, weight in trainable(lm).items()}
    optimizer = build_optimizer(settings, own.values(), modules.values())
    goal = objective()
    examples = goal.with_prepared(EXAMPLES, prepared(lm, goal).tables)
    metrics = optimizer_step(lm, frozen(), goal, examples, optimizer, settings)
    assert metrics["module_grad_norm"] > metrics["grad_norm"] > 1e-3
    # Adam's first step is the rate, in the direction of the gradient, wherever that is not tiny.
    for weights, rate in ((own, 1e-4), (modules, 1e-2)):
        steps = torch.cat([(weight.detach() - before[name]).abs().flatten() for name, weight in weights.items()])
        assert float(steps.max()) == pytest.approx(rate, rel=0.02)
    with pytest.raises(InputError, match="module_lr"):
        Optimization(lr=0.0, module_lr=1e-3)


# --- whole runs ------------------------------------------------------------------------------------------------------

FAST: dict[str, Any] = {
    "prompts": 4,
    "n": 2,
    "max_new_tokens": 6,
    "rounds": 3,
    "epochs": 2,
    "minibatches": 2,
    "lr": 1e-2,
    "critic_lr": 1e-2,
    "critic_warmup": 0,
    "micro_tokens": 60,
}
WORD = tiny_llama().tokenizer.convert_tokens_to_ids("bread")


def breads(rollout: Rollout) -> Rewards:
    """Every mention of bread is worth one."""
    return Rewards(tokens=[float(token == WORD) for token in rollout.response_ids])


def evens(rollout: Rollout) -> Rewards:
    """Every token with an even number is worth one."""
    return Rewards(tokens=[float(token % 2 == 0) for token in rollout.response_ids])


def recipe(judge: FromFunction | None = None, **options: Any) -> Recipe:
    config: Any = methods.configure("fine_grained_ppo", {**FAST, **options})
    return fine_grained_ppo.build(config, judge or FromFunction(breads))


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    return read_jsonl(folder / "metrics.jsonl")


def test_the_policy_learns_which_tokens_are_good(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, prompt_records(16))
    run(recipe(FromFunction(evens), prompts=16, rounds=6, minibatches=1, beta=0.01, lam=0.5), world)
    lines = metrics_of(tmp_path)
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["token_reward_mean"] > lines[0]["token_reward_mean"] + 0.15
    assert lines[-1]["kl"] > 0.1
    assert all(line["sampler_gap"] < 1e-5 for line in lines)
    assert [line["ratio"] for line in lines[::2]] == pytest.approx([1.0] * 6, abs=1e-5)
    assert not world.policy.model.training


def test_what_is_sampled_at_a_temperature_is_scored_at_it(tmp_path: Path) -> None:
    """The sampler's own log-probabilities are the scorer's, every ratio of a first step is 1, and so is the start's."""
    run(recipe(FromFunction(evens), temperature=0.7, kl="full"), tiny_world(tmp_path, prompt_records(8)))
    lines = metrics_of(tmp_path)
    assert all(line["sampler_gap"] < 1e-5 for line in lines)
    assert [line["ratio"] for line in lines[::4]] == pytest.approx([1.0] * 3, abs=1e-5)
    assert [line["kl"] for line in lines[:4]] == pytest.approx([0.0] * 4, abs=1e-5)
    assert abs(lines[-1]["kl"]) > 1e-3


def test_a_token_reward_model_teaches_the_policy(tmp_path: Path) -> None:
    """The whole way: minimal edits, a token reward model trained on them, and a policy that shuns what it calls bad."""
    tokenizer, rng = tiny_llama().tokenizer, random.Random(0)
    bad = tokenizer.convert_tokens_to_ids("open")  # which the policy often says
    words = sorted(word for word in tokenizer.get_vocab() if word.isalpha() and word != "open")
    edits = [
        {"prompt": f"q {place}", "completion": f"{one} open {two}", "edited": f"{one} nine {two}"}
        for place, (one, two) in enumerate(rng.choices(words, k=2) for _ in range(48))
    ]
    learn = {"lr": 1e-2, "batch_size": 16, "epochs": 12}
    run(methods.build("token_reward_model", learn), tiny_world(tmp_path / "reward", edits))
    options: dict[str, Any] = {**FAST, "prompts": 16, "rounds": 6, "minibatches": 1, "beta": 0.01, "lam": 0.5}
    options["reward"] = {"token_reward": {"path": str(tmp_path / "reward/model")}}
    world = tiny_world(tmp_path / "policy", prompt_records(16))
    run(methods.build("fine_grained_ppo", options), world)
    lines = metrics_of(tmp_path / "policy")
    assert lines[-1]["token_reward_mean"] > lines[0]["token_reward_mean"]

    def share(round_: int) -> float:
        judged = read_jsonl(tmp_path / f"policy/rounds/0-{round_}/judged.jsonl")
        sampled = [rollout for line in judged for group in line["groups"] for rollout in group]
        said = [token for each in sampled for token in each["response_ids"]]
        return said.count(bad) / len(said)

    assert share(5) < 0.5 * share(0)


def test_a_score_alone_is_sequence_ppo(tmp_path: Path) -> None:
    """A token reward of 0 with the score at the end ends with the very weights of the other method."""

    def length(rollout: Rollout) -> float:
        return float(len(set(rollout.response_ids)))

    judge = FromFunction(length)
    run(recipe(judge, weight=1.0, center_scores=True), tiny_world(tmp_path / "token", prompt_records(8)))
    config: Any = methods.configure("ppo", FAST)
    run(ppo.build(config, judge), tiny_world(tmp_path / "whole", prompt_records(8)))
    assert _model(tmp_path / "token") == _model(tmp_path / "whole")
    assert _model(tmp_path / "token") != _model_of_start(tmp_path)


def test_marks_on_single_tokens_are_values_of_tokens(tmp_path: Path) -> None:
    def marked(rollout: Rollout) -> Rewards:
        text = rollout.response
        starts = [at for at in range(len(text)) if text.startswith("bread", at)]
        return Rewards(spans=[Span(start, start + len("bread"), 1.0) for start in starts])

    run(recipe(), tiny_world(tmp_path / "token", prompt_records(8)))
    run(recipe(FromFunction(marked, name="breads")), tiny_world(tmp_path / "span", prompt_records(8)))
    assert _model(tmp_path / "token") == _model(tmp_path / "span")


def _model(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def _model_of_start(folder: Path) -> bytes:
    tiny_llama().base.save_pretrained(folder / "start")
    return (folder / "start" / "model.safetensors").read_bytes()


def test_warming_up_leaves_the_policy_where_it_is(tmp_path: Path) -> None:
    before = weights_of(tiny_llama())
    world = run(recipe(critic_warmup=3), tiny_world(tmp_path, prompt_records(8)))
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(world.policy).items())
    assert metrics_of(tmp_path)[-1]["value_loss"] != metrics_of(tmp_path)[0]["value_loss"]


def test_a_policy_that_rests_is_not_called(tmp_path: Path) -> None:
    """In the rounds of warm-up its layers compute nothing that is learned from, and nothing is said of them."""
    world = tiny_world(tmp_path, prompt_records(8))
    passes: list[bool] = []
    layer = world.policy.base.model.layers[0]
    # The critic's copy of the layer has the hook as well.
    layer.register_forward_hook(lambda module, *_: passes.append(module is layer and torch.is_grad_enabled()))
    run(recipe(critic_warmup=1), world, Options(observe=lambda *_: {"passes": sum(passes)}, observe_every=1))
    seen = {line["step"]: line["passes"] for line in read_jsonl(tmp_path / "curve.jsonl")}
    lines = metrics_of(tmp_path)
    resting = sum(line["round"] == 0 for line in lines)
    assert 0 < resting < len(lines)
    assert seen[0] == seen[resting] < seen[len(lines)]
    about = {"policy_loss", "ratio", "clip_fraction", "approx_kl", "approx_kl3"}
    assert all(about.isdisjoint(line) for line in lines[:resting])
    assert all(about <= line.keys() and line["policy_loss"] for line in lines[resting:])
    assert all(line["loss"] == pytest.approx(line["value_loss"], rel=1e-6) for line in lines[:resting])


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_a_resting_policy_leaves_the_gradient_as_it_was(critic: str) -> None:
    """Against the whole loss, with a surrogate of advantages that are 0; what the value does not reach has none."""
    goal = objective(critic_warmup=1)
    made = prepared(actor(critic, seed=2), goal)
    examples = list(goal.with_prepared(EXAMPLES, made.tables))
    assert all(example.policy_rests for example in examples)
    found = []
    for rests in (True, False):
        lm = actor(critic)
        total = goal(lm, frozen(), [replace(example, policy_rests=rests) for example in examples]).total
        total.backward()
        found.append((total.detach(), {name: each.grad for name, each in trainable(lm).items()}))
    (total, resting), (whole, learning) = found
    torch.testing.assert_close(total, whole, atol=1e-12, rtol=0)
    for name, grad in learning.items():
        mine = resting[name]
        torch.testing.assert_close(torch.zeros_like(grad) if mine is None else mine, grad, atol=1e-10, rtol=0)


def test_beta_follows_the_divergence_from_round_to_round(tmp_path: Path) -> None:
    run(recipe(kl_target=0.5, kl_horizon=40, beta=0.2), tiny_world(tmp_path, prompt_records(8)))
    rounds = metrics_of(tmp_path)[::4]
    assert rounds[0]["beta"] == 0.2
    for line, later in pairwise(rounds):
        error = min(max(line["kl"] / 0.5 - 1, -0.2), 0.2)
        assert later["beta"] == pytest.approx(line["beta"] * (1 + error * 8 / 40), abs=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"critic": "shared", "value_coef": 0.1, "critic_lr": None},
        {"unfinished": "bootstrap", "kl": "full"},
        {"unfinished": "drop", "mean": "response"},
        {"credit": "end", "kl": "k3", "value_clip": 0.2, "dual_clip": 3.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_option_runs(options: dict[str, Any], tmp_path: Path) -> None:
    run(recipe(rounds=2, **options), tiny_world(tmp_path, prompt_records(8)))
    summary = json.loads((tmp_path / "rounds" / "0-0" / "summary.json").read_text())
    assert summary["kept"] == 8 - summary["dropped"].get("unfinished", 0)
    assert (options.get("unfinished") == "drop") == (summary["kept"] < 8)


def test_an_adapter_learns_against_itself_switched_off(tmp_path: Path) -> None:
    lm = add_lora(tiny_llama(), rank=2)
    base = {name: weight for name, weight in weights_of(lm).items() if "lora" not in name}
    world = run(recipe(reference="adapter_off"), tiny_world(tmp_path, prompt_records(8), lm=lm))
    after = weights_of(world.policy)
    assert all(torch.equal(weight, after[name]) for name, weight in base.items())
    lines = metrics_of(tmp_path)
    assert lines[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert abs(lines[-1]["kl"]) > 1e-3


# --- stopped and resumed ---------------------------------------------------------------------------------------------


def train(folder: str, resume: bool, kill_at: tuple[str, str, int] | None = None, target_kl: Any = None) -> None:
    """A run in a process of its own, until SIGKILL at an event of `tiny.command_line`."""
    if kill_at is not None:
        sys.addaudithook(killer(*kill_at))
    world = tiny_world(Path(folder), prompt_records(8))
    options = {"rounds": 4, "kl_target": 0.5, "kl_horizon": 40, "target_kl": target_kl}
    run(recipe(**options), world, Options(resume=resume, save_every=3 if target_kl is None else 1))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert in_process(train, str(folder), False) == 0
    return folder


@pytest.mark.parametrize(
    "moment",
    [
        ("open", "0-1/judged.jsonl", 1),
        ("os.rename", "0-2/prepared.partial", 1),
        ("os.mkdir", "00000006-", 1),
        ("os.mkdir", "00000015-", 1),
        ("os.mkdir", "model.partial", 1),
    ],
    ids=["judging", "preparing", "middle", "last round", "ending"],
)
def test_killed_and_resumed(moment: tuple[str, str, int], undisturbed: Path, tmp_path: Path) -> None:
    """Running scale, adaptive coefficient, critic and numbers of the round: the end is the same to the last bit."""
    folder = tmp_path / "run"
    assert in_process(train, str(folder), False, moment) == -signal.SIGKILL
    assert in_process(train, str(folder), True) == 0
    for name in ("metrics.jsonl", "model/model.safetensors", "rounds/0-3/prepared/tensors.safetensors"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "run"
    assert in_process(train, str(folder), False, None, STOP) == 0
    return folder


STOP = 0.1


def test_a_round_ends_with_the_step_that_has_gone_too_far(stopped: Path, undisturbed: Path) -> None:
    """Of 4 steps a round: every one before the last stays within the target, and the last says what it skipped."""
    lines, free = metrics_of(stopped), metrics_of(undisturbed)
    rounds = [[line for line in lines if line["round"] == round_] for round_ in range(4)]
    assert [len(steps) for steps in rounds] != [4] * 4
    for *before, last in rounds:
        assert all(line["approx_kl"] <= STOP and "skipped" not in line for line in before)
        assert last.get("skipped", 0) == 4 - len(before) - 1
        assert (last["approx_kl"] > STOP) >= ("skipped" in last)
    first = len(rounds[0])
    lines[first - 1].pop("skipped")
    assert lines[:first] == free[:first]


@pytest.mark.parametrize(
    "moment",
    [("os.mkdir", "00-00001-", 1), ("os.rename", "00-00001-", 1), ("os.mkdir", "00-00002-", 1)],
    ids=["stopped", "saved", "stopped again"],
)
def test_killed_where_a_round_stopped(moment: tuple[str, str, int], stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert in_process(train, str(folder), False, moment, STOP) == -signal.SIGKILL
    assert in_process(train, str(folder), True, None, STOP) == 0
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (folder / name).read_bytes() == (stopped / name).read_bytes(), name


def test_a_round_that_has_begun_needs_what_it_began_with(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert in_process(train, str(folder), False, ("os.mkdir", "00000008-", 1)) == -signal.SIGKILL
    shutil.rmtree(folder / "rounds" / "0-1" / "prepared")
    with pytest.raises(InputError, match=r"0-1/prepared: it is gone, and the round has begun"):
        train(str(folder), True)


@pytest.mark.parametrize(("step", "begun"), [("00000006-", False), ("00000008-", True)])
def test_what_a_round_was_prepared_with_is_looked_at(
    step: str, begun: bool, undisturbed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before its first step a round is prepared again; after it the weights are others."""
    folder = tmp_path / "run"
    assert in_process(train, str(folder), False, ("os.mkdir", step, 1)) == -signal.SIGKILL
    (damaged,) = (folder / "rounds" / "0-1" / "prepared").glob("tensors*")
    damaged.write_bytes(bytes(damaged.stat().st_size))
    if begun:
        with pytest.raises(UptakeError, match=r"0-1/prepared/tensors\.safetensors is damaged: crc32"):
            train(str(folder), True)
        return
    train(str(folder), True)
    assert "0-1/prepared/tensors.safetensors is damaged" in caplog.text
    for name in ("metrics.jsonl", "model/model.safetensors", "rounds/0-1/prepared/tensors.safetensors"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name


# --- a reward that fails ---------------------------------------------------------------------------------------------


def broken(kind: str) -> Any:
    def judge(rollout: Rollout) -> Any:
        if rollout.sample == 1:
            if kind == "exception":
                raise KeyError("no such word")
            wrong = {"nan": float("nan"), "text": "good", "long": Rewards(tokens=[0.0] * 99)}
            return wrong.get(kind, Rewards(tokens=[]))
        return breads(rollout)

    return judge


@pytest.fixture(scope="module")
def never_failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("never-failed") / "run"
    rows = read_rows(write_jsonl(folder.parent / "prompts.jsonl", prompt_records(8)))
    run(recipe(FromFunction(breads, name="mine")), replace(tiny_world(folder, []), rows=rows))
    return folder


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("exception", "KeyError: 'no such word'"),
        ("nan", "a reward of nan"),
        ("text", "could not convert string to float"),
        ("long", r"99 values for \d tokens"),
        ("none", r"0 values for \d tokens"),
    ],
)
def test_a_reward_that_fails_names_the_row(kind: str, problem: str, never_failed: Path, tmp_path: Path) -> None:
    rows = read_rows(write_jsonl(tmp_path / "prompts.jsonl", prompt_records(8)))
    judge = FromFunction(broken(kind), name="mine")
    world = replace(tiny_world(tmp_path / "run", []), rows=rows)
    with pytest.raises(InputError, match=rf"prompts\.jsonl:\d.*mine, sample 1 of prompt.*{problem}"):
        run(recipe(judge), world)
    # With the fault mended the run goes on, and ends as one that never failed.
    mended = FromFunction(breads, name="mine")
    run(recipe(mended), replace(tiny_world(tmp_path / "run", []), rows=rows), Options(resume=True))
    assert _model(tmp_path / "run") == _model(never_failed)


def test_a_reward_that_fails_may_be_left_out(tmp_path: Path) -> None:
    run(recipe(FromFunction(broken("exception"), "drop"), rounds=1), tiny_world(tmp_path, prompt_records(8)))
    summary = json.loads((tmp_path / "rounds" / "0-0" / "summary.json").read_text())
    assert summary["dropped"] == {"the reward failed": 4}
    assert summary["kept"] == 4


@pytest.mark.unchecked
def test_options_out_of_range() -> None:
    for wrong, name in (
        ({"lam": 1.5}, "lam"),
        ({"minibatches": 9, "prompts": 4}, "minibatches"),
        ({"kl": "k4"}, "kl"),
        ({"temperature": 0}, "temperature"),
        ({"target_kl": 0}, "target_kl"),
    ):
        with pytest.raises(InputError, match=name):
            methods.build("fg_ppo", wrong)
    with pytest.raises(InputError, match=r"no reward 'crowd'.*classifier.*oracle_tokens"):
        methods.build("ppo", {"reward": "crowd"})
    with pytest.raises(InputError, match="'length' has no rewards of tokens"):
        methods.build("fine_grained_ppo", {"reward": "length"})
    with pytest.raises(InputError, match="on_error"):
        FromFunction(breads, on_error="guess")  # type: ignore[arg-type]
