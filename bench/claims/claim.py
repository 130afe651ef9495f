"""The records: an arm, what was measured of it, and a claim about two arms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Questions = Literal["development", "held out"]
Options = Mapping[str, Any]

# Rates are chosen on the first, verdicts are by the others. A single one may like a rate that no other seed bears.
DEVELOPMENT_SEEDS = (100, 101)
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Trial:
    """Trial of an arm: its seed, which questions it is tested on, and a folder of its own."""

    seed: int
    questions: Questions
    folder: Path


@dataclass(frozen=True)
class Measured:
    """What was measured of an arm with one seed: by measure, a value for every question; and what it was given.

    A measure that is not of questions has one value, under "". `budget` counts labels, samples, optimizer steps and
    whatever else two sides are to have alike. A run that broke off has no values, and `failed` says why.
    """

    values: Mapping[str, Mapping[str, float]]
    budget: Mapping[str, int] = field(default_factory=dict)
    failed: str = ""


Work = Callable[[Options, Trial], Measured]


@dataclass(frozen=True)
class Arm:
    """One side of a claim: some work, a function at a module's top level, and its options.

    Of the `candidates`, each more options, the one counts whose mean `chosen_by` on development questions is best over
    the seeds of `development`.
    """

    name: str
    work: Work
    options: Options = field(default_factory=dict)
    candidates: tuple[Options, ...] = ({},)
    chosen_by: str = "quality"
    development: tuple[int, ...] = DEVELOPMENT_SEEDS


@dataclass(frozen=True)
class Claim:
    """Sentence that says that `ours` has more of a measure, or less, than the baseline, by more than `margin`.

    The baseline is another arm, or a number. A negative margin says "not worse by as much". Budgets in which the sides
    differ are named in `apart`, and in the sentence; ValueError where the sentence hides one.
    """

    sentence: str
    ours: Arm
    baseline: Arm | float
    measure: str
    direction: Literal["more", "less"] = "more"
    margin: float = 0.0
    apart: tuple[str, ...] = ()
    seeds: tuple[int, ...] = SEEDS

    def __post_init__(self) -> None:
        hidden = [name for name in self.apart if name.rstrip("s") not in self.sentence]
        if hidden:
            raise ValueError(f"{self.sentence!r} does not say that sides differ in {', '.join(hidden)}")

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms that have to be run."""
        return (self.ours, self.baseline) if isinstance(self.baseline, Arm) else (self.ours,)
