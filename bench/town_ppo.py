"""A reward for every token against one at the end, in the town: what position is worth, and what makes answers longer.

    python bench/town_ppo.py

The oracle says which words are faulty (-1 each, none for a right answer); in the last comparison, reward models do that
were trained on its edits. Every arm draws the same number of samples and takes the same number of optimizer steps. The
best lambda is found for either side on seeds of their own. "AUC" is the mean quality over a run's measurements, its
start left out. No held-out question is seen in training.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

from _harness import record
from _tokens import with_edit
from _town import FOLDER, SEEDS, Arm, Interval, interval, last, questions, run_arms, starting_model
from town_token_reward import ARMS, LEARN, training_edits

from uptake import ChatFormat, Options, World, load, methods, run
from uptake.types import Row

LAMBDAS = (0.0, 0.5, 0.95, 1.0)
CHOOSING = range(100, 102)
PROMPTS, SAMPLES, ROUNDS, EPOCHS = 64, 2, 16, 4
# Optimizer steps between two measurements, which are two rounds, and answers to every question in one.
EVERY, ANSWERS = 2 * EPOCHS, 2
# Rounds whose time is taken.
TIMED = 3
COMMON: Mapping[str, Any] = {
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

Curve = Sequence[Mapping[str, float]]
Curves = Sequence[Curve]


def arm(name: str, **changes: Any) -> Arm:
    return Arm(name, "fine_grained_ppo", {**COMMON, "reward": "oracle_tokens", **changes})


def asked(seed: int) -> list[Row]:
    return questions()


def curves_of(experiment: str, arms: Sequence[Arm], seeds: Sequence[int] = SEEDS) -> Mapping[str, Curves]:
    return run_arms(experiment, arms, {"questions": asked}, EVERY, seeds, ANSWERS)


def area(curve: Curve) -> float:
    """The mean quality of a curve after its start."""
    return fmean(point["quality"] for point in curve[1:])


def auc(curves: Curves) -> Interval:
    return interval(list(map(area, curves)))


def gap(ours: Curves, theirs: Curves) -> Interval:
    """By how much the AUC of one side is above that of the other, seed by seed."""
    return interval([area(one) - area(two) for one, two in zip(ours, theirs, strict=True)])


def samples_to(curves: Curves, quality: float) -> float:
    """Samples until the mean curve reaches a quality, on a line between measurements; infinite where it does not."""
    steps = [point["step"] for point in curves[0]]
    means = [fmean(point["quality"] for point in points) for points in zip(*curves, strict=True)]
    each = PROMPTS * SAMPLES / EPOCHS
    for (step, mean), (later, more) in pairwise(zip(steps, means, strict=True)):
        if more >= quality > mean:
            return each * (step + (later - step) * (quality - mean) / (more - mean))
    return float("inf")


def best_lambda(credit: str) -> tuple[float, dict[str, object]]:
    """The lambda with the greatest AUC, and a row with all of them."""
    arms = {lam: arm(f"{credit}, {lam:g}", credit=credit, lam=lam) for lam in LAMBDAS}
    curves = curves_of(f"lambda, {credit}", list(arms.values()), CHOOSING)
    found = {lam: fmean(map(area, curves[each.name])) for lam, each in arms.items()}
    listed = ", ".join(f"{lam:g}: {value:.3f}" for lam, value in found.items())
    return max(found, key=found.__getitem__), _row(
        f"AUC by lambda, reward by {credit}, {len(CHOOSING)} other seeds", listed
    )


def token_against_end(ours: Curves, theirs: Curves) -> list[dict[str, object]]:
    goal, above = last(theirs), gap(ours, theirs)
    needed, all_ = samples_to(ours, goal.mean), PROMPTS * SAMPLES * ROUNDS
    early = samples_to(ours, 0.8), samples_to(theirs, 0.8)
    seeds = ", ".join(f"{area(one):.3f} and {area(two):.3f}" for one, two in zip(ours, theirs, strict=True))
    kl = [last(side, "kl") for side in (ours, theirs)]
    return [
        _row(
            "a reward per token beats the same sum at the end, AUC",
            f"{auc(ours)} against {auc(theirs)}, gap {above}",
            above.low > 0,
        ),
        _row("by seed", seeds),
        _row("and ends higher", f"{last(ours)} against {goal}", last(ours).above(goal)),
        _row(
            "half the samples reach the final quality of the sum at the end",
            f"{needed:.0f} samples against {all_}",
            needed <= all_ / 2,
        ),
        _row("samples to a quality of 0.8", f"{early[0]:.0f} against {early[1]:.0f}"),
        _row("divergence from the start at the end, nats", f"{kl[0]} against {kl[1]}"),
    ]


def same_time(arms: Sequence[Arm]) -> dict[str, object]:
    """CPU seconds of a few rounds of both sides, in turn: where they are alike, a curve by time is one by samples."""
    spent: dict[str, list[float]] = {each.name: [] for each in arms}
    for each in (*arms, *arms):
        policy = load(starting_model())
        with TemporaryDirectory() as folder:
            world = World(policy, ChatFormat.of(policy), asked(0), folder=Path(folder) / "run")
            before = process_time()
            run(methods.build(each.method, {**each.options, "rounds": TIMED}), world, Options(save_every=0))
            spent[each.name].append(process_time() - before)
    ours, theirs = map(min, spent.values())
    figure = f"{ours:.1f} CPU seconds for {TIMED} rounds against {theirs:.1f}"
    return _row("it costs no more time, so curves by time are curves by samples", figure, ours < 1.1 * theirs)


def control_credit(ours: Curves, theirs: Curves, lam: float) -> list[dict[str, object]]:
    """The same sums at other places."""
    arms = [
        arm("uniform", credit="uniform", lam=lam),
        arm("shuffled", reward={"oracle_tokens": {"shuffled": True}}, credit="token", lam=lam),
    ]
    curves = curves_of("credit", arms)
    token, end, uniform, shuffled = map(auc, (ours, theirs, *(curves[each.name] for each in arms)))
    return [
        _row("position matters: shuffled credit is worse", f"{shuffled} against {token}", token.above(shuffled)),
        _row("shuffled credit is worse than the sum at the end", f"{shuffled} against {end}", shuffled.mean < end.mean),
        _row("uniform credit is worse", f"{uniform} against {token}", token.above(uniform)),
    ]


def control_length(ours: Curves, lam: float) -> list[dict[str, object]]:
    """Answers without centering get shorter."""
    free_arm = arm("uncentered", credit="token", lam=lam, center="none")
    free_curves = curves_of("length", [free_arm])[free_arm.name]
    start = interval([curve[0]["words"] for curve in ours])
    held, free = last(ours, "words"), last(free_curves, "words")
    claim = "centered, the length stays within 30 % of the start"
    return [
        _row(claim, f"{held} words from {start}", abs(held.mean / start.mean - 1) <= 0.3),
        _row(
            "uncentered, answers get shorter than centered ones",
            f"{free} words, quality {last(free_curves)}",
            free.mean < held.mean,
        ),
    ]


@cache
def reward_models() -> tuple[Path, Path]:
    """A token reward model and a sequence reward model of the same edits, trained once."""
    made = []
    for each in (ARMS[0], ARMS[-1]):
        folder = FOLDER / "ppo-rewards" / each.name.replace(" ", "-").replace(",", "")
        if not (folder / "model").is_dir():
            policy, rows = load(starting_model(**LEARN)), training_edits(0)
            given: Sequence[Row] = with_edit(rows) if each.by_sequence else rows
            world = World(policy, ChatFormat.of(policy), given, folder=folder)
            run(each.recipe(), world, Options(resume=folder.exists(), save_every=0))
        made.append(folder / "model")
    token, sequence = made
    return token, sequence


def learned_rewards(lam: float, end_lam: float) -> list[dict[str, object]]:
    """The same with rewards from models: what is due to the model, and what to the place of the reward."""
    tokens, sequence = reward_models()
    learned = {"token_reward": {"path": str(tokens)}}
    arms = [
        arm("a token reward model", reward=learned, credit="token", lam=lam),
        arm("its sum at the end", reward=learned, credit="end", lam=end_lam),
        Arm(
            "a sequence reward model",
            "ppo",
            {**COMMON, "reward": {"classifier": {"path": str(sequence)}}, "lam": end_lam},
        ),
    ]
    curves = curves_of("learned rewards", arms)
    token, end, whole = (curves[each.name] for each in arms)
    above = gap(token, end)
    return [
        _row(f"{each.name}: AUC, and at the end", f"{auc(curves[each.name])}, {last(curves[each.name])}")
        for each in arms
    ] + [
        _row("a token reward model beats its own sum at the end, AUC", f"gap {above}", above.low > 0),
        _row("and a sequence reward model of the same edits", f"gap {gap(token, whole)}", gap(token, whole).low > 0),
    ]


def _row(claim: str, figure: str, holds: bool | None = None) -> dict[str, object]:
    return {"claim": claim, "quality, or what is named": figure, "holds": {True: "yes", False: "no", None: ""}[holds]}


def main() -> None:
    (lam, ours), (end_lam, theirs) = map(best_lambda, ("token", "end"))
    arms = [arm(f"{credit}, {each:g}", credit=credit, lam=each) for credit, each in (("token", lam), ("end", end_lam))]
    curves = curves_of("token against end", arms)
    token, end = (curves[each.name] for each in arms)
    record(
        "town_ppo",
        f"PPO with a reward per token in the town: {PROMPTS * SAMPLES * ROUNDS} samples, {len(SEEDS)} seeds, "
        f"lambda {lam:g} against {end_lam:g} at the end, means with 95 % intervals",
        [
            ours,
            theirs,
            *token_against_end(token, end),
            same_time(arms),
            *control_credit(token, end, lam),
            *control_length(token, lam),
            *learned_rewards(lam, end_lam),
        ],
    )


if __name__ == "__main__":
    main()
