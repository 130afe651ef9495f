"""Cost: where the time of a run went, by phase."""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.report.folder import Phase, RunFacts, RunFolder
from uptake.report.section import LeftOut, Section
from uptake.report.text import duration


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """Phase summed over all its runs; `share` is its part of all seconds."""

    phase: str
    seconds: float
    share: float
    tokens: int


def build(run: RunFolder) -> Section | LeftOut:
    """Seconds and tokens of every phase but waiting: who waits for a judge does no work of its own."""
    work = [phase for phase in run.timing if phase.phase != "wait"]
    if not work:
        return LeftOut.no("phase in timing.jsonl", "Cost")
    total = sum(phase.seconds for phase in work)
    names = dict.fromkeys(phase.phase for phase in work)
    costs = tuple(_cost(name, [phase for phase in work if phase.phase == name], total or 1.0) for name in names)
    return Section("Cost", f"{duration(total)}{_machine(run.facts or RunFacts())}.", costs)


def _cost(name: str, phases: Sequence[Phase], total: float) -> PhaseCost:
    seconds = sum(phase.seconds for phase in phases)
    return PhaseCost(name, seconds, seconds / total, sum(phase.tokens or 0 for phase in phases))


def _machine(facts: RunFacts) -> str:
    threads = f", {facts.threads} thread{'s' * (facts.threads != 1)}" if facts.threads else ""
    return f" on {facts.device}{threads}" if facts.device else ""
