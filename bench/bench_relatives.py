"""A step of each relative that learns from pairs against a DPO step on the same pairs: what its own part costs.

All sides take their steps in turn, the same weights moved by the same optimizer, and the ratio is that of one round.
A pair of SELM has a third response, the policy's own, which is one of the two others wherever it is the best or the
worst; then it costs nothing. In between, its tokens are computed too, as a row of its own says.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, log, sqrt
from statistics import fmean, stdev

from _harness import record, seconds
from _model import tokenizer
from bench_dpo import ANSWER, BETA, LR, PROMPT, model, pair, rows
from scipy.stats import t as student

from uptake.losses.pairwise import Logistic
from uptake.methods.selm import OptimismBonus
from uptake.models import prepare
from uptake.objective import Pairs
from uptake.objective.base import Objective
from uptake.objective.noisy_pairs import NoisyPairs
from uptake.reference import RunningReference
from uptake.reference.frozen import FrozenModel
from uptake.reference.remembering import RememberingModel
from uptake.reference.virtual import Virtual, VirtualModel
from uptake.types import Pair
from uptake.update import Optimization, build_optimizer, optimizer_step, trainable

BATCH, ROUNDS, WARMUP = 2, 20, 1
Step = Callable[[], object]


def frozen(seed: int) -> FrozenModel:
    return FrozenModel(prepare(model(seed), tokenizer()))


def several(count: int) -> VirtualModel:
    """References that are `count` in all, weighed anew for every pair and clipped, as by default."""
    further = tuple(f"model {index}" for index in range(1, count))
    return VirtualModel(Virtual(models=further), [frozen(1 + index) for index in range(count)])


def step(objective: Objective, reference: RunningReference, pairs: Sequence[Pair]) -> Step:
    policy = prepare(model(0), tokenizer())
    settings = Optimization(lr=LR, batch_size=BATCH, clip=1.0)
    optimizer = build_optimizer(settings, trainable(policy).values())
    return lambda: optimizer_step(policy, reference, objective, pairs, optimizer, settings)


def sides() -> dict[str, Step]:
    """A step of every side by name, DPO's first."""
    policy = prepare(model(0), tokenizer())
    made = [pair(row, policy) for row in rows()]
    pairs, others = made[:BATCH], made[BATCH : 2 * BATCH]
    plain = Pairs(Logistic(BETA))
    bonus = Pairs(Logistic(BETA), OptimismBonus())
    known = [replace(each, aux_ids=(each.chosen_ids, each.rejected_ids)[index % 2]) for index, each in enumerate(pairs)]
    third = [replace(each, aux_ids=other.chosen_ids) for each, other in zip(pairs, others, strict=True)]
    remembering = RememberingModel(prepare(model(1), tokenizer()), window=1600, least=BATCH)
    return {
        "dpo": step(plain, frozen(1), pairs),
        "spin": step(plain, frozen(1), pairs),
        "spa": step(NoisyPairs(plain), remembering, pairs),
        "selm, its answer is one of the pair": step(bonus, frozen(1), known),
        "selm, its answer is a third": step(bonus, frozen(1), third),
        "mrpo, 2 references": step(plain, several(2), pairs),
        "mrpo, 3 references": step(plain, several(3), pairs),
    }


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of some ratios between the ends of its interval of 95 %."""
    logs = list(map(log, ratios))
    half = float(student.ppf(0.975, len(logs) - 1)) * stdev(logs) / sqrt(len(logs))
    return exp(fmean(logs) - half), exp(fmean(logs)), exp(fmean(logs) + half)


def main() -> None:
    steps = sides()
    times = [{name: seconds(call) for name, call in steps.items()} for _ in range(WARMUP + ROUNDS)][WARMUP:]
    table = []
    for name in steps:
        low, mean, high = interval([each[name] / each["dpo"] for each in times])
        shown = {"ratio": "1" if name == "dpo" else f"{mean:.3f}", "95 % interval": f"{low:.3f} to {high:.3f}"}
        table.append({"a step of": name, **shown, "seconds": f"{fmean(each[name] for each in times):.3g}"})
    record(
        "relatives",
        f"A step against one of DPO on the same {BATCH} pairs of {PROMPT} + 2 x {ANSWER} tokens, 30 M parameters, fp32",
        table,
    )


if __name__ == "__main__":
    main()
