"""Calibrate a follow-up set on labeled pairs: how much each follow-up counts, which ones go, and what a reward means.

Weights come from a logistic regression of which response is better on the differences in log-probability, each over its
spread. There is no intercept, since the order of a pair says nothing; the strength of the L2 penalty is found by
cross-validation; and no weight is below 0: a complaint that speaks for a response says more of the labels at hand than
of the complaint. Scikit-learn has no such bound, so SciPy minimizes the same, convex loss. What is reported was
measured on prompts that took no part in the fit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from uptake.errors import InputError
from uptake.follow_up.set import Calibration, Category, FollowUpSet

Weighting = Literal["followup", "category"]
Floats = NDArray[np.float64]

# Strengths of the penalty that cross-validation chooses from; features have a root mean square of 1.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
# What a fit has to rest on.
LEAST_PAIRS, LEAST_LABELS = 20, 10
# Of the follow-ups that are left, those that stay at every step of the pruning.
STAY = 0.9


@dataclass(frozen=True)
class LabeledPairs:
    """Log-probabilities of all follow-ups to a better and a worse response: a row a pair, a column a follow-up.

    `prompts` are the keys of the pairs' prompts, `model` is the fingerprint of the model that gave the numbers. Raises
    InputError for tables that do not fit the set and each other, and for numbers that are not finite.
    """

    followups: FollowUpSet
    chosen: Floats
    rejected: Floats
    prompts: tuple[str, ...]
    model: str = ""

    def __post_init__(self) -> None:
        shape = len(self.prompts), len(self.followups.sentences)
        for name, table in (("chosen", self.chosen), ("rejected", self.rejected)):
            if table.shape != shape or not np.isfinite(table).all():
                allowed = f"finite numbers, a row a pair and a column a follow-up: {shape}"
                raise InputError(f"a table of shape {table.shape}", field=name, allowed=allowed)

    @property
    def differences(self) -> Floats:
        """How far each follow-up speaks for the chosen response, (pairs, followups), in nats."""
        return (self.chosen - self.rejected) * signs(self.followups)

    def take(self, rows: NDArray[np.int64]) -> "LabeledPairs":
        prompts = tuple(self.prompts[row] for row in rows)
        return replace(self, chosen=self.chosen[rows], rejected=self.rejected[rows], prompts=prompts)

    def rewards(self, gains: Floats) -> Floats:
        """The rewards of both responses, (pairs, 2)."""
        return np.stack([self.chosen @ gains, self.rejected @ gains], axis=1)


@dataclass(frozen=True)
class Calibrated:
    """A calibrated set, and what was measured on held-out prompts.

    `rewards` are those of the chosen and the rejected response, (pairs, 2), by way of counting: "as given", "weighted"
    and "pruned". `accuracy` is the share of pairs in order by how many follow-ups are left; `p` the probability of the
    chosen response, after calibration.
    """

    followups: FollowUpSet
    calibration: Calibration
    rewards: Mapping[str, Floats]
    accuracy: Mapping[int, float]
    p: Floats


@dataclass(frozen=True)
class Calibrate:
    """Weights by follow-up or by category, pruned to the fewest follow-ups that keep a share of the accuracy.

    Follow-ups are taken out by smallest weight, a tenth at a time and then one by one, and the rest is fitted anew. In
    every fold the whole way down is gone on the training prompts, and seen by the held-out ones. Left are the fewest
    whose accuracy there is `keep` times that of all follow-ups, weighted or as given, whichever is better; or `size` of
    them. In a category's weighting, its follow-ups count alike once each is divided by its spread. Temperature and
    thresholds, these at `precision`, are fitted to held-out rewards. Raises InputError for settings out of range, too
    few pairs or prompts, and follow-ups that tell nothing apart.
    """

    weighting: Weighting = "followup"
    folds: int = 5
    keep: float = 0.99
    size: int | None = None
    precision: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weighting not in get_args(Weighting):
            raise InputError(repr(self.weighting), field="weighting", allowed=", ".join(get_args(Weighting)))
        if self.folds < 2:
            raise InputError(f"{self.folds}", field="folds", allowed="2 or more")
        for name, value in (("keep", self.keep), ("precision", self.precision)):
            if not 0 < value <= 1:
                raise InputError(f"{value}", field=name, allowed="above 0, up to 1")

    def __call__(self, pairs: LabeledPairs) -> Calibrated:
        sizes = self._sizes(pairs)
        held_out, fold_of = self._held_out(pairs, sizes)
        given = pairs.rewards(gains(pairs.followups))
        accuracy = {size: _accuracy(rewards) for size, rewards in held_out.items()}
        size = self._fewest(accuracy, max(accuracy[sizes[0]], _accuracy(given))) if self.size is None else self.size
        counts = prune(pairs, self.weighting, self._penalty(pairs), [each for each in sizes if each >= size])[size]
        rewards = {"as given": given, "weighted": held_out[sizes[0]], "pruned": held_out[size]}
        calibration = self._calibration(pairs, held_out[size])
        followups = replace(weighted(pairs.followups, counts), calibration=calibration)
        return Calibrated(followups, calibration, rewards, accuracy, _held_out_p(held_out[size], fold_of))

    def _fewest(self, accuracy: Mapping[int, float], best: float) -> int:
        """The smallest size that keeps enough of the best accuracy; where none does, the most accurate."""
        enough = [size for size, share in accuracy.items() if share >= self.keep * best]
        return min(enough or [size for size, share in accuracy.items() if share == max(accuracy.values())])

    def _sizes(self, pairs: LabeledPairs) -> list[int]:
        """How many follow-ups are left, step by step, from all of them down to one."""
        prompts, most = len(set(pairs.prompts)), int(np.count_nonzero(gains(pairs.followups)))
        # Every training part is itself cut into folds.
        needed = {"pairs": (len(pairs.prompts), LEAST_PAIRS), "prompts": (prompts, 2 * self.folds)}
        for name, (count, least) in needed.items():
            if count < least:
                raise InputError(f"{count} {name}", field=name, allowed=f"at least {least}, with {self.folds} folds")
        if self.size is not None and not 1 <= self.size <= most:
            raise InputError(f"{self.size}", field="size", allowed=f"1 to {most}")
        if not pairs.differences.any():
            raise InputError("every follow-up is as likely after either response", allowed="pairs that differ")
        sizes = [most]
        while sizes[-1] > 1:
            sizes.append(min(sizes[-1] - 1, int(sizes[-1] * STAY)))
        return sorted({*sizes, self.size or most}, reverse=True)

    def _held_out(self, pairs: LabeledPairs, sizes: Sequence[int]) -> tuple[dict[int, Floats], NDArray[np.int64]]:
        """Rewards (pairs, 2) by number of follow-ups, with weights fitted to other prompts, and every pair's fold."""
        rewards = {size: np.zeros((len(pairs.prompts), 2)) for size in sizes}
        fold_of = np.zeros(len(pairs.prompts), dtype=np.int64)
        for number, (train, test) in enumerate(self._split(pairs)):
            part, unseen = pairs.take(train), pairs.take(test)
            fold_of[test] = number
            for size, counts in prune(part, self.weighting, self._penalty(part), sizes).items():
                rewards[size][test] = unseen.rewards(signs(pairs.followups) * _unit(counts))
        return rewards, fold_of

    def _penalty(self, pairs: LabeledPairs) -> float:
        """The penalty whose weights find held-out labels most likely, with all follow-ups."""
        losses = dict.fromkeys(PENALTIES, 0.0)
        everything = [int(np.count_nonzero(gains(pairs.followups)))]
        for train, test in self._split(pairs):
            part, unseen = pairs.take(train), pairs.take(test).differences
            for penalty in PENALTIES:
                (counts,) = prune(part, self.weighting, penalty, everything).values()
                losses[penalty] += float(np.logaddexp(0, -unseen @ counts).sum())
        return min(PENALTIES, key=lambda penalty: losses[penalty])

    def _split(self, pairs: LabeledPairs) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        folds: Any = GroupKFold(self.folds, shuffle=True, random_state=self.seed)
        yield from folds.split(pairs.chosen, groups=pairs.prompts)

    def _calibration(self, pairs: LabeledPairs, rewards: Floats) -> Calibration:
        good = np.tile([True, False], len(rewards))
        low, high = thresholds(rewards.reshape(-1), good, self.precision)
        return Calibration(
            temperature=_short(temperature(rewards[:, 0] - rewards[:, 1])),
            low=None if low is None else _short(low),
            high=None if high is None else _short(high),
            precision=self.precision,
            source=pairs.followups.fingerprint,
            model=pairs.model,
            weighting=self.weighting,
            pairs=len(pairs.prompts),
            seed=self.seed,
        )


def logistic(features: Floats, penalty: float = 0.0) -> Floats:
    """Weights w from 0 up under which the first side of every row wins: p = sigma(features @ w).

    Minimizes the mean log-loss plus `penalty / 2 * |w|^2` over rows of (rows, features). The label is not 1 but
    (n + 1) / (n + 2), which keeps weights finite where the rows can be told apart without an error.
    Source of the label: Platt (1999), Probabilistic outputs for support vector machines, section 2.2.
    """
    rows, width = features.shape
    doubt = 1 / (rows + 2)

    def loss(weights: Floats) -> tuple[float, Floats]:
        margins = features @ weights
        value = np.logaddexp(0, -margins).mean() + doubt * margins.mean() + penalty / 2 * weights @ weights
        return float(value), features.T @ (doubt - expit(-margins)) / rows + penalty * weights

    found: Floats = minimize(loss, np.zeros(width), jac=True, bounds=[(0, None)] * width, tol=1e-9).x
    return found


def prune(pairs: LabeledPairs, weighting: Weighting, penalty: float, sizes: Sequence[int]) -> dict[int, Floats]:
    """How much each follow-up counts, by how many are left; `sizes` fall, and the first is all that count in the set.

    Counts are weights per nat, 0 for what was taken out: the one of least weight, as fitted by follow-up, goes first.
    """
    differences = pairs.differences
    spread = np.sqrt((differences**2).mean(axis=0))
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    left, owners = np.flatnonzero(gains(pairs.followups)), _owners(pairs.followups)
    weights, found = np.zeros(len(left)), {}
    for size in sizes:
        if size < len(left):
            left = np.sort(left[np.argsort(-weights, kind="stable")[:size]])
        features = differences[:, left] * scale[left]
        weights = logistic(features, penalty)
        found[size] = np.zeros(len(scale))
        tied = weights if weighting == "followup" else _by_category(features, owners[left], penalty)
        found[size][left] = tied * scale[left]
    return found


def temperature(margins: Floats) -> float:
    """The temperature T under which `sigma(margin / T)` is the probability that the chosen response is the better one.

    `margins` are rewards of chosen less rejected responses. Raises InputError where no margin differs from 0, and
    where they rank no better than chance. Source: Platt (1999), without an intercept.
    """
    scale = float(np.sqrt((margins**2).mean()))
    if scale == 0:
        raise InputError("all rewards are equal", field="temperature", allowed="rewards that differ")
    (slope,) = logistic((margins / scale)[:, None])
    if slope <= 0:
        raise InputError("the rewards rank no better than chance", field="temperature", allowed="more or other pairs")
    return scale / float(slope)


def thresholds(rewards: Floats, good: NDArray[np.bool_], precision: float) -> tuple[float | None, float | None]:
    """Rewards (low, high): from `high` up at least `precision` are good, and from `low` down at least so many bad.

    Both include the threshold, label as many as they can and at least ten, and do not cross the median; None where
    that cannot be. Raises InputError for one class only, and where all rewards are equal.
    """
    if good.all() or not good.any():
        raise InputError("all responses are good, or all bad", field="good", allowed="both")
    if np.ptp(rewards) == 0:
        raise InputError("all rewards are equal", field="rewards", allowed="rewards that differ")
    upper = rewards > np.median(rewards)
    high = _cut(rewards[upper], good[upper], precision)
    low = _cut(-rewards[~upper], ~good[~upper], precision)
    return None if low is None else -low, high


def weighted(followups: FollowUpSet, counts: Floats) -> FollowUpSet:
    """The set whose reward is proportional to `counts @ (signed log-probabilities)`, without follow-ups that count 0.

    A category weighs what its follow-ups count together, 1 in the mean. Raises InputError where nothing counts.
    """
    if not counts.any():
        raise InputError("no follow-up prefers the chosen responses", allowed="labels that follow-ups can tell")
    sums = [float(counts[columns.positive.start : columns.negative.stop].sum()) for columns in followups.columns]
    mean = float(counts.sum()) / np.count_nonzero(sums)
    categories = []
    for category, columns, total in zip(followups.categories, followups.columns, sums, strict=True):
        if total:
            sides = [
                [(text, float(count)) for text, count in zip(texts, counts[part], strict=True) if count]
                for texts, part in zip((category.positive, category.negative), columns, strict=True)
            ]
            positive, negative = (tuple(text for text, _ in side) for side in sides)
            weights = tuple(_short(2 * len(side) * count / total) for side in sides for _, count in side)
            categories.append(Category(category.name, _short(total / mean), positive, negative, weights))
    return replace(followups, categories=tuple(categories), calibration=None)


def gains(followups: FollowUpSet) -> Floats:
    """What the reward gains from one nat more of every follow-up, below 0 for those that disapprove."""
    result = np.zeros(len(followups.sentences))
    total = sum(category.weight for category in followups.categories)
    for category, columns in zip(followups.categories, followups.columns, strict=True):
        for texts, part in zip((category.positive, category.negative), columns, strict=True):
            result[part] = category.weight / total / max(len(texts), 1)
    result *= signs(followups) * np.array(followups.weights)
    return result


def signs(followups: FollowUpSet) -> Floats:
    """1 for every follow-up that approves and -1 for every one that does not."""
    result = np.ones(len(followups.sentences))
    for columns in followups.columns:
        result[columns.negative] = -1
    return result


def _owners(followups: FollowUpSet) -> NDArray[np.int64]:
    """The number of every follow-up's category."""
    sizes = [columns.negative.stop - columns.positive.start for columns in followups.columns]
    return np.repeat(np.arange(len(sizes)), sizes)


def _by_category(features: Floats, owners: NDArray[np.int64], penalty: float) -> Floats:
    """Weights by follow-up, equal within a category."""
    members = (owners[:, None] == np.unique(owners)).astype(np.float64)
    shares = members / members.sum(axis=0)
    weights: Floats = shares @ logistic(features @ shares, penalty)
    return weights


def _unit(counts: Floats) -> Floats:
    """Counts that add up to 2, as those of an unweighted set do: 1 for its positives and 1 for its negatives."""
    total = counts.sum()
    return 2 * counts / total if total else counts


def _held_out_p(rewards: Floats, fold_of: NDArray[np.int64]) -> Floats:
    """The probability of every chosen response, at a temperature fitted to the other folds."""
    margins = rewards[:, 0] - rewards[:, 1]
    fitted = np.array([temperature(margins[fold_of != fold]) for fold in range(int(fold_of.max()) + 1)])
    p: Floats = expit(margins / fitted[fold_of])
    return p


def _accuracy(rewards: Floats) -> float:
    """Share of pairs whose chosen response has the higher reward; ties count half."""
    return float((np.sign(rewards[:, 0] - rewards[:, 1]) / 2 + 0.5).mean())


def _cut(rewards: Floats, right: NDArray[np.bool_], precision: float) -> float | None:
    """The lowest reward from which up at least `precision` of the rows are right, and ten rows are."""
    order = np.argsort(-rewards, kind="stable")
    ranked, counts = rewards[order], np.arange(1, len(rewards) + 1)
    # Equal rewards are on the same side of any threshold.
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    reached = last & (np.cumsum(right[order]) / counts >= precision) & (counts >= LEAST_LABELS)
    return float(ranked[reached][-1]) if reached.any() else None


def _short(number: float) -> float:
    """A number with four digits, for files that people read and edit."""
    return float(f"{number:.4g}")
