"""Advantages, rewards by token, divergences and clipped losses, by hand, by enumeration and by plain recurrences."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from uptake import methods
from uptake.errors import InputError
from uptake.losses.policy_gradient import clipped_surrogate, value_loss
from uptake.ops.advantages import explained_variance, gae, value_targets, whiten
from uptake.ops.divergence import KLPenalty, adaptive_beta, full_kl, k1, k2, k3
from uptake.ops.reward_shaping import (
    RewardShaping,
    assign_credit,
    at_last_token,
    center_rewards,
    end_rewards,
    reward_mean,
    running_moments,
    running_std,
)

LAMBDAS = (0.0, 0.5, 0.95, 1.0)


def exact(*rows: Sequence[float]) -> Tensor:
    """Rows padded on the right with zeros."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0.0] * (longest - len(row))] for row in rows], dtype=torch.float64)


def mask_of(*lengths: int) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def close(found: Tensor, wanted: Any, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), atol=tolerance, rtol=0)


# --- advantages ------------------------------------------------------------------------------------------------------

R, V = (-1.0, 0.0, 0.5, -1.0), (-0.5, 0.2, -0.3, -0.4)


@pytest.mark.parametrize(
    ("gamma", "lam", "after", "rewards", "wanted"),
    [
        (1.0, 0.0, None, R, (-0.3, -0.5, 0.4, -0.6)),
        (1.0, 0.5, None, R, (-0.525, -0.45, 0.1, -0.6)),
        (1.0, 0.95, None, R, (-0.928425, -0.6615, -0.17, -0.6)),
        (1.0, 1.0, None, R, (-1.0, -0.7, -0.2, -0.6)),
        (1.0, 0.95, 0.6, R, (-0.414, -0.12, 0.4, 0.0)),
        (0.9, 0.5, None, R, (-0.497075, -0.3935, 0.17, -0.6)),
        (1.0, 0.95, None, (0.0, 0.0, 0.0, -1.5), (-0.808362, -1.58775, -1.145, -1.1)),
    ],
)
def test_advantages_by_hand(gamma: float, lam: float, after: float | None, rewards: Any, wanted: Any) -> None:
    end = None if after is None else torch.tensor([after], dtype=torch.float64)
    close(gae(exact(rewards), exact(V), mask_of(4), gamma, lam, end), [wanted])


def test_returns_are_rewards_to_go_at_lambda_one() -> None:
    close(gae(exact(R), exact(V), mask_of(4), 1.0, 1.0) + exact(V), [(-1.5, -0.5, -0.5, -1.0)])
    deltas = exact(R) + torch.cat((exact(V)[:, 1:], torch.zeros(1, 1)), 1) - exact(V)
    close(gae(exact(R), exact(V), mask_of(4), 1.0, 0.0), deltas, 1e-12)


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_advantages_are_sums_of_errors_and_blind_to_padding(gamma: float, lam: float) -> None:
    """`A_t = sum_l (gamma lam)^l delta_t+l`, row by row, whatever stands in the padding, batched or alone."""
    lengths = (5, 1, 9, 3)
    rewards, values = torch.randn(2, 4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    after = torch.tensor([0.0, 0.3, -0.7, 0.0], dtype=torch.float64)
    mask = mask_of(*lengths)
    found = gae(rewards, values, mask, gamma, lam, after)
    assert not found[~mask].any()
    for row, length in enumerate(lengths):
        following = [*values[row, 1:length].tolist(), float(after[row])]
        delta = [float(rewards[row, t]) + gamma * following[t] - float(values[row, t]) for t in range(length)]
        wanted = [sum((gamma * lam) ** (s - t) * delta[s] for s in range(t, length)) for t in range(length)]
        close(found[row, :length], wanted, 1e-12)
        alone = gae(
            rewards[row : row + 1, :length],
            values[row : row + 1, :length],
            mask_of(length),
            gamma,
            lam,
            after[row : row + 1],
        )
        close(found[row, :length], alone[0], 1e-12)


def test_whitening_over_the_mask() -> None:
    """Of 1, 2, 3, 4, 6 the mean is 3.2 and the squared deviations add up to 14.8, over 5 or over 4."""
    rows, mask = exact((1, 2, 3), (4, 6)), mask_of(3, 2)
    deviations = exact((-2.2, -1.2, -0.2), (0.8, 2.8))
    for variance, number in (("population", 5), ("sample", 4)):
        found = whiten(rows, mask, variance)
        close(found, deviations / (14.8 / number) ** 0.5, 1e-7)
        wide = whiten(exact((1, 2, 3, 9, 9), (4, 6)), torch.nn.functional.pad(mask, (0, 2)), variance)
        close(wide[:, :3], found, 1e-12)
        assert not wide[:, 3:].any()
        assert not whiten(exact((2, 2)), mask_of(2), variance).any()
    close(whiten(rows, mask, "population"), [(-1.278724, -0.697486, -0.116248), (0.464990, 1.627467, 0.0)], 1e-5)
    assert torch.equal(whiten(rows, mask, "none"), rows)


@pytest.mark.parametrize("unbiased", [True, False])
def test_whitened_advantages_have_the_deviation_of_torch(unbiased: bool) -> None:
    """The sample variance is the default, and `torch.std(unbiased=True)`."""
    table = 3 + 2 * torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    mask = mask_of(5, 1, 4, 2, 2, 3)
    found = whiten(table, mask) if unbiased else whiten(table, mask, "population")
    kept = table[mask]
    close(found[mask], (kept - kept.mean()) / torch.std(kept, unbiased=unbiased), 1e-8)
    assert float(torch.std(found[mask], unbiased=unbiased)) == pytest.approx(1, abs=1e-8)


def test_a_single_advantage_has_no_deviation() -> None:
    for variance in ("population", "sample"):
        assert whiten(exact((2,)), mask_of(1), variance).tolist() == [[0.0]]


def test_value_targets_are_advantages_and_values() -> None:
    close(value_targets(exact(R), exact(V), mask_of(4), 1.0, 1.0), [(-1.5, -0.5, -0.5, -1.0)])
    rewards, values = torch.randn(2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    mask, after = mask_of(3, 2), torch.tensor([0.0, 0.7], dtype=torch.float64)
    found = value_targets(rewards, values, mask, 0.9, 0.5, after)
    close(found, torch.where(mask, gae(rewards, values, mask, 0.9, 0.5, after) + values, 0.0), 1e-12)
    assert not found[~mask].any()


def test_explained_variance() -> None:
    returns = torch.tensor([1.0, 2.0, 4.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(torch.zeros(3), returns) == pytest.approx(0)
    assert explained_variance(-returns, returns) == pytest.approx(-3)
    assert explained_variance(returns, torch.ones(3)) == 0


# --- rewards by token ------------------------------------------------------------------------------------------------


def test_composition_by_hand() -> None:
    mask, ends = mask_of(3), torch.tensor([[False, False, True]])
    level = center_rewards(exact((0.3, -0.9, 0.1)), mask, ends, -0.1)
    end = end_rewards(torch.tensor([1.2], dtype=torch.float64), torch.tensor([True]), 0.5, 1.0)
    total = 2 * level - 0.1 * exact((0.5, -0.2, 0.4)) + at_last_token(end, mask)
    close(total, [(0.75, -1.58, 0.76)])


def test_centering_leaves_the_end_alone() -> None:
    rewards, mask = exact((-1, 0, 0, 0), (0, -1, -1, 0)), mask_of(4, 4)
    ends = at_last_token(torch.tensor([True, True]), mask)
    assert reward_mean(rewards, mask, ends) == -0.5
    close(center_rewards(rewards, mask, ends, -0.5), [(-0.5, 0.5, 0.5, 0), (0.5, -0.5, -0.5, 0)])


def test_the_end_of_a_response_that_was_cut_off() -> None:
    scores, finished = torch.tensor([2.0, 2.0]), torch.tensor([True, False])
    close(end_rewards(scores, finished, 0.5, 1.0), [1.0, 0.0])
    close(end_rewards(scores, finished, 0.5, 1.0, replace=True), [1.0, -1.0])
    close(at_last_token(torch.tensor([1.0, -1.0]), mask_of(3, 1)), [(0, 0, 1), (-1, 0, 0)])


ROWS = exact((0.3, -0.9, 0.1, 0.2), (1.1, 0.4), (-0.7, 0.0, 0.6))
MASK, FINISHED = mask_of(4, 2, 3), torch.tensor([True, True, False])
ENDS = at_last_token(FINISHED, MASK)
ROW_SCORES = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
Shaped = tuple[Tensor, Tensor, dict[str, float]]


def shaped(
    rewards: Tensor = ROWS, scores: Tensor = ROW_SCORES, memory: dict[str, float] | None = None, **settings: Any
) -> Shaped:
    """Token part, end part and statistics of a round."""
    shaping = RewardShaping(**settings)
    statistics = shaping.statistics(rewards, scores, MASK, ENDS, memory or {})
    return (
        shaping.token_part(rewards, MASK, ENDS, statistics),
        shaping.end_part(scores, FINISHED, MASK, statistics),
        statistics,
    )


def test_a_constant_for_every_token_but_an_end_changes_nothing() -> None:
    moved = torch.where(MASK & ~ENDS, ROWS + 3.7, ROWS)
    close(shaped(moved)[0], shaped()[0], 1e-12)


def test_the_unit_of_the_reward_changes_nothing() -> None:
    """From the first round on, and over rounds, since the running deviation is in the same unit."""
    first, _, memory = shaped(clip_reward=None)
    other, _, scaled_memory = shaped(100 * ROWS, clip_reward=None)
    close(other, first, 1e-10)
    later, scaled = shaped(memory=memory, clip_reward=None), shaped(100 * ROWS, memory=scaled_memory, clip_reward=None)
    close(scaled[0], later[0], 1e-10)
    assert shaped(0 * ROWS)[2]["kappa"] == 1


def test_the_sum_of_a_response() -> None:
    """`kappa sum(r - center) + end`, wherever credit is given, without clipping."""
    for credit in ("token", "end", "uniform"):
        tokens, end, statistics = shaped(credit=credit, clip_reward=None, weight=0.5, kappa=3.0)
        level = center_rewards(ROWS, MASK, ENDS, statistics["mu"]).sum(1)
        close(tokens.sum(1), statistics["kappa"] * level, 1e-12)
        close(end.sum(1), [0.5, 1.0, 0.5], 1e-12)
        assert not tokens[~MASK].any()


def test_a_token_is_clipped_and_counted() -> None:
    tokens, _, statistics = shaped(center="none", scale="none", clip_reward=0.5)
    close(tokens, ROWS.clamp(-0.5, 0.5), 1e-12)
    assert statistics["clipped_tokens"] == pytest.approx(4 / 9)
    assert shaped(clip_reward=None)[2]["clipped_tokens"] == 0


def test_scores_are_centered_by_the_first_round() -> None:
    _, end, memory = shaped(center_scores=True, weight=1.0, penalty=0.0)
    close(end.sum(1), [-1.0, 0.0, 1.0])
    later = torch.full_like(ROW_SCORES, 5.0)
    _, end, _ = shaped(scores=later, memory=memory, center_scores=True, weight=1.0, penalty=0.0)
    close(end.sum(1), [3.0] * 3)


def test_the_running_deviation_is_that_of_all_sums() -> None:
    sums = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    memory: dict[str, float] = {}
    for part in sums.split([7, 1, 30, 12]):
        memory = running_moments(memory, part)
    assert running_std(memory) == pytest.approx(float(sums.std(correction=0)), abs=1e-12)
    assert memory["sum_mean"] == pytest.approx(float(sums.mean()), abs=1e-12)


@pytest.mark.parametrize("wrong", [{"center": "mean"}, {"scale": "std"}, {"credit": "late"}, {"clip_reward": 0.0}])
@pytest.mark.unchecked
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        RewardShaping(**wrong)


# --- divergence ------------------------------------------------------------------------------------------------------


def test_estimators_by_hand() -> None:
    d = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    close(k1(d), [-1, 0.5, 2])
    close(k2(d), [0.5, 0.125, 2])
    close(k3(d), [0.718282, 0.106531, 1.135335])
    assert not any(each(torch.zeros(3)).any() for each in (k1, k2, k3))


def test_estimators_in_expectation() -> None:
    policy, reference = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).log_softmax(
        1
    )
    wanted = torch.nn.functional.kl_div(reference, policy, log_target=True, reduction="sum")
    for each in (k1, k3):
        close((policy.exp() * each(policy - reference)).sum(), wanted, 1e-12)
    close(full_kl(policy, reference), wanted, 1e-12)
    assert full_kl(policy, policy) == 0


def test_the_coefficient_follows_the_divergence() -> None:
    for kl, wanted in ((12.0, 0.201024), (3.0, 0.198976), (6.3, 0.200256)):
        assert adaptive_beta(0.2, kl, 6.0, 1e4, 256) == pytest.approx(wanted, abs=1e-9)
    for horizon in (10.0, 12.8):
        with pytest.raises(InputError, match=r"horizon.*64 samples a round.*above 12\.8"):
            adaptive_beta(0.05, 0.0, 6.0, horizon, 64)
    assert adaptive_beta(0.05, 0.0, 6.0, 13.0, 64) > 0
    options = {"prompts": 16, "n": 4, "kl_horizon": 12}
    with pytest.raises(InputError, match=r"kl_horizon 12 with 64 samples a round, not above 12\.8"):
        methods.build("ppo", {**options, "kl_target": 6.0})
    methods.build("ppo", options)
    # Of 256 responses, each of 12 tokens at 1 nat, in columns for more.
    kl_table = torch.cat((torch.ones(256, 12), torch.zeros(256, 3)), 1)
    for penalty, wanted in (
        (KLPenalty(0.2, target=6.0), 0.201024),
        (KLPenalty(0.2, target=1.0, unit="mean"), 0.2),
        (KLPenalty(0.2), 0.2),
    ):
        assert penalty.next_beta(0.2, kl_table, samples=256, tokens=256 * 12) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"estimator": "k4"}, {"target": 0.0}, {"unit": "token"}])
@pytest.mark.unchecked
def test_a_kl_penalty_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        KLPenalty(**wrong)


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "wanted"), [(1.5, 1, -1.2), (1.5, -1, 1.5), (0.5, 1, -0.5), (0.5, -1, 0.8), (1.1, 2, -2.2)]
)
def test_clipped_surrogate_by_hand(ratio: float, advantage: float, wanted: float) -> None:
    assert float(clipped_surrogate(torch.tensor([ratio]), torch.tensor([float(advantage)]), 0.2)) == pytest.approx(
        wanted
    )


def test_dual_clip_bounds_the_loss_of_bad_tokens_only() -> None:
    ratio, advantage = torch.tensor([5.0, 2.0, 5.0]), torch.tensor([-1.0, -1.0, 1.0])
    close(clipped_surrogate(ratio, advantage, 0.2, dual_clip=3.0), [3.0, 2.0, -1.2])


def test_value_clip_by_hand() -> None:
    values, old, returns = torch.tensor([1.0, 0.1]), torch.tensor([0.5, 0.5]), torch.tensor([2.0, 0.0])
    close(value_loss(values, old, returns, clip=0.2), [0.845, 0.045])
    close(value_loss(values, old, returns), [0.5, 0.005])


# --- Toy-81: every sequence of a policy of four steps over three tokens ----------------------------------------------

STEPS, WORDS = 4, 3
SAID = torch.tensor(list(product(range(WORDS), repeat=STEPS)))
BEFORE = torch.cat((torch.zeros(len(SAID), 1, dtype=torch.long), SAID[:, :-1]), 1)
LOGITS = torch.tensor(
    [[[(((3 * t + 2 * p + a * a) % 5) - 2) / 2 for a in range(WORDS)] for p in range(WORDS)] for t in range(STEPS)],
    dtype=torch.float64,
)
LOGPS = LOGITS.log_softmax(-1)
TIME = torch.arange(STEPS)
PROBABILITY = LOGPS[TIME, BEFORE, SAID].sum(1).exp()
REWARD = -(SAID == (BEFORE + TIME) % WORDS).double()
ALL = mask_of(*[STEPS] * len(SAID))


def scores() -> Tensor:
    """d log pi(y_t) / d logits, of every sequence and step: `[81, 4, 36]`."""
    table = torch.zeros(len(SAID), STEPS, STEPS, WORDS, WORDS, dtype=torch.float64)
    for row, t in product(range(len(SAID)), range(STEPS)):
        table[row, t, t, BEFORE[row, t]] = -LOGPS[t, BEFORE[row, t]].exp()
        table[row, t, t, BEFORE[row, t], SAID[row, t]] += 1
    return table.flatten(2)


SCORES = scores()


def gradients(rewards: Tensor, lam: float, values: Tensor | None = None) -> Tensor:
    """The policy gradient of every sequence."""
    advantages = gae(rewards, torch.zeros_like(rewards) if values is None else values, ALL, 1.0, lam)
    return (advantages[:, :, None] * SCORES).sum(1)


def expected(rewards: Tensor, lam: float, values: Tensor | None = None) -> Tensor:
    return PROBABILITY @ gradients(rewards, lam, values)


def variance(rewards: Tensor, lam: float, values: Tensor | None = None) -> float:
    each = gradients(rewards, lam, values)
    return float(PROBABILITY @ ((each - PROBABILITY @ each) ** 2).sum(1))


def mean_return(rewards: Tensor, key: Callable[[int, int], Any]) -> Tensor:
    """The exact mean reward-to-go of all sequences with the same key of (row, step)."""
    ahead = rewards.flip(1).cumsum(1).flip(1)
    groups: dict[Any, list[tuple[int, int]]] = {}
    for row, t in product(range(len(SAID)), range(STEPS)):
        groups.setdefault(key(row, t), []).append((row, t))
    table = torch.empty_like(rewards)
    for places in groups.values():
        rows, at = map(list, zip(*places, strict=True))
        table[rows, at] = (PROBABILITY[rows] @ ahead[rows, at]) / PROBABILITY[rows].sum()
    return table


def by_state(row: int, t: int) -> tuple[int, ...]:
    return t, int(BEFORE[row, t])


def by_prefix(row: int, t: int) -> tuple[int, ...]:
    return tuple(SAID[row, :t].tolist())


def late(rewards: Tensor, keep_last: bool) -> Tensor:
    moved = torch.cat((torch.zeros(len(rewards), 1, dtype=torch.float64), rewards[:, :-1]), 1)
    moved[:, -1] += rewards[:, -1] * keep_last
    return moved


DENSE, AT_END = REWARD, assign_credit(REWARD, ALL, "end")
ARMS = {
    "dense": DENSE,
    "end": AT_END,
    "late, last kept": late(REWARD, keep_last=True),
    "late, last dropped": late(REWARD, keep_last=False),
    "early": torch.cat((REWARD[:, 1:], torch.zeros(len(REWARD), 1, dtype=torch.float64)), 1),
    "uniform": assign_credit(REWARD, ALL, "uniform"),
}
TRUE = (PROBABILITY * REWARD.sum(1)) @ SCORES.sum(1)


def cosine(gradient: Tensor) -> float:
    return float(gradient @ TRUE / (gradient.norm() * TRUE.norm()))


def test_the_toy_is_the_one_of_the_table() -> None:
    assert float(PROBABILITY @ REWARD.sum(1)) == pytest.approx(-1.146792, abs=1e-6)
    assert float(TRUE.norm()) == pytest.approx(0.336809, abs=1e-6)
    close(TRUE.view(STEPS, WORDS, WORDS)[0, 0], (-0.103141, -0.017568, 0.120709))


@pytest.mark.parametrize(
    ("arm", "cosine_one", "variance_one", "cosine_zero"),
    [
        ("dense", 1, 3.0088, 0.9648),
        ("end", 1, 4.8542, 0.4841),
        ("late, last kept", 1, 3.9791, 0.4841),
        ("late, last dropped", 0.8607, 1.9674, None),
        ("early", 0.3201, 1.5772, 0.3043),
        ("uniform", 0.9202, 2.3312, 1),
    ],
)
def test_where_a_reward_stands(arm: str, cosine_one: float, variance_one: float, cosine_zero: float | None) -> None:
    rewards = ARMS[arm]
    assert cosine(expected(rewards, 1.0)) == pytest.approx(cosine_one, abs=1e-4)
    assert variance(rewards, 1.0) == pytest.approx(variance_one, abs=1e-4)
    if cosine_zero is None:
        assert float(expected(rewards, 0.0).norm()) < 1e-12
    else:
        assert cosine(expected(rewards, 0.0)) == pytest.approx(cosine_zero, abs=1e-4)


def test_which_places_keep_the_gradient() -> None:
    for arm in ("dense", "end", "late, last kept"):
        close(expected(ARMS[arm], 1.0), TRUE, 1e-12)
    for arm in ("late, last dropped", "early", "uniform"):
        assert float((expected(ARMS[arm], 1.0) - TRUE).norm()) > 0.01


@pytest.mark.parametrize(
    ("arm", "lam", "wanted_cosine"),
    [(DENSE, 0.5, 1), (AT_END, 0.5, 0.9584), (DENSE, 0.0, 1), (AT_END, 0.0, 0.9119)],
)
def test_a_critic_that_knows_the_state(arm: Tensor, lam: float, wanted_cosine: float) -> None:
    assert cosine(expected(arm, lam, mean_return(arm, by_state))) == pytest.approx(wanted_cosine, abs=1e-4)


def test_variances_of_a_critic_that_knows_the_state() -> None:
    assert variance(DENSE, 1.0, mean_return(DENSE, by_state)) == pytest.approx(1.1669, abs=1e-4)
    assert variance(AT_END, 1.0, mean_return(AT_END, by_state)) == pytest.approx(1.5966, abs=1e-4)


@pytest.mark.parametrize("lam", LAMBDAS)
def test_a_critic_that_knows_the_prefix_makes_every_arm_right(lam: float) -> None:
    for arm in (DENSE, AT_END):
        values = mean_return(arm, by_prefix)
        close(expected(arm, lam, values), TRUE, 1e-12)
        wanted = {1.0: 1.1669, 0.5: 0.6347, 0.0: 0.5390}.get(lam)
        if wanted is not None:
            assert variance(arm, lam, values) == pytest.approx(wanted, abs=1e-4)


def test_reinforce_is_what_is_left_without_clip_and_critic() -> None:
    """The loss of every sequence by autograd against scores times reward-to-go by hand."""
    logits = LOGITS.clone().requires_grad_()
    logps = logits.log_softmax(-1)[TIME, BEFORE, SAID]
    advantages = gae(REWARD, torch.zeros_like(REWARD), ALL, 1.0, 1.0)
    ratio = (logps - logps.detach()).exp().flatten()
    losses = clipped_surrogate(ratio, advantages.flatten(), clip=1e9).view(ALL.shape).sum(1)
    (PROBABILITY @ losses).backward()
    assert logits.grad is not None
    to_go = REWARD.flip(1).cumsum(1).flip(1)
    close(-logits.grad.flatten(), PROBABILITY @ (to_go[:, :, None] * SCORES).sum(1), 1e-12)
