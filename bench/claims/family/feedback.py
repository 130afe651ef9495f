"""Feedback tuning: does a model that knows little of what users say rate answers better for being told?

The start has seen a third of the usual conversations, with one user each. It is tuned on what users say to answers to
training questions, and on the same lines in another order, which tell nothing about the answers.
"""

from collections.abc import Sequence
from typing import Any

from claims.claim import Arm, Claim
from claims.family.sizes import sized
from claims.work.rewards import ranking

LINES, PAIRS = sized(4096), sized(384, 48)
YOUNG = {"rounds": sized(4), "users": 1}
RATES = (4e-3, 2e-3, 1e-3)
PLAIN: dict[str, Any] = {}
# Words that the town knows.
SWAPPED = {"format": "role_swap", "request": "please tell me what you think of my words."}


def arm(name: str, format: dict[str, Any], *, tuned: bool = True, shuffled: bool = False) -> Arm:
    options = {"reward": "follow_up", "pairs": PAIRS, "learn": YOUNG, "format": format}
    if not tuned:
        return Arm(name, ranking, options)
    candidates = tuple({"settings": {"lr": rate, "batch_size": 64}} for rate in RATES)
    told = {**options, "tuning": {"lines": LINES, "shuffled": shuffled}}
    return Arm(name, ranking, told, candidates, chosen_by="accuracy")


def claims() -> Sequence[Claim]:
    apart = ("lines", "steps", "candidates")
    plain, before = arm("tuned, plain format", PLAIN), arm("before, plain format", PLAIN, tuned=False)
    swapped, same = arm("tuned, swapped roles", SWAPPED), arm("before, swapped roles", SWAPPED, tuned=False)
    shuffled = arm("tuned on shuffled lines, plain format", PLAIN, shuffled=True)
    cost = f"{LINES:,} lines, steps on them and candidates of a rate gain more than 3 points"
    return [
        Claim(f"{cost}, plain format", plain, before, "accuracy", margin=0.03, apart=apart),
        Claim(f"{cost}, swapped roles", swapped, same, "accuracy", margin=0.03, apart=apart),
        Claim("what users said to an answer teaches more than what they said to another", plain, shuffled, "accuracy"),
    ]
