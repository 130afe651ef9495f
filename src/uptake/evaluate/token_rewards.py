"""Metrics of token rewards: how well they find faulty tokens, which pair accuracy does not tell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from uptake.errors import InputError
from uptake.evaluate.interval import Share, share
from uptake.evaluate.numbers import columns, points


@dataclass(frozen=True, slots=True)
class ScoredTokens:
    """Token rewards of a response beside its labels, of which negative ones are faults, and those of its edit."""

    rewards: tuple[float, ...]
    labels: tuple[float, ...]
    edited: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRewardMetrics:
    """Metrics of token rewards over some responses; None where there is nothing to find.

    `auroc` and `average_precision` rank all tokens of all responses by -reward; `faulty` is the share of faults among
    them, the average precision of chance. `top1` is how often the lowest reward of a response with a fault is at a
    fault, ties in parts, and `top1_chance` the same for a token drawn at random. `pair_sum` and `pair_mean` are how
    often the edit has the higher sum, or mean, of rewards. `good_reward` is the mean reward of tokens that are no
    fault, to be held against the base rate q. `length_correlation` is Pearson's, of the sum with the number of tokens.
    """

    auroc: float | None
    average_precision: float | None
    faulty: float
    top1: Share | None
    top1_chance: float | None
    pair_sum: Share | None
    pair_mean: Share | None
    good_reward: float | None
    length_correlation: float | None


def token_reward_metrics(rows: Sequence[ScoredTokens]) -> TokenRewardMetrics:
    """Metrics of token rewards; InputError for no rows, for unequal lengths, and for a reward that is not finite."""
    if not rows:
        raise InputError("no rows", field="rows", allowed="at least one response")
    pairs = [columns(rewards=row.rewards, labels=row.labels) for row in rows]
    rewards = np.concatenate([each for each, _ in pairs])
    bad = np.concatenate([labels < 0 for _, labels in pairs])
    both = bool(bad.any()) and not bool(bad.all())
    hits = [_top1(each, labels < 0) for each, labels in pairs if bool((labels < 0).any())]
    chance = [float((labels < 0).mean()) for _, labels in pairs if bool((labels < 0).any())]
    sides = [(row.rewards, row.edited) for row in rows if row.edited]
    sums = np.array([columns(side=side)[0].sum() for pair in sides for side in pair]).reshape(-1, 2)
    means = sums / np.array([len(side) for pair in sides for side in pair]).reshape(-1, 2)
    return TokenRewardMetrics(
        auroc=float(roc_auc_score(bad, -rewards)) if both else None,
        average_precision=float(average_precision_score(bad, -rewards)) if both else None,
        faulty=float(bad.mean()),
        top1=share(np.array(hits)) if hits else None,
        top1_chance=float(np.mean(chance)) if chance else None,
        pair_sum=share(points(sums[:, 1], sums[:, 0])) if sides else None,
        pair_mean=share(points(means[:, 1], means[:, 0])) if sides else None,
        good_reward=None if bool(bad.all()) else float(rewards[~bad].mean()),
        length_correlation=_correlation([(float(each.sum()), float(len(each))) for each, _ in pairs]),
    )


def _top1(rewards: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """The share of faults among the tokens with the lowest reward."""
    return float(bad[rewards == rewards.min()].mean())


def _correlation(points: Sequence[tuple[float, float]]) -> float | None:
    table = np.array(points)
    return float(np.corrcoef(table.T)[0, 1]) if len(table) > 1 and bool(table.std(0).all()) else None
