"""The relatives of the three systems: each trains, each is what it is said to be at its neutral settings."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import (
    WORDS,
    answered_records,
    pair_records,
    prompt_records,
    read_jsonl,
    tiny_llama,
    tiny_tokenizer,
    tiny_world,
    weights_of,
)
from tiny_relatives import SETTINGS, SHORT, scored_records
from torch import Tensor

from uptake import methods
from uptake.data import ChatFormat
from uptake.data.conditioned import spelled_reward
from uptake.errors import InputError, ModelError
from uptake.losses.pairwise import Logistic, soft_label
from uptake.methods.selm import OptimismBonus
from uptake.models import LanguageModel, branches, load, pack, scorer, token_logps
from uptake.objective import Pairs
from uptake.objective.noisy_pairs import NoisyPairs
from uptake.recipe import Recipe
from uptake.reference import Previous
from uptake.reference.remembering import Remembering
from uptake.reference.virtual import clipped_to_primary, discriminative_weights, virtual_logps
from uptake.rollout.schedule import Portion
from uptake.signal.ranked import RankedPairs
from uptake.tasks.check import check
from uptake.tasks.method_table import method_table
from uptake.train.loop import Options, run
from uptake.types import Dropped, Judgement, Pair, Prompt, Rollout, Turn
from uptake.world import World

# Micro-batches of the size that is chosen anyway, which takes as long as a few steps.
FAST: dict[str, Any] = {"lr": 3e-3, "batch_size": 4, "warmup": 0.0, "clip": 1.0, "micro_tokens": 8192}


def with_start(world: World) -> World:
    """The world with the policy as it begins among its models, as `train` makes it."""
    start = replace(world.policy, model=tiny_llama().model.requires_grad_(False))
    return replace(world, models={**world.models, "start": start, "second": tiny_llama(seed=5)})


def build(name: str, **changes: Any) -> Recipe:
    return methods.build(name, {**FAST, **SETTINGS[name][1], **changes})


def trained(name: str, folder: Path, **changes: Any) -> dict[str, Tensor]:
    world = with_start(tiny_world(folder, SETTINGS[name][0]))
    run(build(name, **changes), world)
    return weights_of(world.policy)


SELF_PLAY = "2; this is the first, the others take 6 steps at most"


@pytest.mark.parametrize(("name", "told"), [("spin", SELF_PLAY), ("dpo", None)])
def test_check_tells_the_steps_of_all_stages(name: str, told: str | None, tmp_path: Path) -> None:
    """The second iteration of self-play learns from the pairs of the first too."""
    records, options = SETTINGS.get(name, (pair_records(8), {}))
    recipe = methods.build(name, {**options, "batch_size": 3, "lr": 1e-3})
    world = tiny_world(tmp_path, records)
    facts = dict(check(recipe, world).facts)
    assert facts.get("stages") == told
    assert facts["optimizer steps"].startswith("3")
    run(recipe, world)
    assert len(read_jsonl(tmp_path / "metrics.jsonl")) == (3 if told is None else 3 + 6)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_relative_learns(name: str, tmp_path: Path) -> None:
    before = weights_of(tiny_llama())
    after = trained(name, tmp_path)
    assert any((after[key] != before[key]).any() for key in before)
    losses = [line["loss"] for line in read_jsonl(tmp_path / "metrics.jsonl")]
    assert all(map(math.isfinite, losses))


# --- neutral settings: each is the method it says it comes from ------------------------------------------------------

SAME: dict[str, Any] = {"optimizer": "adamw", "schedule": "constant"}


def weights_after(
    name: str, folder: Path, records: Sequence[Mapping[str, Any]], world: World | None = None, **options: Any
) -> Any:
    world = with_start(tiny_world(folder, records)) if world is None else world
    run(methods.build(name, {**FAST, **SAME, **options}), world)
    return weights_of(world.policy)


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 0.0) -> None:
    for key in one:
        torch.testing.assert_close(one[key], other[key], atol=tolerance, rtol=0)


def moved(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return any(bool((one[key] - other[key]).abs().max() > 1e-4) for key in one)


def with_second(folder: Path, lm: Any) -> World:
    world = tiny_world(folder, pair_records(8))
    return replace(world, models={"second": lm, "given": lm})


@pytest.mark.parametrize("options", [{}, {"clip_trust": None, "weights": (0.2, 0.8)}, {"combine": "geometric"}])
def test_copies_of_one_reference_are_dpo(options: dict[str, Any], tmp_path: Path) -> None:
    dpo = weights_after("dpo", tmp_path / "dpo", pair_records(8))
    world = with_second(tmp_path / "mrpo", tiny_llama())
    assert_same(weights_after("mrpo", tmp_path, (), world, **options), dpo, 1e-6)


def test_all_weight_on_one_reference_is_dpo_with_that_reference(tmp_path: Path) -> None:
    other = tiny_llama(seed=5)
    world = replace(tiny_world(tmp_path / "dpo", pair_records(8)), models={"reference": other})
    dpo = weights_after("dpo", tmp_path, (), world, reference="given")
    full = {"clip_trust": None, "weights": (0.0, 1.0)}
    found = weights_after("mrpo", tmp_path, (), with_second(tmp_path / "mrpo", tiny_llama(seed=5)), **full)
    assert_same(found, dpo, 1e-6)
    primary = weights_after(
        "mrpo", tmp_path, (), with_second(tmp_path / "first", other), **full | {"weights": (1.0, 0.0)}
    )
    assert moved(primary, dpo)


def test_no_trust_in_others_is_dpo_with_the_primary(tmp_path: Path) -> None:
    dpo = weights_after("dpo", tmp_path / "dpo", pair_records(8))
    world = with_second(tmp_path / "mrpo", tiny_llama(seed=5))
    assert_same(weights_after("mrpo", tmp_path, (), world, clip_trust=0.0), dpo, 1e-6)


LOGPS = torch.tensor([[[-40.0, -60.0]], [[-70.0, -66.0]]], dtype=torch.float64)


def test_means_of_two_references() -> None:
    logps = torch.tensor([[[-20.0, -20.0]], [[-24.0, -24.0]]], dtype=torch.float64)
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)[:, None, None]
    assert float(virtual_logps(logps, weights, "harmonic")[0, 0]) == pytest.approx(-23.651144, abs=1e-6)
    assert float(virtual_logps(logps, weights, "geometric")[0, 0]) == pytest.approx(-22.8, abs=1e-9)
    far = virtual_logps(100 * logps, weights, "harmonic")
    assert bool(far.isfinite().all())


def test_clipped_trust_and_weights_of_a_pair() -> None:
    weights = discriminative_weights(LOGPS)
    torch.testing.assert_close(
        weights[:, 0, 0], torch.tensor([0.833333, 0.166667], dtype=torch.float64), atol=1e-6, rtol=0
    )
    clipped = clipped_to_primary(LOGPS, 0.1)
    torch.testing.assert_close(
        clipped[1, 0], torch.tensor([-41.864407, -63.203390], dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert bool((clipped[0] == LOGPS[0]).all())
    found = virtual_logps(clipped, weights, "harmonic")[0]
    torch.testing.assert_close(found, torch.tensor([-40.646414, -61.596550], dtype=torch.float64), atol=1e-6, rtol=0)
    fixed = clipped_to_primary(LOGPS, -0.1)
    torch.testing.assert_close(fixed[1, 0], torch.tensor([-44.0, -66.0], dtype=torch.float64))


def test_the_order_of_references_does_not_count_without_clipping() -> None:
    weights = discriminative_weights(LOGPS)
    turned = discriminative_weights(LOGPS.flip(0))
    assert_same({"w": weights.flip(0)}, {"w": turned})
    one, other = virtual_logps(LOGPS, weights, "harmonic"), virtual_logps(LOGPS.flip(0), turned, "harmonic")
    torch.testing.assert_close(one, other)


def test_a_reference_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    world = with_second(tmp_path, tiny_llama(tokenizer=tiny_tokenizer((*WORDS, "more"))))
    with pytest.raises(InputError, match="different tokenizers"):
        run(build("multi_reference_po"), world)


@pytest.mark.parametrize("weights", [(1.0,), (0.4, 0.4), (-0.5, 1.5)])
def test_weights_that_are_no_weights(weights: Any) -> None:
    with pytest.raises(InputError, match="weights"):
        build("multi_reference_po", weights=weights)


def test_spa_without_smoothing_or_doubt_is_dpo_on_the_same_pairs(tmp_path: Path) -> None:
    plain = trained("spa", tmp_path / "0", smoothing=0.0, batch_size=1)
    assert_same(trained("spa", tmp_path / "1", least=1600, batch_size=1), plain)
    assert moved(trained("spa", tmp_path / "2", smoothing=0.4, doubted=1.0, settle=0.0, batch_size=1), plain)


def test_every_label_doubted_is_conservative_dpo() -> None:
    world = tiny_world(Path(), ())
    pairs = [Pair((3, 4), (5, 6, 2), (7, 2)), Pair((4,), (9, 2), (8, 8, 8, 2))]
    moved_policy = tiny_llama(seed=9)
    reference = Remembering(least=1).start(world)
    noisy = NoisyPairs(Pairs(Logistic(0.1)), smoothing=0.3, threshold=math.inf)
    found = noisy(moved_policy, reference, pairs)
    expected = Pairs(Logistic(0.1, 0.3))(moved_policy, reference, pairs)
    torch.testing.assert_close(found.total, expected.total)
    assert float(found.metrics["doubted"]) == 2
    none = replace(noisy, threshold=-math.inf)(moved_policy, reference, pairs)
    torch.testing.assert_close(none.total, Pairs(Logistic(0.1))(moved_policy, reference, pairs).total)
    assert float(none.metrics["doubted"]) == 0
    # Of one token each, the mixture scales every margin: the normalizers of both responses are the same.
    single = [Pair((3, 4), (5,), (7,)), Pair((4,), (9,), (8,))]
    plain = replace(noisy, mix=1.0)(moved_policy, reference, single).metrics["mixed_margin"]
    scaled = replace(noisy, mix=1.5)(moved_policy, reference, single).metrics["mixed_margin"]
    torch.testing.assert_close(scaled, 1.5 * plain)
    longer = replace(noisy, mix=1.0)(moved_policy, reference, pairs)
    torch.testing.assert_close(longer.metrics["mixed_margin"], longer.metrics["margin"])


@pytest.mark.parametrize("chunk", [1, 1 << 24])
def test_a_mixture_is_that_of_both_logits_in_whatever_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "TRAINING_CHUNK", chunk)
    world = tiny_world(Path(), ())
    pairs = [Pair((3, 4), (5, 6, 2), (7, 2)), Pair((4,), (9, 2), (8, 8, 8, 2))]
    policy, reference = tiny_llama(seed=9), Remembering(least=1).start(world)
    found = NoisyPairs(Pairs(Logistic(0.1)), mix=1.5, threshold=math.inf)(policy, reference, pairs)
    expected = Pairs(Logistic(0.1, 0.1))(policy, reference, pairs)
    torch.testing.assert_close(found.total, expected.total)

    def all_logps(lm: LanguageModel, prefix: Sequence[int]) -> Tensor:
        tree = branches(prefix, *((token,) for token in range(lm.vocabulary)))
        with torch.no_grad():
            return token_logps(lm, pack([tree])).double()

    def mixed_ratio(prompt: Sequence[int], response: Sequence[int]) -> float:
        total = 0.0
        for index, token in enumerate(response):
            ours, theirs = (all_logps(lm, (*prompt, *response[:index])) for lm in (policy, world.policy))
            total += float((1.5 * ours - 0.5 * theirs).log_softmax(-1)[token] - theirs[token])
        return total

    margins = [
        mixed_ratio(each.prompt_ids, each.chosen_ids) - mixed_ratio(each.prompt_ids, each.rejected_ids)
        for each in pairs
    ]
    assert float(found.metrics["mixed_margin"]) == pytest.approx(0.1 * sum(margins), rel=1e-4)
    weights = list(policy.model.parameters())
    for mine, theirs in zip(*(torch.autograd.grad(loss.total, weights) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_threshold_is_a_quantile_of_the_last_margins() -> None:
    memory: Any = Remembering(window=100, least=10).start(tiny_world(Path(), ()))
    stream = np.random.default_rng(0).normal(size=150)
    memory.remember(torch.tensor(stream[:9]))
    assert memory.threshold(0.1) == -math.inf
    memory.remember(torch.tensor(stream[9:]))
    assert memory.threshold(0.1) == pytest.approx(np.quantile(stream[-100:], 0.1))
    other: Any = Remembering(window=100, least=10).start(tiny_world(Path(), ()))
    other.restore(memory.state())
    assert other.threshold(0.3) == memory.threshold(0.3)


def test_spa_judges_by_the_policy_against_the_start_of_the_run(tmp_path: Path) -> None:
    recipe = build("spa")
    judges = [stage.judge for stage in recipe.stages[1:]]
    assert {(judge.by.model, judge.by.reference) for judge in judges} == {("policy", "start")}  # type: ignore[union-attr]
    # Before the policy has moved, every answer has the reward 0, and nobody wins.
    world = with_start(tiny_world(tmp_path, prompt_records(8, 1)))
    stage = replace(recipe.stages[1], rounds=1)
    with pytest.raises(ModelError, match=r"no contrast \(4\)"):
        run(Recipe((stage,)), world)


def test_spa_needs_labeled_rows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row is labeled"):
        run(build("spa"), with_start(tiny_world(tmp_path, prompt_records(8))))


def test_no_threshold_is_supervised_fine_tuning(tmp_path: Path) -> None:
    sft = weights_after("supervised", tmp_path / "sft", scored_records(12), turns="last", epochs=1, weight_decay=0.0)
    every = weights_after("fa", tmp_path / "fa", scored_records(12), threshold=None)
    assert_same(every, sft)
    alike = weights_after("rwr", tmp_path / "rwr", scored_records(12), beta=1e9)
    assert_same(alike, sft, 1e-6)
    assert moved(weights_after("fa", tmp_path / "half", scored_records(12)), sft)


def test_best_of_one_is_supervised_fine_tuning(tmp_path: Path) -> None:
    sft = weights_after("fa", tmp_path / "fa", scored_records(12), threshold=None)
    assert_same(weights_after("fa", tmp_path / "best", scored_records(12), by="best"), sft)


def test_the_first_of_the_best_responses_to_a_prompt_is_taken(tmp_path: Path) -> None:
    rewards = {"it .": 0.0, "at eight .": 2.0, "at nine .": 2.0, "wrong .": 1.0}
    records = [{"prompt": "when ?", "completion": text, "reward": reward} for text, reward in rewards.items()]
    records.append({"prompt": "where ?", "completion": "bread .", "reward": -3.0})
    world = tiny_world(tmp_path, records)
    (stage,) = build("filtering_alignment", by="best").stages
    assert stage.examples is not None
    data = stage.examples(world, 0)
    ids = [list(tree.nodes[-1].ids) for tree in data.examples]
    texts = world.policy.tokenizer.batch_decode(ids, skip_special_tokens=True)
    assert [text.split() for text in texts] == [["at", "eight."], ["bread."]]
    assert (data.summary["prompts"], data.summary["kept"]) == (2, 2)


def test_a_constant_added_to_rewards_changes_no_weight(tmp_path: Path) -> None:
    records = scored_records(12)
    shifted = [row | {"reward": row["reward"] - 900.0} for row in records]
    options = {"standardize": False, "max_weight": None}
    one = weights_after("rwr", tmp_path / "0", records, **options)
    assert_same(weights_after("rwr", tmp_path / "1", shifted, **options), one, 1e-6)


def test_one_conditioning_value_is_supervised_fine_tuning_on_prompts_with_it(tmp_path: Path) -> None:
    records = [row | {"reward": 1.0} for row in answered_records(12)]
    options = {"condition": " at {reward}", "standardize": False}
    asked = [row | {"prompt": row["prompt"] + " at 1.00"} for row in records]
    sft = weights_after("supervised", tmp_path / "sft", asked, turns="last", epochs=1, weight_decay=0.0)
    assert_same(weights_after("ca", tmp_path / "ca", records, **options), sft)
    # The saved template asks for it, and for nothing else than what was learned.
    lm = load(tmp_path / "ca" / "model", device="cpu")
    turns = (Turn("user", "when ?"),)
    plain = ChatFormat.of(tiny_llama())
    assert ChatFormat.of(lm).prompt_ids(turns) == plain.prompt_ids((Turn("user", "when ? at 1.00"),))


def test_rewards_are_spelled_with_two_decimals() -> None:
    assert [spelled_reward(each) for each in (-0.001, 0.0, 1.234, -2.0)] == ["0.00", "0.00", "1.23", "-2.00"]
    assert all(spelled_reward(float(spelled_reward(each))) == spelled_reward(each) for each in np.linspace(-3, 3, 61))


def test_the_reward_asked_for_is_a_quantile_of_the_rows(tmp_path: Path) -> None:
    records = scored_records(40)
    world = tiny_world(tmp_path, records)
    run(build("conditional_alignment", target_quantile=0.9), world)
    rewards = np.array([row["reward"] for row in records])
    expected = (np.quantile(rewards, 0.9) - rewards.mean()) / rewards.std(ddof=1)
    lm = load(tmp_path / "model", device="cpu")
    assert f"<rm_score>: {expected:.2f}" in ChatFormat.of(lm).render((Turn("user", "when ?"),), generation=True)


def test_asking_for_a_reward_reads_special_tokens_as_the_run_does(tmp_path: Path) -> None:
    lm = tiny_llama()
    (stage,) = build("conditional_alignment").stages
    for spelled in ("text", "tokens"):
        world = tiny_world(tmp_path, scored_records(4), lm, chat=ChatFormat.of(lm, spelled_tokens=spelled))
        assert stage.respond is not None
        assert stage.respond(world).spelled_tokens == spelled


@pytest.mark.parametrize("name", ["fa", "rwr", "ca"])
@pytest.mark.parametrize(
    ("reward", "problem"),
    [(None, "found None"), (float("nan"), "found None"), ("0.3", "found '0.3'"), (True, "found True")],
)
def test_a_row_without_a_number_is_named(name: str, reward: Any, problem: str, tmp_path: Path) -> None:
    records = [*scored_records(3), answered_records(1, 5)[0] | {"reward": reward}]
    with pytest.raises(InputError, match=problem):
        run(methods.build(name, FAST), tiny_world(tmp_path, records))


@pytest.mark.parametrize("name", ["fa", "rwr", "ca"])
def test_rewards_that_are_all_alike(name: str, tmp_path: Path) -> None:
    records = [row | {"reward": 2.0} for row in answered_records(4)]
    with pytest.raises(InputError, match="4 rewards, all 2"):
        run(methods.build(name, FAST), tiny_world(tmp_path, records))


def test_a_threshold_that_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not above the threshold \(12\)"):
        run(build("filtering_alignment", threshold=50.0), tiny_world(tmp_path, scored_records(12)))


def test_both_sides_of_a_scored_preference_count(tmp_path: Path) -> None:
    records = [row | {"chosen_reward": 1.0, "rejected_reward": -1.0} for row in pair_records(6)]
    world = tiny_world(tmp_path, records)
    run(build("filtering_alignment"), world)
    (summary,) = (tmp_path / "rounds").glob("*/summary.json")
    found = json.loads(summary.read_text())
    assert (found["samples"], found["kept"], found["reward_kept"] > 0 > found["reward_left_out"]) == (12, 6, True)


# --- self-play: who plays against whom ------------------------------------------------------------------------------

REWARDS = torch.tensor([1.0, 0.5, 0.0, -0.5, -1.2], dtype=torch.float64)
START = torch.tensor([-1.0, 0.3, 1.2, 0.4, -0.2], dtype=torch.float64).log_softmax(0)
DATA = REWARDS.softmax(0)


def solved(loss: Any, start: Tensor = START) -> Tensor:
    """The log-probabilities of five arms, responses of one token each, that minimize a loss of them."""
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=2000, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(logits.log_softmax(0))
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return logits.detach().log_softmax(0)


def self_play(beta: float, opponent: Tensor) -> Any:
    """The expected loss of an iteration: recorded responses against those of the opponent, which is the reference."""

    def loss(logps: Tensor) -> Tensor:
        ratios = logps - opponent
        weights = DATA[:, None] * opponent.exp()[None, :]
        margins = ratios[:, None] - ratios[None, :]
        return (weights.flatten() * Logistic(beta)(margins.flatten())).sum()

    return loss


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (1.0, [DATA.tolist()]),
        (2.0, [[0.1736, 0.2589, 0.3162, 0.1651, 0.0862], [0.2886, 0.2745, 0.2363, 0.1330, 0.0677]]),
        (0.5, [[0.8826, 0.0885, 0.0132, 0.0108, 0.0049], START.exp().tolist()]),
    ],
)
def test_what_solved_iterations_of_self_play_lead_to(beta: float, expected: list[list[float]]) -> None:
    policy = START
    for golden in expected:
        policy = solved(self_play(beta, policy), policy)
        torch.testing.assert_close(policy.exp(), torch.tensor(golden, dtype=torch.float64), atol=2e-4, rtol=0)


def test_the_first_step_of_self_play_is_one_of_supervised_fine_tuning() -> None:
    logits = START.clone().requires_grad_()
    (found,) = torch.autograd.grad(self_play(0.1, START)(logits.log_softmax(0)), logits)
    (sft,) = torch.autograd.grad(-(DATA * logits.log_softmax(0)).sum(), logits)
    torch.testing.assert_close(found, 0.1 / 2 * sft, atol=1e-10, rtol=0)
    at_data = DATA.log().clone().requires_grad_()
    (rest,) = torch.autograd.grad(self_play(0.1, DATA.log())(at_data.log_softmax(0)), at_data)
    assert float(rest.abs().max()) < 1e-10


def rounds_of(folder: Path) -> list[list[dict[str, Any]]]:
    """The groups of every round of every stage, in order."""
    files = sorted(folder.glob("rounds/*/judged.jsonl"))
    return [[group for line in read_jsonl(file) for group in line.get("groups", [])] for file in files]


def test_the_opponent_is_the_policy_as_the_iteration_began(tmp_path: Path) -> None:
    trained("spin", tmp_path, iterations=3)
    versions = [{group[1]["version"] for group in groups} for groups in rounds_of(tmp_path)]
    steps = len(read_jsonl(tmp_path / "metrics.jsonl"))
    assert versions[0] == {0}
    assert len(versions) == 3
    assert all(len(each) == 1 for each in versions)
    assert max(map(max, versions)) < steps
    assert sorted(versions, key=min) == versions
    assert versions[0] != versions[1] != versions[2]
    first_losses = [line["loss"] for line in read_jsonl(tmp_path / "metrics.jsonl") if line["age"] == 0]
    assert first_losses[0] == pytest.approx(math.log(2), abs=1e-5)


def test_pairs_of_the_iteration_before_count_too(tmp_path: Path) -> None:
    trained("spin", tmp_path, iterations=3)
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "rounds").glob("*/summary.json"))]
    assert [each["samples"] for each in found] == [16, 32, 32]


def test_a_cut_off_sample_is_no_loser(tmp_path: Path) -> None:
    trained("spin", tmp_path, iterations=1, max_new_tokens=2, keep_unfinished=True)
    kept = json.loads(next((tmp_path / "rounds").glob("*/summary.json")).read_text())
    with pytest.raises(ModelError, match="unfinished"):
        trained("spin", tmp_path / "without", iterations=1, max_new_tokens=1, keep_unfinished=False)
    assert kept["dropped"].get("unfinished", 0) == 0


def test_a_response_that_is_labeled_bad_is_no_winner(tmp_path: Path) -> None:
    records = [{"prompt": f"what is {n} ?", "completion": "yes", "label": n != 3} for n in range(5)]
    with pytest.raises(InputError, match=r"labeled bad.*good ones only"):
        run(build("spin", iterations=1), with_start(tiny_world(tmp_path, records)))


# --- strengths as labels ---------------------------------------------------------------------------------------------


def judged(*scores: float | None) -> tuple[Any, Any]:
    group = tuple(
        Rollout(Prompt((Turn("user", "?"),), "k"), (1,), (10 + index,), str(index), True, sample=index)
        for index in range(len(scores))
    )
    judgements = [Judgement(0.0, reason=Dropped.TIE) if score is None else Judgement(score) for score in scores]
    return [group], [judgements]


def test_ranked_responses_are_paired_inward() -> None:
    found = RankedPairs()(*judged(0.0, 2.0, -1.0, 1.0))
    pairs = [(tuple(pair.chosen_ids), tuple(pair.rejected_ids), pair.p) for pair in found.examples]
    assert pairs == [
        ((11,), (12,), pytest.approx(1 / (1 + math.exp(-3)))),
        ((13,), (10,), pytest.approx(1 / (1 + math.exp(-1)))),
    ]
    odd = RankedPairs()(*judged(0.0, None, 3.0, 1.0))
    assert [(tuple(pair.chosen_ids), tuple(pair.rejected_ids)) for pair in odd.examples] == [((12,), (10,))]
    assert odd.summary["dropped"] == {"tie": 1}


@pytest.mark.parametrize("p", [0.6, 0.8, 0.95])
def test_a_strength_is_where_the_margin_stops(p: float) -> None:
    stop = torch.tensor([math.log(p / (1 - p)) / 0.1], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(soft_label(Logistic(0.1), stop, p).sum(), stop)
    assert gradient.tolist() == pytest.approx([0.0], abs=1e-12)
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert soft_label(Logistic(0.1), stop, p).tolist() == pytest.approx([entropy])


def test_a_sure_judge_of_two_samples_is_online_ai_feedback(tmp_path: Path) -> None:
    sure = {"from_reward": {"reward": "length", "temperature": None}}
    same = {"n": 2, "steps": 2, "judge": sure, **SHORT}
    oaif = weights_after("oaif", tmp_path / "oaif", prompt_records(8), **same, beta=0.1)
    assert_same(weights_after("osp", tmp_path / "osp", prompt_records(8), **same), oaif)
    soft = {"from_reward": {"reward": "length", "temperature": 50.0}}
    assert moved(weights_after("osp", tmp_path / "soft", prompt_records(8), **{**same, "judge": soft}), oaif)


def test_an_indifferent_judge_moves_nothing(tmp_path: Path) -> None:
    even = {"from_reward": {"reward": "length", "temperature": 1e12}}
    before = weights_of(tiny_llama())
    assert_same(trained("online_self_preferring", tmp_path, judge=even), before, 1e-6)


# --- optimism --------------------------------------------------------------------------------------------------------


def optimistic(alpha: float, floor: float | None = None, beta: float = 0.5) -> Any:
    """Soft Bradley-Terry labels of all pairs of arms that the start draws, and the bonus of what it draws."""
    drawn = START.exp()
    p = torch.sigmoid(REWARDS[:, None] - REWARDS[None, :])
    term = OptimismBonus(alpha, floor)

    def loss(logps: Tensor) -> Tensor:
        ratios = logps - START
        margins = (ratios[:, None] - ratios[None, :]).flatten()
        pairs = soft_label(Logistic(beta), margins, p.flatten())
        weights = (drawn[:, None] * drawn[None, :]).flatten()
        return (weights * pairs).sum() + (drawn * term(ratios, beta)[0]).sum()

    return loss


@pytest.mark.parametrize("floor", [None, 2.0])
def test_a_small_bonus_moves_probability_to_what_was_not_said(floor: float | None) -> None:
    found = solved(optimistic(0.005, floor)).exp()
    golden = torch.tensor([0.2894, 0.3484, 0.3057, 0.0499, 0.0067], dtype=torch.float64)
    torch.testing.assert_close(found, golden, atol=2e-4, rtol=0)
    assert float(found @ REWARDS) == pytest.approx(0.4306, abs=1e-3)


def slope(alpha: float, floor: float | None) -> float:
    """How the loss changes far out on the way to nothing but the best arm."""
    far, further = (
        optimistic(alpha, floor)((START + torch.tensor([t, 0, 0, 0, 0.0])).log_softmax(0)) for t in (200, 201)
    )
    return float(further - far)


def test_above_some_bonus_the_policy_collapses_without_a_floor() -> None:
    assert slope(0.025, None) > 0 > slope(0.026, None)
    assert slope(0.3, 2.0) > 0 > slope(0.3, None)


def test_the_bonus_enters_with_alpha_times_beta() -> None:
    ratio = torch.tensor([0.3, -500.0], dtype=torch.float64, requires_grad=True)
    bonus, metrics = OptimismBonus(0.001, 2.0)(ratio, 0.01)
    bonus.sum().backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == pytest.approx([1e-5, 0.0])
    assert float(metrics["at_floor"]) == 1


def test_without_a_bonus_selm_is_iterated_dpo(tmp_path: Path) -> None:
    plain = trained("selm", tmp_path / "0", alpha=0.0, beta=0.1)
    recipe = build("selm", alpha=0.0, beta=0.1)
    without = [replace(stage, objective=Pairs(Logistic(0.1))) for stage in recipe.stages]
    world = tiny_world(tmp_path / "1", SETTINGS["selm"][0])
    run(Recipe(tuple(without)), world)
    assert_same(weights_of(world.policy), plain, 1e-6)
    assert moved(trained("selm", tmp_path / "2", alpha=5.0, beta=0.1), plain)


def test_the_policy_answers_greedily_and_stands_beside_the_pair(tmp_path: Path) -> None:
    trained("selm", tmp_path)
    groups = [group for of_round in rounds_of(tmp_path) for group in of_round]
    assert len(groups) == 8
    assert all([each["source"] for each in group] == ["dataset", "dataset", "policy"] for group in groups)
    # Greedy: the likeliest token of the policy after every one before it.
    first = groups[0][2]
    ids = torch.tensor([first["prompt_ids"] + first["response_ids"]])
    likeliest = tiny_llama().base(input_ids=ids).logits.argmax(-1)[0, len(first["prompt_ids"]) - 1 : -1]
    assert likeliest.tolist() == first["response_ids"]


def test_portions_of_rows_are_equal_and_apart(tmp_path: Path) -> None:
    world = tiny_world(tmp_path, prompt_records(11))
    parts = [[row for row in Portion(number, 3)(world, 0)] for number in range(3)]
    assert sorted(map(len, parts)) == [3, 4, 4]
    assert len({id(row) for part in parts for row in part}) == 11
    with pytest.raises(InputError, match="11 rows in 12 portions"):
        Portion(0, 12)(world, 0)


# --- references that move --------------------------------------------------------------------------------------------


def test_the_previous_policy_of_one_round_is_the_frozen_start(tmp_path: Path) -> None:
    recipe = methods.build("dpo", {**FAST, **SAME})
    frozen = tiny_world(tmp_path / "0", pair_records(8))
    run(recipe, frozen)
    moving = tiny_world(tmp_path / "1", pair_records(8))
    run(Recipe((replace(recipe.stages[0], reference=Previous()),)), moving)
    assert_same(weights_of(moving.policy), weights_of(frozen.policy))


def test_the_previous_policy_follows_and_comes_back_from_a_snapshot(tmp_path: Path) -> None:
    recipe = methods.build("dpo", {**FAST, **SAME})
    stage = replace(recipe.stages[0], reference=Previous(), rounds=3)
    world = tiny_world(tmp_path / "0", pair_records(8))
    run(Recipe((stage,)), world, Options(save_every=1))
    losses = [line["loss"] for line in read_jsonl(tmp_path / "0" / "metrics.jsonl") if line["step"] % 2]
    # Two steps a round: the first of each finds policy and reference equal.
    assert losses == pytest.approx([math.log(2)] * 3, abs=1e-5)


# --- what holds for all ----------------------------------------------------------------------------------------------


class Stopped(Exception):
    """A run that ends in its middle."""


@pytest.mark.parametrize("name", SETTINGS)
def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(name: str, tmp_path: Path) -> None:
    whole = trained(name, tmp_path / "whole", batch_size=2)

    def stop(world: World, step: int) -> Mapping[str, Any]:
        if step == 3:
            raise Stopped
        return {}

    world = with_start(tiny_world(tmp_path / "run", SETTINGS[name][0]))
    with pytest.raises(Stopped):
        run(build(name, batch_size=2), world, Options(save_every=2, observe=stop, observe_every=1))
    world = with_start(tiny_world(tmp_path / "run", SETTINGS[name][0]))
    run(build(name, batch_size=2), world, Options(resume=True, save_every=2))
    assert_same(weights_of(world.policy), whole)


@pytest.mark.parametrize("name", SETTINGS)
def test_micro_batches_add_up_to_the_batch(name: str, tmp_path: Path) -> None:
    whole = trained(name, tmp_path / "whole")
    assert_same(trained(name, tmp_path / "cut", micro_tokens=1), whole, 2e-5)


def test_the_page_holds_the_table_of_all_methods() -> None:
    page = Path(__file__).parents[1] / "docs" / "methods.md"
    assert method_table() in page.read_text()
