"""What a stage minimizes: the protocol of an objective, and the loss that it returns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from uptake.models import LanguageModel, TokenTree
from uptake.reference import RunningReference
from uptake.types import Rollout


@dataclass(frozen=True)
class Loss:
    """The loss of some examples as a sum, to be divided by the summed `size` of all examples of an optimizer step.

    `metrics` are sums over the examples too, so that micro-batches of any size add up to the big batch exactly.
    """

    total: Float[Tensor, ""]
    metrics: Mapping[str, Float[Tensor, ""]]


class Objective(Protocol):
    """What a stage minimizes. Examples are whatever the stage's signal makes of judged rollouts."""

    def tree(self, example: Any) -> TokenTree:
        """The tokens an example costs; bounds micro-batches."""
        ...

    def size(self, example: Any) -> float:
        """The share of the step's denominator that is due to an example."""
        ...

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Any]) -> Loss: ...


@runtime_checkable
class Batchwise(Protocol):
    """An objective that needs a number of the whole batch of an optimizer step, which no micro-batch can know."""

    def for_batch(
        self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Any], budget: int
    ) -> Objective:
        """The objective for the micro-batches of this batch; `budget` bounds the tokens of one forward call."""
        ...


@dataclass(frozen=True)
class Prepared:
    """What an objective has worked out about a round: tensors about its examples, and two kinds of numbers.

    `memory` is what it is given back in the next round, `figures` are logged with every optimizer step of this one.
    """

    tensors: Mapping[str, Tensor]
    memory: Mapping[str, float]
    figures: Mapping[str, float]


@runtime_checkable
class Prepares(Protocol):
    """An objective that works something out once a round, with the weights at its start, for all its epochs."""

    def prepare(
        self,
        policy: LanguageModel,
        reference: RunningReference,
        examples: Sequence[Any],
        memory: Mapping[str, float],
        budget: int,
    ) -> Prepared:
        """What is kept of the round; `memory` is that of the round before, `budget` bounds a forward call's tokens."""
        ...

    def informed(self, examples: Sequence[Any], tensors: Mapping[str, Tensor]) -> Sequence[Any]:
        """The examples with what was kept about them, in the form that the loss takes."""
        ...


@runtime_checkable
class Shows(Protocol):
    """An objective that can say what every token of a response got, for people to look at."""

    def shown(self, examples: Sequence[Any]) -> Iterator[tuple[Rollout, Mapping[str, Sequence[float]]]]:
        """One response of every informed example, with one number per token in every named row."""
        ...


@runtime_checkable
class Stops(Protocol):
    """An objective that may want no more of a round before its last step."""

    def enough(self, metrics: Mapping[str, float]) -> bool:
        """Whether the round's other steps are skipped after one with these metrics; a function of them alone."""
        ...


@runtime_checkable
class Derives(Protocol):
    """An objective with metrics that are no means over examples, but follow from those of the whole step."""

    def derived(self, metrics: Mapping[str, float]) -> Mapping[str, float]: ...
