"""Verdicts: what is said of a claim by the results at hand, or why nothing is said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from statistics import fmean
from typing import Any

from claims.claim import Arm, Claim, Measured, Options
from claims.rule import Difference, Values, difference, holm
from claims.runner import best, tried
from claims.store import Job, Store

HOLDS, FAILS, UNTOLD = "holds", "does not hold", "cannot be told"


@dataclass(frozen=True)
class Finding:
    """What was found of a claim: the difference of its sides, or the reason why there is none to judge.

    It is `complete` where every result is there and fair, with a difference or with nothing to measure.
    """

    claim: Claim
    difference: Difference | None = None
    reason: str = ""
    complete: bool = False
    means: tuple[float, ...] = ()
    by_seed: tuple[tuple[float, ...], ...] = ()
    chosen: Mapping[str, Options] = field(default_factory=dict)
    tried: Mapping[str, list[tuple[Options, list[float]]]] = field(default_factory=dict)
    budgets: tuple[Mapping[str, int], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A finding as it is printed: with the level of its test, the interval at that level and what follows."""

    finding: Finding
    level: float
    interval: tuple[float, float] | None
    verdict: str


def find(claim: Claim, store: Store) -> Finding:
    """What the results at hand say of a claim."""
    try:
        attempts = {arm.name: tried(arm, store) for arm in claim.arms}
        choices = {name: best(found) for name, found in attempts.items()}
        sides = [[_measured(arm, choices[arm.name], seed, store) for seed in claim.seeds] for arm in claim.arms]
    except ValueError as error:
        return Finding(claim, reason=str(error))
    budgets = tuple(side[0].budget for side in sides)
    if reason := _unequal(claim, sides):
        return Finding(claim, reason=reason, budgets=budgets)
    if reason := _unmeasured(claim, sides):
        return Finding(claim, reason=reason, budgets=budgets, complete=True)
    values: list[list[Values]] = [[each.values[claim.measure] for each in side] for side in sides]
    by_seed = tuple(tuple(fmean(each.values()) for each in side) for side in values)
    return Finding(
        claim,
        difference(values[0], values[1] if len(values) > 1 else _number(claim.baseline)),
        complete=True,
        means=tuple(map(fmean, by_seed)),
        by_seed=by_seed,
        chosen=choices,
        tried={name: found for name, found in attempts.items() if len(found) > 1},
        budgets=budgets,
    )


def _measured(arm: Arm, choice: Options, seed: int, store: Store) -> Measured:
    measured, reason = store.read(Job(arm, choice, seed, "held out"))
    if measured is None:
        raise ValueError(reason)
    if measured.failed:
        raise ValueError(f"{arm.name!r} broke off with seed {seed}: {measured.failed}")
    return replace(measured, budget={**measured.budget, "candidates": len(arm.candidates)})


def _number(baseline: Arm | float) -> float:
    assert not isinstance(baseline, Arm)
    return float(baseline)


def _unequal(claim: Claim, sides: Sequence[Sequence[Measured]]) -> str:
    """In what the budgets of both sides differ, where the claim does not say so."""
    for ours, theirs in zip(*sides, strict=True) if len(sides) > 1 else ():
        for name in sorted({*ours.budget, *theirs.budget} - {*claim.apart}):
            mine, other = ours.budget.get(name, 0), theirs.budget.get(name, 0)
            if mine != other:
                return f"budgets differ: {mine:,} {name} against {other:,}"
    return ""


def _unmeasured(claim: Claim, sides: Sequence[Sequence[Measured]]) -> str:
    """Where a side gave nothing to measure."""
    for arm, side in zip(claim.arms, sides, strict=True):
        for seed, each in zip(claim.seeds, side, strict=True):
            if claim.measure not in each.values:
                return f"{arm.name!r} gave nothing to measure as {claim.measure.replace('_', ' ')} with seed {seed}"
    return ""


def judge(findings: Sequence[Finding]) -> list[Verdict]:
    """The verdicts on all claims of a table, corrected for their number; those without results count among them."""
    found = [(each, each.difference) for each in findings]
    levels = holm([side.p(_margin(each.claim)) if side else None for each, side in found])
    return [
        Verdict(each, level, side.interval(level) if side else None, _verdict(each, side, level))
        for (each, side), level in zip(found, levels, strict=True)
    ]


def _margin(claim: Claim) -> float:
    return claim.margin if claim.direction == "more" else -claim.margin


def _verdict(finding: Finding, side: Difference | None, level: float) -> str:
    if side is None:
        return f"no verdict: {finding.reason}"
    claim = finding.claim
    if side.p(_margin(claim)) > level:
        return UNTOLD
    above = side.mean > _margin(claim)
    return HOLDS if above == (claim.direction == "more") else FAILS


def record(verdict: Verdict) -> dict[str, Any]:
    """Everything about a claim, for a file."""
    finding, claim = verdict.finding, verdict.finding.claim
    side = finding.difference
    return {
        "claim": claim.sentence,
        "ours": claim.ours.name,
        "baseline": claim.baseline.name if isinstance(claim.baseline, Arm) else claim.baseline,
        "measure": claim.measure,
        "direction": claim.direction,
        "margin": claim.margin,
        "verdict": verdict.verdict,
        "means": finding.means,
        "by_seed": finding.by_seed,
        "difference": side and side.mean,
        "error": side and side.error,
        "freedom": side and side.freedom,
        "p": side and side.p(_margin(claim)),
        "level": verdict.level,
        "interval": verdict.interval,
        "chosen": finding.chosen,
        "tried": {name: [_trial(*each) for each in some] for name, some in finding.tried.items()},
        "budgets": finding.budgets,
    }


def _trial(candidate: Options, values: Sequence[float]) -> dict[str, Any]:
    return {"options": candidate, "by_seed": [value if isfinite(value) else None for value in values]}


def rows(verdicts: Sequence[Verdict]) -> list[dict[str, str]]:
    """The table for people."""
    return [
        {
            "claim": each.finding.claim.sentence,
            "measure": each.finding.claim.measure.replace("_", " "),
            "figure": _figure(each),
            "difference": _interval(each),
            "verdict": each.verdict,
        }
        for each in verdicts
    ]


def _figure(verdict: Verdict) -> str:
    sides = [f"{mean:.3f}" for mean in verdict.finding.means]
    baseline = verdict.finding.claim.baseline
    if sides and not isinstance(baseline, Arm):
        sides.append(f"{baseline:g}")
    apart = [f"{_amounts(verdict, name)} {name}" for name in verdict.finding.claim.apart if verdict.finding.budgets]
    return "; ".join([" against ".join(sides), *apart]) if sides else ""


def _amounts(verdict: Verdict, name: str) -> str:
    return " against ".join(f"{budget.get(name, 0):,}" for budget in verdict.finding.budgets)


def _interval(verdict: Verdict) -> str:
    side, claim = verdict.finding.difference, verdict.finding.claim
    if side is None or verdict.interval is None:
        return ""
    low, high = verdict.interval
    wanted = f"; asked for: {claim.direction} than {_margin(claim):+g}" if claim.margin else ""
    return f"{side.mean:+.3f} [{low:+.3f}, {high:+.3f}]{wanted}"
