"""Follow-up likelihood, which needs no label, against likelihood of the answer, length, and a trained reward model."""

from collections.abc import Sequence

from claims.claim import Arm, Claim
from claims.family.sizes import sized
from claims.work.rewards import ranking

PAIRS, LABELS = sized(384, 48), sized(1000)
RATES = (2e-3, 1e-3, 5e-4)
TRAINING = {"batch_size": 32, "epochs": 3, "weight_decay": 0.01}


def arm(name: str, reward: str) -> Arm:
    return Arm(name, ranking, {"reward": reward, "pairs": PAIRS}, chosen_by="accuracy")


def claims() -> Sequence[Claim]:
    ours = arm("follow-up likelihood", "follow_up")
    trained = Arm(
        "reward model (Bradley-Terry)",
        ranking,
        {"reward": "bradley_terry", "pairs": PAIRS, "labels": LABELS},
        tuple({"settings": {**TRAINING, "lr": rate}} for rate in RATES),
        chosen_by="accuracy",
    )
    within = (
        f"follow-up likelihood, without labels, steps or candidates of a rate, comes within 0.03 of a reward model "
        f"with {LABELS:,} labels"
    )
    return [
        Claim(
            "follow-up likelihood ranks more pairs as the oracle does than length",
            ours,
            arm("length", "length"),
            "accuracy",
        ),
        Claim(
            "follow-up likelihood ranks more pairs as the oracle does than the likelihood of the answer",
            *(ours, arm("likelihood of the answer", "direct"), "accuracy"),
        ),
        Claim(within, ours, trained, "accuracy", margin=-0.03, apart=("labels", "steps", "candidates")),
    ]
