"""Calibration: follow-ups weighted and pruned by some labels, against the set as it is and against chance."""

import random
from dataclasses import replace

import numpy as np
from scipy.special import expit

from claims.claim import Measured, Options, Trial
from claims.work.rewards import points
from claims.work.town import by_question, name, preferences, start, tested_on, trained_on
from uptake import load
from uptake.evaluate.reliability import reliability
from uptake.follow_up.calibration import Calibrate, Floats, LabeledPairs, gains, weighted
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import Calibration, FollowUpSet
from uptake.tasks.calibrate import label
from uptake.tasks.demo import town_followups


def calibrated(options: Options, trial: Trial) -> Measured:
    """How a set of which a `share` is left, by some `labels` or else by chance, ranks held-out answers ("accuracy").

    "calibration_error" is that of its probabilities, "labels_right" the share of labels by threshold that are right;
    where no answer gets a label that is not measured.
    """
    reward = FollowUpReward(load(start({})), town_followups())
    rows = preferences(tested_on(trial.questions), options["pairs"], trial.seed)
    followups = reward.followups
    left = round(options["share"] * len(followups.sentences))
    if options["labels"]:
        pairs = label(preferences(trained_on(), options["labels"], trial.seed), reward)
        followups = Calibrate(options["weighting"], size=left, seed=trial.seed)(pairs).followups
    elif left < len(followups.sentences):
        drawn = random.Random(trial.seed).sample(range(len(followups.sentences)), left)
        followups = weighted(followups, np.isin(np.arange(len(followups.sentences)), drawn).astype(float))
    both = _rewards(label(rows, reward), followups)
    calibration = followups.calibration or Calibration(temperature=1.0)
    error = reliability(expit((both[:, 0] - both[:, 1]) / (calibration.temperature or 1.0)).tolist()).error
    told = [
        (calibration.label(float(each)), good) for row in both for each, good in zip(row, (True, False), strict=True)
    ]
    right = [found == good for found, good in told if found is not None]
    ranked = (points(float(one - other)) for one, other in both)
    labeled = {"labels_right": {"": float(np.mean(right))}} if right else {}
    return Measured(
        {
            "accuracy": by_question(zip((name(row.prompt) for row in rows), ranked, strict=True)),
            "calibration_error": {"": error},
            **labeled,
        },
        {"labels": options["labels"], "follow-ups": len(followups.sentences)},
    )


def _rewards(pairs: LabeledPairs, followups: FollowUpSet) -> Floats:
    """The rewards of both responses by a set whose follow-ups are among those of the pairs."""
    columns = [pairs.followups.sentences.index(text) for text in followups.sentences]
    part = replace(pairs, followups=followups, chosen=pairs.chosen[:, columns], rejected=pairs.rejected[:, columns])
    return part.rewards(gains(followups))
