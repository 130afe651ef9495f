"""Online AI feedback against offline learning, and what the annotator does to the result (arXiv 2402.04792).

The oracle is annotator and examiner; it never sees a held-out question in training. All arms ask it about as many pairs
of as many samples, and take as many optimizer steps. Offline pairs are answers of the start itself, or recorded ones of
which half are right and the others have one fault.
"""

from collections.abc import Sequence
from typing import Any

from claims.claim import Arm, Claim
from claims.family.sizes import sized
from claims.work.policy import policy

# 48 batches of 72 are 8 times the 432 training questions.
STEPS, BATCH = sized(48, 12), 72
LABELS = STEPS * BATCH
# Few labels, each learned so often that steps are as many.
FEW, TIMES = 432, 8
# A round of 16 steps has to fit the training questions.
SMALL, ROUNDS = 27, sized(96, 16)
LOSSES = ("dpo", "ipo", "slic")
# The beta of DPO for all: those that the paper gives IPO and SLiC belong to thousands of steps at a small rate.
COMMON = {"beta": 0.1, "warmup": 5, "optimizer": "adamw", "clip": 1.0}
# By development questions, 2e-3 is worse for online DPO than the first, and 1e-4 worse for offline DPO than the second.
RATES = tuple({"settings": {"lr": rate}} for rate in (1e-3, 3e-4))


def arm(name: str, method: str, settings: dict[str, Any], **more: Any) -> Arm:
    options = {"method": method, "steps": STEPS, **more}
    candidates = tuple({"settings": {**COMMON, **settings, **rate["settings"]}} for rate in RATES)
    return Arm(name, policy, options, candidates)


def online(name: str, *, steps: int = STEPS, **changes: Any) -> Arm:
    settings = {"judge": {"oracle": {}}, "batch_size": BATCH, "steps": steps, **changes}
    settings |= {"temperature": 1.0, "max_new_tokens": 48}
    return arm(name, "online_ai_feedback", settings, steps=steps)


def offline(loss: str, by: str) -> Arm:
    return arm(f"offline {loss}, {by}", "dpo", {"loss": loss, "epochs": 1}, data={"by": by, "labels": LABELS})


def claims() -> Sequence[Claim]:
    return [*against_offline(), *by_annotator(), *by_age()]


def against_offline() -> list[Claim]:
    found = []
    for loss in LOSSES:
        ours, itself, town = online(f"online {loss}", loss=loss), offline(loss, "own"), offline(loss, "town")
        title = loss.upper()
        found += [
            Claim(f"online {title} beats offline {title} on the start's own answers", ours, itself, "quality"),
            Claim(
                f"online {title} beats offline {title} on recorded answers, half of them right", ours, town, "quality"
            ),
            Claim(f"after a quarter of the steps, online {title} gains more than offline", ours, itself, "late_gain"),
        ]
    few = arm(f"offline dpo, {FEW} labels", "dpo", {"loss": "dpo", "epochs": TIMES}, data={"by": "own", "labels": FEW})
    sentence = (
        f"offline DPO that learns {FEW} labels of its samples {TIMES} times gains less after a quarter of the steps "
        f"than with {LABELS:,}, each once"
    )
    found.append(Claim(sentence, few, offline("dpo", "own"), "late_gain", "less", apart=("labels", "samples")))
    return found


def by_annotator() -> list[Claim]:
    right = online("online dpo", loss="dpo")
    wrong = {share: online(f"wrong in {share:.0%}", judge={"oracle": {"noise": share}}) for share in (0.15, 0.3, 0.5)}
    biased = online("biased, both orders", judge={"oracle": {"position_bias": 16.0}})
    one = online(
        "biased, one order",
        judge={"oracle": {"position_bias": 16.0, "one_order": True}},
        allow_position_bias=True,
    )
    little, much = (online(f"{each:g} a word", judge={"oracle": {"shorter": each}}) for each in (0.02, 0.1))
    return [
        Claim("an annotator that is never wrong is better than one that is in 15 %", right, wrong[0.15], "quality"),
        Claim("one that is wrong in 15 % is better than one that is in 30 %", wrong[0.15], wrong[0.3], "quality"),
        Claim("one that is wrong in 30 % is better than one that tosses a coin", wrong[0.3], wrong[0.5], "quality"),
        Claim(
            "asked in both orders, an annotator that prefers what it is shown first costs less than 0.05",
            *(biased, right, "quality"),
            margin=-0.05,
        ),
        Claim("asked in one order, it is worse than asked in both", one, biased, "quality", "less"),
        Claim(
            "told to like short answers a little, an annotator makes answers shorter", little, right, "words", "less"
        ),
        Claim("told to like them much, shorter still", much, little, "words", "less"),
    ]


def by_age() -> list[Claim]:
    one, four, sixteen = (
        online(f"{each} steps a round", steps_per_round=each, batch_size=SMALL, steps=ROUNDS) for each in (1, 4, 16)
    )
    return [
        Claim(
            f"samples of this step are better than samples up to {age} steps old, in the steps that ties leave of both",
            *(one, old, "quality"),
            apart=("steps",),
        )
        for age, old in ((16, sixteen), (4, four))
    ]
