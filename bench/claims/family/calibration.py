"""Follow-ups calibrated on few labels: how many can go, and do probabilities and thresholds mean what they say?"""

from collections.abc import Sequence

from claims.claim import Arm, Claim
from claims.family.sizes import sized
from claims.work.calibration import calibrated

PAIRS, LABELS = sized(384, 48), sized(200, 60)


def arm(name: str, share: float, labels: int = LABELS, weighting: str = "followup") -> Arm:
    return Arm(name, calibrated, {"pairs": PAIRS, "labels": labels, "share": share, "weighting": weighting})


def claims() -> Sequence[Claim]:
    given, drawn = arm("the set as it is", 1, labels=0), arm("a third at random", 1 / 3, labels=0)
    every, third = arm("weights by follow-up, all", 1), arm("weights by follow-up, a third", 1 / 3)
    category = arm("weights by category, a third", 1 / 3, weighting="category")
    both = ("labels", "follow-ups")
    return [
        Claim(f"{LABELS} labels make all follow-ups better than without", every, given, "accuracy", apart=both),
        Claim(
            f"a third of the follow-ups by {LABELS} labels loses less than a point to all of them as they are",
            *(third, given, "accuracy"),
            margin=-0.01,
            apart=both,
        ),
        Claim(
            "a third of the follow-ups loses less than a point to all of them, both by the same labels",
            *(third, every, "accuracy"),
            margin=-0.01,
            apart=("follow-ups",),
        ),
        Claim(
            f"weights by category lose less than a point with a third of the follow-ups and {LABELS} labels",
            *(category, given, "accuracy"),
            margin=-0.01,
            apart=both,
        ),
        Claim(f"a third by {LABELS} labels beats a third at random", third, drawn, "accuracy", apart=("labels",)),
        Claim(
            f"{LABELS} labels lower the calibration error of follow-ups",
            *(third, given, "calibration_error", "less"),
            apart=both,
        ),
        Claim("labels by threshold, asked for 0.9, are right in more than 0.9", third, 0.9, "labels_right"),
    ]
