"""Parity: what trl, OpenRLHF, verl and the authors of papers compute, as `parity/peer_*.py` has recorded it.

Every case goes through our own parts: objectives on token trees, forward and backward, against the peer's loss and four
products of its gradient with fixed vectors. `make parity` has the peers compute it all again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from parity import cases
from parity.cases import recorded, sketch
from test_agent_logs import dpo_loss, parity_models
from tiny import tiny_llama, tiny_tokenizer, tiny_world
from torch import Tensor

from uptake import methods
from uptake.data.conditioned import spelled_reward
from uptake.examples.scored import Scored, ScoredRows, imitation
from uptake.losses.pairwise import IPO, Hinge, Logistic, PairKernel, Robust
from uptake.losses.policy_gradient import clipped_surrogate, value_loss
from uptake.losses.scalar import BradleyTerry, bradley_terry
from uptake.losses.unpaired import KTO
from uptake.methods import ppo
from uptake.methods.filtering_alignment import Filtered
from uptake.models import LanguageModel, add_lora, pack
from uptake.objective import Loss, Pairs, ScoredPairs, Unpaired
from uptake.ops.advantages import gae, value_targets, whiten
from uptake.ops.divergence import ESTIMATORS
from uptake.reference import AdapterOff, Given, NoReference, RunningReference
from uptake.reference.remembering import RememberingModel
from uptake.reference.virtual import clipped_to_primary, discriminative_weights, virtual_logps
from uptake.rewards.function import FromFunction
from uptake.train.checkpoint import Cursor
from uptake.train.loop import Learner
from uptake.train.rounds import prepare_round
from uptake.train.run_folder import RunLog
from uptake.types import Labeled, Pair, Prompt, Rollout

PEERS = ("verl", "openrlhf", "trl", "trl_ppo", "authors")
VERL, OPENRLHF, TRL, TRL_PPO, AUTHORS = (recorded(f"peer_{name}") for name in PEERS)
TABLES = cases.tables()
MASK = TABLES["mask"]


def same(ours: Sequence[float], theirs: Sequence[float], relative: float) -> None:
    """Equal but for a share of the largest number of the peer."""
    torch.testing.assert_close(
        torch.tensor(ours).double(), torch.tensor(theirs).double(), rtol=0, atol=relative * max(1.0, *map(abs, theirs))
    )


# --- tables of tokens -------------------------------------------------------------------------------------------------


def mean(losses: Tensor, over: str) -> Tensor:
    """The mean of a table's losses over all tokens, or over responses of their means."""
    if over == "token":
        return losses[MASK].mean()
    return torch.stack([row[kept].mean() for row, kept in zip(losses, MASK, strict=True)]).mean()


@pytest.mark.parametrize("peer", [VERL, OPENRLHF], ids=["verl", "openrlhf"])
@pytest.mark.parametrize("over", ["token", "response"])
@pytest.mark.parametrize(("name", "dual"), [("clipped", None), ("dual", cases.DUAL_CLIP)])
def test_clipped_surrogate(peer: dict[str, Any], over: str, name: str, dual: float | None) -> None:
    logps = TABLES["logps"].clone().requires_grad_()
    ratio, flat = (logps - TABLES["old_logps"]).exp()[MASK], TABLES["advantages"][MASK]
    losses = torch.zeros_like(logps).masked_scatter(MASK, clipped_surrogate(ratio, flat, cases.CLIP, dual))
    loss = mean(losses, over)
    (gradient,) = torch.autograd.grad(loss, logps)
    # Means over responses divide by a length to which a peer adds 1e-8.
    same([loss.item(), *sketch([gradient])], peer[f"surrogate, {name}, {over} mean"], 1e-7)


@pytest.mark.parametrize("peer", [VERL, OPENRLHF], ids=["verl", "openrlhf"])
@pytest.mark.parametrize(("name", "clip"), [("clipped", cases.VALUE_CLIP), ("plain", None)])
def test_value_loss(peer: dict[str, Any], name: str, clip: float | None) -> None:
    values = TABLES["values"].clone().requires_grad_()
    loss = value_loss(values[MASK], TABLES["old_values"][MASK], TABLES["returns"][MASK], clip).mean()
    (gradient,) = torch.autograd.grad(loss, values)
    same([loss.item(), *sketch([gradient])], peer[f"value loss, {name}"], 1e-12)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (cases.GAMMA, cases.LAM), (1.0, 0.0)])
def test_generalized_advantages(gamma: float, lam: float) -> None:
    given = TABLES["rewards"], TABLES["old_values"], MASK, gamma, lam
    case = f"gamma {gamma}, lam {lam}"
    same(sketch([value_targets(*given)]), VERL[f"returns, {case}"], 1e-12)
    same(sketch([whiten(gae(*given), MASK, "sample")]), VERL[f"whitened advantages, {case}"], 1e-10)


@pytest.mark.parametrize(
    ("peer", "variance"),
    [(VERL, "sample"), (TRL_PPO, "sample"), (OPENRLHF, "population")],
    ids=["verl", "trl", "openrlhf"],
)
def test_whitening(peer: dict[str, Any], variance: Any) -> None:
    """By both divisors; the other one is further off than any rounding."""
    same(sketch([whiten(TABLES["advantages"], MASK, variance)]), peer["whitened"], 1e-7)
    other = whiten(TABLES["advantages"], MASK, "sample" if variance == "population" else "population")
    with pytest.raises(AssertionError):
        same(sketch([other]), peer["whitened"], 1e-3)


@pytest.mark.parametrize("peer", [VERL, OPENRLHF], ids=["verl", "openrlhf"])
@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_divergence_estimators(peer: dict[str, Any], name: str) -> None:
    # OpenRLHF takes them in single precision.
    same(sketch([ESTIMATORS[name](TABLES["logps"] - TABLES["ref_logps"])]), peer[name], 1e-6)


# --- losses of pairs, responses and scores, through forward and backward ---------------------------------------------


def values_of(loss: Loss, lm: LanguageModel, size: int) -> list[float]:
    """The mean loss and the sketch of its gradients by weight, in order of their names."""
    (loss.total / size).backward()
    return [loss.total.item() / size, *cases.gradients(lm.model)]


def given(policy: LanguageModel, other: LanguageModel) -> RunningReference:
    return Given().start(tiny_world(Path("unused"), [], policy, models={"reference": other}))


def pairs_of(rows: Iterable[Sequence[Sequence[int]]]) -> list[Pair]:
    return [Pair(*map(tuple, row)) for row in rows]


LOSSES: dict[str, PairKernel] = {
    "dpo": Logistic(cases.BETA),
    "robust": Robust(cases.BETA, cases.SMOOTHING),
    "ipo of token means": IPO(cases.BETA, "token_mean"),
    "hinge": Hinge(cases.BETA),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_pairs(name: str) -> None:
    policy, batch = tiny_llama(0), pairs_of(TRL["pairs"])
    found = Pairs(LOSSES[name])(policy, given(policy, tiny_llama(1)), batch)
    same(values_of(found, policy, len(batch)), TRL[name], 1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_pairs_by_an_adapter(name: str) -> None:
    """Against the policy with its adapter off, which is what the peer has kept as a copy of the fresh one."""
    policy, batch = add_lora(tiny_llama(0), rank=2, alpha=4), pairs_of(TRL["pairs"])
    cases.fill_adapter(policy.model)
    found = Pairs(LOSSES[name])(policy, AdapterOff().start(tiny_world(Path("unused"), [], policy)), batch)
    same(values_of(found, policy, len(batch)), TRL[f"{name}, adapter"], 1e-5)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("dpo", Logistic(cases.BETA)),
        ("cdpo", Logistic(cases.BETA, cases.SMOOTHING)),
        ("ipo of sums", IPO(cases.BETA)),
    ],
)
def test_losses_of_pairs_by_sums(name: str, kernel: PairKernel) -> None:
    policy, batch = tiny_llama(0), cases.pairs()
    found = Pairs(kernel)(policy, given(policy, tiny_llama(1)), batch)
    same(values_of(found, policy, len(batch)), OPENRLHF[name], 1e-5)


@pytest.mark.parametrize(("name", "seeds"), [("kto", (0, 1)), ("kto, swapped", (1, 0))])
def test_kto(name: str, seeds: tuple[int, int]) -> None:
    """With the divergence of the batch above 0 in one direction, and held at 0 in the other."""
    policy, reference = map(tiny_llama, seeds)
    batch = [Labeled(tuple(prompt), tuple(response), good) for prompt, response, good in TRL[name]["ids"]]
    kernel = KTO(cases.KTO_BETA, cases.GOOD_WEIGHT, cases.BAD_WEIGHT)
    found = Unpaired(kernel)(policy, given(policy, reference), batch)
    assert float(found.metrics["reference_point"]) / len(batch) == pytest.approx(TRL[name]["divergence"][0], abs=1e-4)
    same(values_of(found, policy, len(batch)), TRL[name]["loss"], 1e-5)


def test_reward_model() -> None:
    """Bradley and Terry with a margin, and scores held near 0."""
    lm = cases.scorer()
    batch = cases.scored_pairs()
    nothing = NoReference().start(tiny_world(Path("unused"), [], lm))
    found = ScoredPairs(BradleyTerry(1.0, cases.CENTER))(lm, nothing, batch)
    (found.total / len(batch)).backward()
    named = {**dict(lm.base.named_parameters()), "score.weight": lm.heads["score"].weight}
    learned = [weight.grad for _, weight in sorted(named.items()) if weight.grad is not None]
    same([found.total.item() / len(batch), *sketch(learned)], TRL["reward model"], 1e-5)
    chosen, rejected, margins = cases.scores()
    same([float(bradley_terry(chosen, rejected, margins).mean())], OPENRLHF["reward model, margin"], 1e-6)


def test_pairs_with_tools_and_thoughts() -> None:
    """The rows of agents' logs: the same ids, and so the same loss."""
    loss, rendered = dpo_loss(*parity_models())
    theirs = TRL["agents' logs, dpo"]
    assert [[list(each.prompt_ids), list(each.chosen_ids), list(each.rejected_ids)] for each in rendered] == theirs[
        "ids"
    ]
    same([loss], theirs["loss"], 1e-5)


# --- relatives, by the code of their authors -------------------------------------------------------------------------


def same_loss(ours: Sequence[float], theirs: Sequence[float]) -> None:
    """The loss to 1e-6; sums over all weights, in single precision, to 1e-5."""
    same(ours[:1], theirs[:1], 1e-6)
    same(ours, theirs, 1e-5)


def objective(method: str, **options: Any) -> Any:
    """The objective of a method's last stage."""
    return methods.build(method, options).stages[-1].objective


@pytest.mark.parametrize(("name", "loss"), [("logistic", "dpo"), ("hinge", "slic")])
def test_self_play(name: str, loss: str) -> None:
    policy, batch = tiny_llama(0), cases.pairs()
    pairs = objective("spin", iterations=1, loss=loss, beta=cases.BETA)
    found = pairs(policy, given(policy, tiny_llama(1)), batch)
    same_loss(values_of(found, policy, len(batch)), AUTHORS[f"spin, {name}"])


def test_self_exploration() -> None:
    policy, batch = tiny_llama(0), cases.trios()
    pairs = objective("selm", beta=cases.BETA, alpha=cases.ALPHA, bonus_floor=None)
    found = pairs(policy, given(policy, tiny_llama(1)), batch)
    same_loss(values_of(found, policy, len(batch)), AUTHORS["selm"])


@pytest.mark.parametrize(("name", "extrapolation"), [("mix 1", 0.0), ("mix beyond 1", cases.MIX - 1)])
def test_spread_preference_annotation(name: str, extrapolation: float) -> None:
    """Half of the pairs are doubted, by margins of the pair itself, as the released code has it."""
    policy, batch, theirs = tiny_llama(0), cases.pairs(), AUTHORS[f"spa, {name}"]
    options = {"beta": cases.BETA, "smoothing": cases.SMOOTHING, "extrapolation": extrapolation}
    noisy = replace(
        objective("spa", iterations=1, **options),
        threshold=float(torch.tensor(theirs["margins"]).quantile(cases.DOUBTED)),
    )
    memory = RememberingModel(tiny_llama(1), window=8, least=1)
    found = noisy(policy, memory, batch)
    same(list(memory.margins), theirs["margins"], 1e-6)
    assert found.metrics["doubted"] == len(batch) / 2
    same_loss(values_of(found, policy, len(batch)), theirs["loss"])


@pytest.mark.parametrize(("name", "clip"), [("clip by size", cases.TRUST), ("one clip", -cases.TRUST)])
def test_multiple_references(name: str, clip: float) -> None:
    """With equal weights; the released code gives each of unequal ones to the other model."""
    virtual = virtual_logps(clipped_to_primary(referred(), clip), torch.full((2, 1, 1), 0.5), "harmonic")
    same(virtual.T.flatten().tolist(), flat(AUTHORS[f"mrpo, {name}"]["virtual"]), 1e-6)


def test_adaptive_weights_of_the_released_code_belong_to_the_other_reference() -> None:
    logps = referred()
    trusted, weights = clipped_to_primary(logps, cases.TRUST), discriminative_weights(logps)
    theirs = flat(AUTHORS["mrpo, adaptive"]["virtual"])
    same(virtual_logps(trusted, weights.flip(0), "harmonic").T.flatten().tolist(), theirs, 1e-6)
    with pytest.raises(AssertionError):
        same(virtual_logps(trusted, weights, "harmonic").T.flatten().tolist(), theirs, 1e-3)


def referred() -> Tensor:
    """Log-probabilities of the pairs under a primary reference and another: model by pair by side."""
    packed = pack([Pairs(Logistic()).tree(each) for each in cases.pairs()])
    models = [given(tiny_llama(0), tiny_llama(seed)) for seed in (1, 2)]
    return torch.stack([packed.node_sums(each.token_logps(packed)) for each in models]).unflatten(1, (-1, 2))


def flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [each for row in rows for each in row]


def test_processors_of_scored_responses(tmp_path: Path) -> None:
    """Rewards are standardized alike, asked for alike, and the best response to a prompt is the first of equal ones."""
    theirs = AUTHORS["scored responses"]
    world = tiny_world(tmp_path, cases.scored_records())
    scored = list(ScoredRows()(world))
    same([each.reward for each in scored], theirs["rewards"], 1e-12)
    asked = [f"{each.prompt.turns[0].content} <rm_score>: {spelled_reward(each.reward)} " for each in scored]
    assert asked == theirs["conditioned"]
    best = Filtered(ScoredRows(), "best")(world, 0).examples
    wanted = [imitation(world.chat, world, each) for each in scored if said(each) in theirs["best"]]
    assert [tree.nodes for tree in best] == [tree.nodes for tree in wanted]


def said(scored: Scored) -> list[str]:
    return [scored.prompt.turns[0].content, scored.response.content]


# --- an iteration of PPO ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["temperature 1, k1", "temperature 0.7, k3"])
def test_ppo_iteration(case: str, tmp_path: Path) -> None:
    """On the peer's answers: losses of two passes with an optimizer step each, and the weights after both."""
    theirs = TRL_PPO[case]
    rewards = cases.reward_classifier()

    @torch.no_grad()
    def score(rollout: Rollout) -> float:
        return float(rewards(torch.tensor([[*rollout.prompt_ids, *rollout.response_ids]])).logits)

    *_, temperature, estimator = case.replace(",", "").split()
    config: Any = methods.configure("ppo", {**PPO, "temperature": float(temperature), "kl": estimator})
    (stage,) = ppo.build(config, FromFunction(score)).stages
    world = tiny_world(tmp_path, [], tiny_llama(0), models={"reference": tiny_llama(1)})
    learner, log = Learner(stage, world), RunLog(tmp_path, 0)
    groups = [
        tuple(
            Rollout(Prompt((), said), tuple(ids[: -cases.ANSWER]), tuple(ids[-cases.ANSWER :]), "", finished=False)
            for ids in theirs["answers"]
            if ids[: -cases.ANSWER] == tiny_tokenizer()(said)["input_ids"]
        )
        for said in cases.asked()
    ]
    _, judge, signal = stage.sampling
    examples = signal(groups, judge.start(world)(groups)).examples
    prepared, metrics = prepare_round(stage, learner.world, learner.reference, log, Cursor(), examples)
    steps = [learner.step(prepared, cases.PPO_RATE) for _ in range(cases.PASSES)]
    ours = {
        "loss/policy_avg": fmean(step["policy_loss"] for step in steps),
        "loss/value_avg": fmean(step["value_loss"] for step in steps),
        "policy/approxkl_avg": fmean(step["approx_kl"] for step in steps),
        "objective/scores": metrics["score"],
    }
    if estimator == "k1":
        ours["objective/kl"] = metrics["kl"]
    for name, value in ours.items():
        assert value == pytest.approx(theirs["log"][name], rel=1e-5, abs=1e-5), name
    same(sketch(weight for _, weight in sorted(world.policy.base.named_parameters())), theirs["policy"], 1e-5)
    critic: Any = learner.world.policy.heads["value"]
    same(sketch(weight for _, weight in sorted(critic.backbone.named_parameters())), theirs["critic"], 1e-5)
    same(sketch([critic.head.weight]), theirs["head"], 1e-5)


# What the peer cannot choose: one lambda, a clipped value loss in the policy's own optimizer, no clip of gradients.
PPO: dict[str, Any] = {
    "prompts": cases.PROMPTS,
    "n": cases.SAMPLES,
    "max_new_tokens": cases.ANSWER,
    "epochs": cases.PASSES,
    "center_scores": False,
    "penalty": 0.0,
    "reference": "given",
    "beta": cases.PPO_KL,
    "clip_ratio": cases.CLIP,
    "lam": cases.PPO_LAM,
    "value_lam": cases.PPO_LAM,
    "value_clip": cases.VALUE_CLIP,
    "value_coef": cases.VALUE_COEF,
    "critic_warmup": 0,
    "lr": cases.PPO_RATE,
    "critic_lr": None,
    "eps": cases.PPO_EPS,
    "clip": None,
    "micro_tokens": 60,
}
