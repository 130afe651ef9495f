"""A method is a record of parts: a recipe is a sequence of stages, a stage named slots and how its weights move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

import yaml
from torch import Tensor, nn

from uptake.models import LanguageModel
from uptake.objective import Objective
from uptake.reference import NoReference, Reference
from uptake.types import Judgement, Rollout, Row
from uptake.update import Optimization
from uptake.world import World


class Select(Protocol):
    """Which rows this round works on."""

    def __call__(self, world: World, round_: int) -> Sequence[Row]: ...


class Produce(Protocol):
    """Responses to some rows. The same rows give the same rollouts in whatever batches they come."""

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Rollout]: ...


class Judge(Protocol):
    """One judgement for every rollout, in order; rollouts of one prompt come together."""

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]: ...


class RoundData(Protocol):
    """What a signal makes of a round: training examples, and every figure about what was kept and dropped."""

    @property
    def examples(self) -> Sequence[Any]: ...

    @property
    def summary(self) -> Mapping[str, Any]: ...


class Signal(Protocol):
    """Training examples from all judged rollouts of a round."""

    def __call__(self, rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> RoundData: ...


class Modules(Protocol):
    """Trainable modules beside the policy (a value head, say), by name."""

    def __call__(self, policy: LanguageModel) -> Mapping[str, nn.Module]: ...


class Finish(Protocol):
    """A last change to the policy when a stage's training is over; `start` holds the weights the stage began with."""

    def __call__(self, world: World, start: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class EveryRow:
    """All rows of the world, every round."""

    def __call__(self, world: World, round_: int) -> Sequence[Row]:
        return world.rows


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The slots, in the order in which data flows, then how weights move and for how many rounds.

    With `ahead` d, the rounds up to d later are sampled before the policy learns from a round, and judged meanwhile:
    for a judge that is waited for, at the price of pairs that are up to d rounds old. 0 is strictly on-policy. `card`
    goes into the card of the trained model; it repeats what parts say, and is not printed.
    """

    select: Select = EveryRow()
    produce: Produce
    judge: Judge
    signal: Signal
    reference: Reference = NoReference()
    objective: Objective
    modules: Modules | None = None
    finish: Finish | None = None
    update: Optimization
    rounds: int = 1
    ahead: int = 0
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Recipe:
    """Stages, run one after another on one policy."""

    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        """The recipe with every default, as YAML; it goes into checkpoints and reports."""
        return yaml.safe_dump(describe(self), sort_keys=False, allow_unicode=True)


def describe(part: Any) -> Any:
    """A part as plain data: its type's name and all its fields but those left out of its `repr`, recursively."""
    if is_dataclass(part) and not isinstance(part, type):
        inner = {each.name: describe(getattr(part, each.name)) for each in fields(part) if each.repr}
        return {type(part).__name__: inner} if inner else type(part).__name__
    if isinstance(part, Mapping):
        return {str(key): describe(value) for key, value in part.items()}
    if isinstance(part, tuple | list):
        return [describe(value) for value in part]
    return part if part is None or isinstance(part, str | int | float | bool) else str(part)
