"""The relatives of the three systems, each against what its paper says it is better than.

Self-play (SPIN, arXiv 2401.01335), few labels that spread (SPA, 2406.04412), imitation by rewards (FA, RWR and CA,
2308.12050), extrapolation (ExPO, 2404.16792), several references (MRPO, 2405.16388). The oracle labels and examines;
answers to learn from are the start's own, four to every question. Sizes are those of the papers where they can be, as
shares: 3 % of labels, a fifth of the data. What samples while it learns stands in `relatives_online`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from claims.claim import Arm, Claim
from claims.family import relatives_online
from claims.family.online import RATES
from claims.family.sizes import sized
from claims.work.relatives import relative

# The start's own answers to every question, in as many passes of as many steps.
EACH, EPOCHS = sized(4, 2), sized(4)
STEPS = 15 * EPOCHS
LABELS = 432 * EACH // 2
# 3 % of the labels, and the fifth of them by which a policy is trained in part.
FEW, PART = 26, LABELS // 5
RECORDED = sized(144, 32)
UPDATE: Mapping[str, Any] = {"optimizer": "adamw", "clip": 1.0, "warmup": 0.1, "weight_decay": 0.0}
SAMPLES: Mapping[str, Any] = {"max_new_tokens": 48}
# Where alpha is chosen, the rate is not; and that of tuning on answers.
MIDDLE, TUNED = 3e-4, 1e-3


def arm(name: str, method: str, data: Mapping[str, Any], settings: Mapping[str, Any], **more: Any) -> Arm:
    """A method with rates to choose from."""
    options = {"method": method, "data": data, **more}
    candidates = tuple({"settings": {**UPDATE, **settings, **rate["settings"]}} for rate in RATES)
    return Arm(name, relative, options, candidates)


def dpo(name: str = "dpo", method: str = "dpo", models: Mapping[str, str] = {}, **more: Any) -> Arm:
    """DPO on all labels, or a method that is DPO against other references."""
    settings = {"beta": 0.1, "epochs": EPOCHS, "schedule": "constant"}
    if models:
        settings |= {"references": [*models]}
        more = {"models": models}
    return arm(name, method, {"kind": "pairs", "each": EACH, "steps": STEPS}, settings, **more)


def claims() -> Sequence[Claim]:
    return [
        *self_play(),
        *few_labels(),
        *by_rewards(),
        *extrapolated(),
        *several_references(),
        *relatives_online.claims(),
    ]


def self_play() -> list[Claim]:
    """Both go on from a model that was tuned on the same answers, as in the paper."""
    answers = {"kind": "answers", "answers": RECORDED}
    tuned = {"answers": RECORDED, "settings": {"epochs": 3, "lr": TUNED, "batch_size": 16, "weight_decay": 0.0}}
    spin = arm("spin", "spin", answers, {"batch_size": 16, **SAMPLES}, base=tuned)
    # As many steps as four iterations have, of which all but the first see the pairs of the one before again.
    more = arm("sft goes on", "supervised", answers, {"batch_size": 16, "epochs": 7, "schedule": "linear"}, base=tuned)
    sentence = (
        f"tuned on {RECORDED} answers, SPIN on them, with samples of its own and no more steps, gains more than by "
        "more tuning"
    )
    return [Claim(sentence, spin, more, "quality", apart=("samples", "steps"))]


def few_labels() -> list[Claim]:
    every = {"kind": "few", "each": EACH, "labels": FEW}
    labeled = {"beta": 0.1, "batch_size": FEW, "schedule": "constant"}
    # The doubt begins once a batch of margins is known: an iteration has a hundredth of the paper's pairs.
    spread = {**labeled, "epochs": 10, "window": 8 * FEW, "least": FEW, **SAMPLES}
    spa = arm("spa", "spa", every, spread, models={"start": "start"})
    few = arm(f"dpo, {FEW} labels", "dpo", {**every, "kind": "pairs"}, {**labeled, "epochs": 10})
    longer = arm(f"dpo, {FEW} labels, more steps", "dpo", {**every, "kind": "pairs"}, {**labeled, "epochs": 28})
    return [
        Claim(
            f"SPA with {FEW} labels, 3 %, beats DPO on them, with samples and steps on these beside",
            *(spa, few, "quality"),
            apart=("samples", "steps"),
        ),
        Claim(
            f"SPA with {FEW} labels beats DPO that takes no fewer steps on them, with samples of its own",
            *(spa, longer, "quality"),
            apart=("samples", "steps"),
        ),
        Claim(
            f"SPA with {FEW} labels, fewer samples and fewer steps reaches DPO with {LABELS}, but for 0.02",
            *(spa, dpo(), "quality"),
            margin=-0.02,
            apart=("labels", "samples", "steps"),
        ),
    ]


def by_rewards() -> list[Claim]:
    """Who learns from pairs has one label for two answers, who learns from ratings two."""
    data, settings = {"kind": "rated", "each": EACH, "steps": STEPS}, {"epochs": EPOCHS, "schedule": "constant"}
    fa, rwr = arm("fa", "filtering_alignment", data, settings), arm("rwr", "reward_weighted_regression", data, settings)
    ca = arm("ca", "conditional_alignment", data, {**settings, "condition": " {reward}"}, base="digits")
    apart = ("labels",)
    return [
        Claim("conditional alignment beats filtering", ca, fa, "quality"),
        Claim("conditional alignment beats reward-weighted regression", ca, rwr, "quality"),
        Claim("reward-weighted regression beats filtering", rwr, fa, "quality"),
        Claim(
            "conditional alignment, labels for each answer, beats DPO on their pairs", ca, dpo(), "quality", apart=apart
        ),
        Claim(
            "filtering, labels for each answer, gains less than DPO on their pairs",
            *(fa, dpo(), "quality", "less"),
            apart=apart,
        ),
        Claim(
            "reward-weighted regression, labels for each answer, gains less than DPO on their pairs",
            *(rwr, dpo(), "quality", "less"),
            apart=apart,
        ),
    ]


def extrapolated() -> list[Claim]:
    """An endpoint is trained once: who extrapolates takes no step of its own."""
    whole, beyond = dpo(), dpo("dpo and expo 0.3", alpha=0.3)
    data = {"kind": "pairs", "each": EACH, "labels": PART, "steps": 3 * EPOCHS}
    part = {"beta": 0.1, "epochs": EPOCHS, "schedule": "constant", **UPDATE, "lr": MIDDLE}
    options = {"method": "dpo", "data": data, "settings": part}
    fifth = Arm("dpo, a fifth", relative, options)
    # What the paper takes for 40, 20 and 10 % of the data.
    farther = Arm("dpo, a fifth, and expo", relative, options, tuple({"alpha": each} for each in (0.5, 2.5, 8.0)))
    return [
        Claim("extrapolated by 0.3, DPO is better than its endpoint", beyond, whole, "quality"),
        Claim("and its answers are longer", beyond, whole, "words"),
        Claim(
            f"with {PART} labels, candidates of alpha make DPO better than its endpoint",
            *(farther, fifth, "quality"),
            apart=("candidates",),
        ),
        Claim(
            f"with candidates of alpha, its answers are longer than those of its endpoint, {PART} labels",
            *(farther, fifth, "words"),
            apart=("candidates",),
        ),
        Claim(
            "a fifth of labels, samples and steps, extrapolated by candidates of alpha, reaches DPO with "
            f"{LABELS} labels but for 0.02",
            *(farther, whole, "quality"),
            margin=-0.02,
            apart=("labels", "samples", "steps", "candidates"),
        ),
    ]


def several_references() -> list[Claim]:
    """Beside the start, a model that was tuned on right answers, one tuned on faulty ones, and both."""
    models = {"good": "taught right", "bad": "taught wrong"}
    both = dpo("mrpo, good and bad", "multi_reference_po", models)
    good, bad = (dpo(f"mrpo, {each}", "multi_reference_po", {each: models[each]}) for each in models)
    apart = ("references",)
    return [
        Claim(
            "a good and a bad one of its references make MRPO better than the bad one alone",
            *(both, bad, "quality"),
            apart=apart,
        ),
        Claim(
            "a bad one among its references costs MRPO less than 0.02 against the good one alone",
            *(both, good, "quality"),
            margin=-0.02,
            apart=apart,
        ),
        Claim("a good one of its references makes MRPO better than DPO", good, dpo(), "quality", apart=apart),
        Claim("a good one of its references makes MRPO better than a bad one", good, bad, "quality"),
    ]
