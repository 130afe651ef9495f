"""Online against offline in the town, and what the annotator does to the result: claims of arXiv 2402.04792, tested.

    python bench/town_online.py

The oracle is annotator and examiner; it never sees a held-out question in training. Every arm takes the same number of
optimizer steps with the same batch. Offline arms learn from a fixed set of pairs: answers of the policy at its start,
labeled by the same annotator ("own"), or answers of the town's assistants ("data set").
"""

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from _harness import record
from _town import Arm, Interval, at, last, questions, run_arms, starting_model

from uptake import ChatFormat, Preference, Prompt, load
from uptake.annotators.oracle import OracleAnnotator
from uptake.rollout import PolicySamples
from uptake.town import Town
from uptake.types import Row

STEPS, BATCH, EVERY = 96, 64, 24
# A round of 16 steps has to fit the 432 questions.
SMALL = 27
# Distinct pairs of an offline set; online draws as many in 8 steps.
PAIRS = 512
# Online arms take the first. Offline arms are run with each, and the best is the one that counts.
RATES = (1e-3, 3e-4, 1e-4)
COMMON = {"lr": RATES[0], "warmup": 5, "batch_size": BATCH, "optimizer": "adamw", "clip": 1.0}
SAMPLED = {"temperature": 1.0, "max_new_tokens": 48, "steps": STEPS}
# Loss and beta of every comparison. The betas that the paper gives IPO and SLiC, 1 and 0.002, belong to thousands of
# steps at a small rate; here all three losses get that of DPO, and IPO the paper's beside it.
LOSSES = {"dpo": ("dpo", 0.1), "ipo": ("ipo", 0.1), "ipo at beta 1": ("ipo", 1.0), "slic": ("slic", 0.1)}


def online(name: str, kind: str = "dpo", **changes: Any) -> Arm:
    loss, beta = LOSSES[kind]
    options = {"loss": loss, "beta": beta, "judge": {"oracle": {}}, **COMMON, **SAMPLED, **changes}
    return Arm(name, "online_ai_feedback", options)


def offline(kind: str, data: str) -> list[Arm]:
    loss, beta = LOSSES[kind]
    options = {"loss": loss, "beta": beta, **COMMON, "epochs": STEPS * BATCH // PAIRS}
    return [Arm(f"offline {kind}, {data}, {rate:g}", "dpo", {**options, "lr": rate}, data) for rate in RATES]


def asked(seed: int) -> list[Row]:
    return questions()


def own_pairs(seed: int) -> list[Row]:
    """Pairs of the policy's own first answers, labeled by the oracle."""
    policy = load(starting_model())
    prompts = [row for row in questions() if isinstance(row, Prompt)]
    # Enough samples that two pairs of different answers a question are left.
    sampling = PolicySamples(n=8, temperature=1.0, top_p=1.0, max_new_tokens=48)
    said: dict[Prompt, list[str]] = {}
    for rollout in sampling.of(policy, prompts, ChatFormat.of(policy), seed, version=0):
        said.setdefault(rollout.prompt, []).append(rollout.response)
    return _labeled([(prompt, one, two) for prompt, texts in said.items() for one, two in _twos(texts)])


def data_set_pairs(seed: int) -> list[Row]:
    """Pairs of the town's assistants' answers, labeled by the oracle."""
    town, rng = Town(), random.Random(seed)
    pairs = []
    for question in town.questions(432, 0, "train"):
        # Half of the town's answers are right.
        faults = town.faults(question)
        texts = [town.answer(question, rng.choice(faults) if rng.random() < 0.5 else None, rng) for _ in range(8)]
        pairs += [(question.prompt, one, two) for one, two in _twos(texts)]
    return _labeled(pairs)


def _twos(texts: list[str]) -> list[tuple[str, str]]:
    """Two pairs of different texts, as far as there are."""
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    return list(zip(distinct[:4:2], distinct[1:4:2], strict=False))


def _labeled(pairs: list[tuple[Prompt, str, str]]) -> list[Row]:
    verdicts = OracleAnnotator().compare([prompt for prompt, *_ in pairs], [(one, two) for _, one, two in pairs])
    labeled: list[Row] = [
        Preference(prompt, *((one, two) if verdict.p > 0.5 else (two, one)))
        for (prompt, one, two), verdict in zip(pairs, verdicts, strict=True)
        if abs(verdict.p - 0.5) > 1e-9
    ]
    if len(labeled) < PAIRS:
        raise SystemExit(f"{len(labeled)} pairs, {PAIRS} are wanted")
    return labeled[:PAIRS]


def compare_losses() -> list[dict[str, object]]:
    """Online against offline at equal optimizer steps."""
    fixed_arms = {(loss, data): offline(loss, data) for loss in LOSSES for data in ("own answers", "data set")}
    arms = [online(f"online {loss}", loss) for loss in LOSSES] + [arm for each in fixed_arms.values() for arm in each]
    curves = run_arms("online", arms, DATA, EVERY)
    rows: list[dict[str, object]] = []
    for loss in LOSSES:
        ours = curves[f"online {loss}"]
        for data in ("own answers", "data set"):
            fixed = max((curves[arm.name] for arm in fixed_arms[loss, data]), key=lambda each: last(each).mean)
            holds = last(ours).above(last(fixed))
            rows.append(_row(f"online {loss} beats offline on {data}", f"{last(ours)} against {last(fixed)}", holds))
    for loss in LOSSES:
        ours, fixed = curves[f"online {loss}"], curves[fixed_arms[loss, "own answers"][0].name]
        drop, rise = _best(fixed) - last(fixed).mean, last(ours).mean - at(ours, EVERY).mean
        figure = f"offline loses {drop:.3f} from its best point, online gains {rise:+.3f} after step {EVERY}"
        rows.append(_row(f"offline {loss} overfits where online goes on", figure, drop > 0.01 and rise > 0.01))
    return rows


def sweep_noise() -> list[dict[str, object]]:
    """How good the annotator has to be."""
    shares = (0.0, 0.1, 0.2, 0.3, 0.4)
    arms = [online(f"{share:.0%} wrong", judge={"oracle": {"noise": share}}) for share in shares]
    curves = run_arms("noise", arms, DATA, EVERY)
    ends = [last(curves[arm.name]) for arm in arms]
    start = at(curves[arms[0].name], 0)
    falls = all(one.mean >= other.mean for one, other in pairwise(ends))
    return [
        _row("a better annotator gives a better policy", _listed(arms, ends), falls),
        _row("an annotator that is wrong in 30 % still helps", f"{ends[3]} from {start}", ends[3].above(start)),
    ]


def sweep_position_bias() -> list[dict[str, object]]:
    """An annotator that prefers what it is shown first, asked in both orders and in one."""
    biases = (0.0, 4.0, 16.0)
    rows = []
    for one_order in (False, True):
        annotators = [{"oracle": {"position_bias": bias, "one_order": one_order}} for bias in biases]
        arms = [online(f"bias {bias:g}", judge=each) for bias, each in zip(biases, annotators, strict=True)]
        curves = run_arms("bias", arms, DATA, EVERY)
        ends = [last(curves[arm.name]) for arm in arms]
        if one_order:
            rows.append(_row("one order is not", _listed(arms, ends), ends[0].above(ends[-1])))
        else:
            rows.append(
                _row("both orders are robust to position bias", _listed(arms, ends), ends[0].low < ends[-1].high)
            )
    return rows


def sweep_brevity() -> list[dict[str, object]]:
    """An annotator asked for shorter answers, with rising strength."""
    strengths = (0.0, 0.02, 0.1, 0.5)
    arms = [online(f"{each:g} a word", judge={"oracle": {"shorter": each}}) for each in strengths]
    curves = run_arms("brevity", arms, DATA, EVERY)
    words = [last(curves[arm.name], "words") for arm in arms]
    quality = ", ".join(f"{last(curves[arm.name]).mean:.3f}" for arm in arms)
    shorter = all(one.mean > other.mean for one, other in pairwise(words))
    figure = f"{_listed(arms, words)} words, at quality {quality}"
    return [_row("the annotator's instructions control the length", figure, shorter)]


def sweep_age() -> list[dict[str, object]]:
    """How fresh the samples have to be."""
    ages = (1, 4, 16)
    arms = [online(f"{each} steps a round", steps_per_round=each, batch_size=SMALL) for each in ages]
    curves = run_arms("age", arms, DATA, EVERY)
    ends = [last(curves[arm.name]) for arm in arms]
    return [_row("fresh samples beat old ones", _listed(arms, ends), ends[0].mean > ends[-1].mean)]


def _row(claim: str, figure: str, holds: bool) -> dict[str, object]:
    return {"claim": claim, "quality, or what is named": figure, "holds": "yes" if holds else "no"}


def _listed(arms: Sequence[Arm], ends: Sequence[Interval]) -> str:
    return "; ".join(f"{arm.name}: {end}" for arm, end in zip(arms, ends, strict=True))


def _best(curves: Sequence[Sequence[Mapping[str, float]]]) -> float:
    """The highest mean over seeds at any step."""
    return max(fmean(curve[place]["quality"] for curve in curves) for place in range(min(map(len, curves))))


DATA = {"questions": asked, "own answers": own_pairs, "data set": data_set_pairs}

if __name__ == "__main__":
    rows = [
        row
        for experiment in (compare_losses, sweep_noise, sweep_position_bias, sweep_brevity, sweep_age)
        for row in experiment()
    ]
    claim = f"Online AI feedback in the town: {STEPS} steps of {BATCH} pairs, means over seeds with 95 % intervals"
    record("town_online", claim, rows)
