"""Relatives that sample while they learn, against online DPO with as many samples or as many labels.

Exploration (SELM, arXiv 2405.19332), the policy that sampled as reference (BPO, 2406.12168), and a policy that judges
itself (OSP, 2405.14103). The town's model cannot be asked for a number: it judges by follow-ups, as it began.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from claims.claim import Arm, Claim
from claims.family.online import COMMON, RATES, ROUNDS, SMALL, online
from claims.family.sizes import sized
from claims.work.relatives import judging, relative

SAMPLES: Mapping[str, Any] = {"temperature": 1.0, "max_new_tokens": 48}
# Of a self-judging run: steps of as many pairs.
STEPS, BATCH = sized(36, 6), 24
# A probability is how much likelier approval is than disapproval, in nats.
FOLLOW_UPS: Mapping[str, Any] = {"follow_up": {"model": "start", "temperature": 1.0}}


def arm(name: str, method: str, settings: Mapping[str, Any], **more: Any) -> Arm:
    """A method with rates to choose from."""
    options = {"method": method, "data": {"kind": "prompts"}, **more}
    candidates = tuple({"settings": {**COMMON, **SAMPLES, **settings, **rate["settings"]}} for rate in RATES)
    return Arm(name, relative, options, candidates)


def claims() -> Sequence[Claim]:
    return [*exploring(), *against_behaviour(), *self_preferring()]


def one_round(each: int) -> Arm:
    """Online DPO whose samples are of this step, or up to so many steps old."""
    return online(f"{each} steps a round", steps_per_round=each, batch_size=SMALL, steps=ROUNDS)


def exploring() -> list[Claim]:
    """As many labels as online DPO has: one for each of the policy's answer and the two that stand beside it."""

    def selm(name: str, alpha: float) -> Arm:
        data = {"kind": "beside", "each": sized(4, 2)}
        settings = {"reward": "oracle", "alpha": alpha, "batch_size": 9, "warmup": 0.1, "temperature": 0.0}
        return arm(name, "selm", settings, data=data, labels=3)

    bonus, none = selm("selm", 0.005), selm("selm without a bonus", 0.0)
    return [
        Claim(
            "the bonus makes SELM better than iterated DPO, with steps for every pair that is no tie",
            *(bonus, none, "quality"),
            apart=("steps",),
        ),
        Claim(
            "SELM beats online DPO with no more labels, fewer samples and no more steps",
            *(bonus, one_round(1), "quality"),
            apart=("labels", "samples", "steps"),
        ),
    ]


def against_behaviour() -> list[Claim]:
    """One member, all weights of which learn, as in online DPO: what differs is the reference alone.

    It samples six times, for 16 steps each, as online DPO with old samples does.
    """
    settings = {
        "judge": {"oracle": {}},
        "batch_size": SMALL,
        "steps": ROUNDS,
        "steps_per_round": 16,
        "ensemble": 1,
        "schedule": "constant",
        "max_prompt_tokens": None,
    }
    bpo = arm("bpo", "bpo", settings, labels=0.5)
    return [
        Claim(
            "BPO beats online DPO with samples as old, in the steps that ties leave of both",
            *(bpo, one_round(16), "quality"),
            apart=("steps",),
        ),
        Claim(
            "BPO, in the steps that ties leave, reaches online DPO with samples of this step but for 0.02",
            *(bpo, one_round(1), "quality"),
            margin=-0.02,
            apart=("steps",),
        ),
    ]


def self_preferring() -> list[Claim]:
    settings = {"batch_size": BATCH, "steps": STEPS}
    start = {"models": {"start": "start"}}
    osp = arm("osp by itself", "online_self_preferring", {**settings, "judge": FOLLOW_UPS, "n": 4}, **start)
    winners = arm("online dpo by itself", "online_ai_feedback", {**settings, "judge": FOLLOW_UPS}, **start)
    told = {**settings, "judge": {"oracle": {}}, "n": 4}
    judged = arm("osp by the oracle", "online_self_preferring", told, labels=0.75)
    nothing = Arm("the start", relative)
    untaught = Arm("a policy that was never taught to judge", judging)
    return [
        Claim(
            "OSP by its own follow-ups, without labels, is better than its start, with samples, steps and candidates",
            *(osp, nothing, "quality"),
            apart=("samples", "steps", "candidates"),
        ),
        Claim("how sure it is of its own judgement teaches more than whom it prefers", osp, winners, "quality"),
        Claim("OSP gains more by labels of a judge who is never wrong", judged, osp, "quality", apart=("labels",)),
        Claim(
            "asked for a number, a policy goes by the place of an answer: orders agree in fewer than half of pairs",
            *(untaught, 0.5, "agreement", "less"),
        ),
    ]
