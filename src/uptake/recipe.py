"""A method is a record of parts: a recipe is a sequence of stages, a stage its slots and how its weights move."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import yaml
from torch import Tensor, nn

from uptake.data.chat import ChatFormat
from uptake.errors import InputError
from uptake.models import LanguageModel
from uptake.objective import Objective
from uptake.reference import NoReference, Reference
from uptake.types import Assessment, Group, RoundData, Row
from uptake.update import Optimization
from uptake.world import World

# The slots of a stage that samples its responses.
SAMPLING = ("produce", "judge", "signal")


class Select(Protocol):
    """Selection of the rows that this round samples responses to."""

    def __call__(self, world: World, round_: int) -> Sequence[Row]: ...


class Produce(Protocol):
    """Responses to some rows, grouped by prompt. The same rows give the same groups in whatever batches they come."""

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Group]: ...


@runtime_checkable
class StreamedProduce(Produce, Protocol):
    """Responses that are given group by group, so that no row of a pool waits for the longest response to others."""

    @property
    def pool(self) -> int:
        """Rows that are sampled together: as many as are lost when the process is killed."""
        ...

    def stream(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Iterator[tuple[int, Group]]:
        """The number of each row and its group, as soon as that is done."""
        ...


# What is found of every group, in order: a judgement of each response or, by an annotator, one verdict.
Assess = Callable[[Sequence[Group]], Sequence[Assessment]]


class Judge(Protocol):
    """Judge of groups: starts with a round, from the world as it is then, and assesses the round's groups."""

    def start(self, world: World) -> Assess: ...


class Signal(Protocol):
    """Training examples from all groups of a round and what was said of them, which is of the kind a signal names."""

    def __call__(self, groups: Sequence[Group], assessments: Sequence[Any], /) -> RoundData: ...


class Examples(Protocol):
    """Training examples from the world's rows as they are. The same world and round give the same examples."""

    def __call__(self, world: World, round_: int) -> RoundData: ...


class Modules(Protocol):
    """Trainable modules beside the policy (a value head, say), by name; adapters that it adds to it learn as well."""

    def __call__(self, policy: LanguageModel) -> Mapping[str, nn.Module]: ...


class Finish(Protocol):
    """A last change to the policy when a stage's training is over; `start` holds the weights the run began with."""

    def check(self, world: World) -> None:
        """Raise InputError, before the run's first step, where this policy could not be changed so."""
        ...

    def __call__(self, world: World, start: Mapping[str, Tensor]) -> None: ...


class Respond(Protocol):
    """The chat format under which the trained model responds, and with whose template it is saved."""

    def __call__(self, world: World) -> ChatFormat: ...


@dataclass(frozen=True)
class EveryRow:
    """Selection of all rows of the world, every round."""

    def __call__(self, world: World, round_: int) -> Sequence[Row]:
        return world.rows


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The slots, in the order in which data flows, then how weights move and for how many rounds.

    A stage learns either from responses that are sampled, which takes `produce`, `judge` and `signal`, or from rows as
    they are, which takes `examples` alone; raises InputError for another choice of the four. With `ahead` d, the rounds
    up to d later are sampled before the policy learns from a round, and judged meanwhile: for a judge that is waited
    for, at the price of examples that are up to d rounds old. 0 is strictly on-policy. With `earlier` e, the signal
    also sees the groups of up to e rounds before, of this stage and of those before it. `card` goes into the card of
    the trained model; it repeats what parts say, and is not printed.
    """

    select: Select = EveryRow()
    produce: Produce | None = None
    judge: Judge | None = None
    signal: Signal | None = None
    examples: Examples | None = None
    reference: Reference = NoReference()
    objective: Objective
    modules: Modules | None = None
    finish: Finish | None = None
    respond: Respond | None = None
    update: Optimization
    rounds: int = 1
    ahead: int = 0
    earlier: int = 0
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        given = [name for name in (*SAMPLING, "examples") if getattr(self, name) is not None]
        if given not in ([*SAMPLING], ["examples"]):
            found = ", ".join(given) or "none of them"
            raise InputError(f"a stage with {found}", field="stage", allowed="produce, judge and signal; or examples")
        idle = [name for name in ("ahead", "earlier") if getattr(self, name)]
        idle += ["select"] if self.select != EveryRow() else []
        if self.examples is not None and idle:
            name = idle[0]
            raise InputError("nothing is sampled from examples", field=name, allowed="a stage with produce")

    @property
    def sampling(self) -> tuple[Produce, Judge, Signal]:
        """The slots of a stage that samples its responses."""
        if self.produce is None or self.judge is None or self.signal is None:
            raise InputError("this stage samples nothing", field="stage", allowed="produce, judge and signal")
        return self.produce, self.judge, self.signal


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
