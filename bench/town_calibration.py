"""Follow-ups calibrated on few labels, in the town: how many can go, and do probabilities and thresholds hold?

    python bench/town_calibration.py

The labeled pairs are a right and a faulty answer to training questions, another draw for every seed; all figures are
from held-out questions, which are the same for every seed. The model and its follow-up set are those of `uptake demo`.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from _harness import compare, record
from _town import HELD_OUT, SEEDS, Interval, interval, preferences, starting_model
from scipy.special import expit

from uptake import Turn, load
from uptake.evaluate.reliability import reliability
from uptake.follow_up.calibration import Calibrate, Calibrated, Floats, LabeledPairs, gains, weighted
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import FollowUpSet
from uptake.tasks.calibrate import label
from uptake.tasks.demo import town_followups
from uptake.types import Dialogue

LABELED, TEST = 200, 600
# Pruned by this factor, calibrated follow-ups are to lose at most one point of accuracy.
FACTOR, LOSS = 3, 0.01
# Whether the responses of a pair are good: chosen, rejected.
SIDES = (True, False)


@dataclass(frozen=True)
class Seed:
    """One draw of labeled pairs, calibrated in every way, and the rewards of the same follow-ups drawn blindly."""

    ways: dict[str, Calibrated]
    blind: FollowUpSet


def calibrate(pairs: LabeledPairs, seed: int) -> Seed:
    """Weights by follow-up and by category, with all follow-ups, a third of them, and as many as 99 % needs."""
    everything = len(pairs.followups.sentences)
    third = everything // FACTOR
    ways = {
        "weights by follow-up, all": Calibrate(size=everything, seed=seed)(pairs),
        "weights by follow-up, a third": Calibrate(size=third, seed=seed)(pairs),
        "weights by category, a third": Calibrate("category", size=third, seed=seed)(pairs),
        "weights by follow-up, 99 %": Calibrate(seed=seed)(pairs),
    }
    blind = np.zeros(everything)
    blind[random.Random(seed).sample(range(everything), third)] = 1
    return Seed(ways, weighted(pairs.followups, blind))


def rewards(pairs: LabeledPairs, followups: FollowUpSet) -> Floats:
    """The rewards of both responses by a set whose follow-ups are among those of the pairs."""
    columns = [pairs.followups.sentences.index(text) for text in followups.sentences]
    part = replace(pairs, followups=followups, chosen=pairs.chosen[:, columns], rejected=pairs.rejected[:, columns])
    return part.rewards(gains(followups))


def accuracy(both: Floats) -> float:
    return float((both[:, 0] > both[:, 1]).mean())


def error(both: Floats, temperature: float) -> float:
    return reliability(expit((both[:, 0] - both[:, 1]) / temperature).tolist()).error


def labels(test: LabeledPairs, calibrated: Calibrated) -> list[bool]:
    """Whether each label by threshold is right; responses in the band between have none."""
    both = rewards(test, calibrated.followups)
    told = [
        (calibrated.calibration.label(reward), good) for row in both for reward, good in zip(row, SIDES, strict=True)
    ]
    return [label == good for label, good in told if label is not None]


def ranking(test: LabeledPairs, seeds: Sequence[Seed]) -> list[dict[str, object]]:
    """Held-out accuracy of the set as it is, and of every way to calibrate it."""
    given = accuracy(test.rewards(gains(test.followups)))
    rows = [row("the set as it is", len(test.followups.sentences), f"{given:.3f}", "")]
    for name in seeds[0].ways:
        sets = [seed.ways[name].followups for seed in seeds]
        shares = interval([accuracy(rewards(test, each)) for each in sets])
        sizes = [len(each.sentences) for each in sets]
        holds = "yes" if shares.low >= given - LOSS else "not for sure"
        rows.append(row(name, f"{min(sizes)} to {max(sizes)}", f"{shares}", f"loses at most a point: {holds}"))
    shares = interval([accuracy(rewards(test, seed.blind)) for seed in seeds])
    return [*rows, row("a third at random, weights equal", len(seeds[0].blind.sentences), f"{shares}", "")]


def meaning(test: LabeledPairs, seeds: Sequence[Seed]) -> list[dict[str, object]]:
    """Held-out calibration error at temperature 1 and at the fitted one, and what the thresholds label."""
    name = "weights by follow-up, a third"
    third = [seed.ways[name] for seed in seeds]

    def over(figure: Callable[[Calibrated], float]) -> Interval:
        return interval([figure(each) for each in third])

    before = error(test.rewards(gains(test.followups)), 1.0)
    after = over(lambda each: error(rewards(test, each.followups), each.calibration.temperature or 1.0))
    told = [right for each in third for right in labels(test, each)]
    share = len(told) / (2 * len(test.prompts) * len(third))
    return [
        row("calibration error of the set as it is, temperature 1", "", f"{before:.3f}", ""),
        row(f"calibration error, {name}", "", f"{after}", f"falls: {'yes' if after.high < before else 'no'}"),
        row(
            f"labels by threshold that are right, {name}, asked for 0.9",
            "",
            f"{np.mean(told):.3f}" if told else "none",
            f"{share:.1%} of the responses are labeled",
        ),
    ]


def row(name: str, size: object, figure: str, note: str) -> dict[str, object]:
    return {"on held-out questions": name, "follow-ups": size, "share of pairs, or what is named": figure, "note": note}


def main() -> None:
    followups = town_followups()
    lm = load(starting_model())
    reward = FollowUpReward(lm, followups)
    held_out = preferences(TEST, "heldout", HELD_OUT, seed=0)
    test = label(held_out, reward)
    seeds = [calibrate(label(preferences(LABELED, "train", 432, seed), reward), seed) for seed in SEEDS]
    dialogues: list[Dialogue] = [(*each.prompt.turns, Turn("assistant", each.chosen)) for each in held_out[:64]]
    pruned = FollowUpReward(lm, seeds[0].ways["weights by follow-up, a third"].followups)
    speed = compare(lambda: pruned.score(dialogues), lambda: reward.score(dialogues)).ratio
    times = row("time to score, all over a third", "", f"{speed}", "")
    claim = f"Calibration in the town: {LABELED} labeled pairs, means over {len(SEEDS)} draws with 95 % intervals"
    record("town_calibration", claim, [*ranking(test, seeds), *meaning(test, seeds), times])


if __name__ == "__main__":
    main()
