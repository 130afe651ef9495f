"""A reward for every token against one at the end, in the town: what position is worth, and what makes answers longer.

    python bench/town_ppo.py

The oracle says which words are faulty (-1 each, none for a right answer). Every arm draws the same number of samples
and takes the same number of optimizer steps; the best lambda is found for either side. "AUC" is the mean quality over
a run's measurements, its start left out. The oracle never sees a held-out question in training.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from _harness import record
from _town import Arm, Interval, interval, last, questions, run_arms

from uptake.types import Row

SEEDS = range(int(os.environ.get("SEEDS", "3")))
LAMBDAS = (0.0, 0.5, 0.95, 1.0)
PROMPTS, SAMPLES, ROUNDS, EPOCHS = 64, 2, 12, 4
# Optimizer steps between two measurements: three rounds.
EVERY = 3 * EPOCHS
COMMON: Mapping[str, Any] = {
    "reward": "oracle_tokens",
    "prompts": PROMPTS,
    "n": SAMPLES,
    "max_new_tokens": 48,
    "rounds": ROUNDS,
    "epochs": EPOCHS,
    "lr": 1e-3,
    "critic_lr": 1e-3,
    "beta": 0.02,
    "clip": 1.0,
}

Curves = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]


def arm(name: str, **changes: Any) -> Arm:
    return Arm(name, "fine_grained_ppo", {**COMMON, **changes})


def asked(seed: int) -> list[Row]:
    return questions()


def auc(curves: Sequence[Sequence[Mapping[str, float]]]) -> Interval:
    """The mean quality of every seed's curve after its start."""
    return interval([fmean(point["quality"] for point in curve[1:]) for curve in curves])


def samples_to(curves: Sequence[Sequence[Mapping[str, float]]], quality: float) -> float:
    """Samples until the mean curve reaches a quality, on a line between measurements; infinite where it does not."""
    steps = [point["step"] for point in curves[0]]
    means = [fmean(point["quality"] for point in points) for points in zip(*curves, strict=True)]
    each = PROMPTS * SAMPLES / EPOCHS
    for (step, mean), (later, more) in pairwise(zip(steps, means, strict=True)):
        if more >= quality > mean:
            return each * (step + (later - step) * (quality - mean) / (more - mean))
    return float("inf")


def compare_lambdas() -> tuple[list[dict[str, object]], float, float]:
    """Token against end, each at its best lambda; beside the rows the two lambdas."""
    arms = {
        credit: [arm(f"{credit}, {lam:g}", credit=credit, lam=lam) for lam in LAMBDAS] for credit in ("token", "end")
    }
    curves = run_arms("lambda", [each for both in arms.values() for each in both], DATA, EVERY, SEEDS)
    best = {credit: max(each, key=lambda arm: auc(curves[arm.name]).mean) for credit, each in arms.items()}
    ours, theirs = (curves[best[credit].name] for credit in ("token", "end"))
    listed = "; ".join(f"{each.name}: {auc(curves[each.name])}" for both in arms.values() for each in both)
    goal = last(theirs)
    needed, whole = samples_to(ours, goal.mean), samples_to(theirs, goal.mean)
    gaps = [
        fmean(p["quality"] - q["quality"] for p, q in zip(one[1:], two[1:], strict=True))
        for one, two in zip(ours, theirs, strict=True)
    ]
    gap = interval(gaps)
    rows = [
        _row("every lambda, AUC", listed, None),
        _row(
            "a reward per token beats the same sum at the end, AUC",
            f"{auc(ours)} at lambda {_lam(best['token']):g}, {auc(theirs)} at lambda {_lam(best['end']):g}, gap {gap}",
            gap.low > 0,
        ),
        _row("and ends higher", f"{last(ours)} against {goal}", last(ours).above(goal)),
        _row(
            "half the samples reach the final quality of the sum at the end",
            f"{needed:.0f} samples against {min(whole, PROMPTS * SAMPLES * ROUNDS):.0f}",
            needed <= PROMPTS * SAMPLES * ROUNDS / 2,
        ),
    ]
    return rows, _lam(best["token"]), _lam(best["end"])


def control_credit(lam: float, end_lam: float) -> list[dict[str, object]]:
    """The same sums at other places; the arms of the comparison are on disk already."""
    arms = [
        arm(f"token, {lam:g}", credit="token", lam=lam),
        arm(f"end, {end_lam:g}", credit="end", lam=end_lam),
        arm("uniform", credit="uniform", lam=lam),
        arm("shuffled", reward={"oracle_tokens": {"shuffled": True}}, credit="token", lam=lam),
    ]
    curves = run_arms("credit", arms, DATA, EVERY, SEEDS)
    token, end, uniform, shuffled = (auc(curves[each.name]) for each in arms)
    return [
        _row("position matters: shuffled credit is worse", f"{shuffled} against {token}", token.above(shuffled)),
        _row("shuffled credit is worse than the sum at the end", f"{shuffled} against {end}", shuffled.mean < end.mean),
        _row("uniform credit is worse", f"{uniform} against {token}", token.above(uniform)),
    ]


def control_length(lam: float) -> list[dict[str, object]]:
    """Answers without centering get shorter."""
    arms = [arm("centered", credit="token", lam=lam), arm("uncentered", credit="token", lam=lam, center="none")]
    curves = run_arms("length", arms, DATA, EVERY, SEEDS)
    start = interval([curve[0]["words"] for curve in curves[arms[0].name]])
    held, free = (last(curves[each.name], "words") for each in arms)
    quality = [last(curves[each.name]) for each in arms]
    rows = [
        ("centered, the length stays within 30 % of the start", held, abs(held.mean / start.mean - 1) <= 0.3),
        ("uncentered, answers get shorter than centered ones", free, free.mean < held.mean),
    ]
    return [
        _row(claim, f"{words} words from {start}, quality {each}", holds)
        for (claim, words, holds), each in zip(rows, quality, strict=True)
    ]


def _lam(arm: Arm) -> float:
    return float(arm.options["lam"])


def _row(claim: str, figure: str, holds: bool | None) -> dict[str, object]:
    return {"claim": claim, "quality, or what is named": figure, "holds": {True: "yes", False: "no", None: ""}[holds]}


DATA: Mapping[str, Any] = {"questions": asked}


def main() -> None:
    rows, lam, end_lam = compare_lambdas()
    rows += control_credit(lam, end_lam) + control_length(lam)
    record(
        "town_ppo",
        f"PPO with a reward per token in the town: {PROMPTS * SAMPLES * ROUNDS} samples, {len(SEEDS)} seeds, "
        "means with 95 % intervals",
        rows,
    )


if __name__ == "__main__":
    main()
