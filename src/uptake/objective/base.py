"""Objectives: the protocol of what a stage minimizes, and the loss that it returns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from uptake.models import LanguageModel, TokenTree
from uptake.reference import RunningReference
from uptake.types import Rollout

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Loss:
    """Loss of some examples as a sum, to be divided by the summed `size` of all examples of an optimizer step.

    `metrics` are sums over the examples too, so that micro-batches of any size add up to the big batch exactly.
    """

    total: Float[Tensor, ""]
    metrics: Mapping[str, Float[Tensor, ""]]


@runtime_checkable
class Objective(Protocol):
    """Objective of a stage: a loss of examples, which are whatever the stage's signal makes of judged rollouts.

    `tree`, `size` and the call are its own; the others do nothing unless an objective says otherwise.
    """

    def tree(self, example: Any) -> TokenTree:
        """Tokens of an example; what they cost bounds micro-batches."""
        ...

    def size(self, example: Any) -> float:
        """Share of the step's denominator that is due to an example."""
        ...

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Any]) -> Loss: ...

    def for_batch(
        self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Any], budget: int
    ) -> "Objective":
        """Objective of an optimizer step's micro-batches, where it needs a number of the whole batch.

        `budget` bounds the tokens of one forward call.
        """
        return self

    def at(self, done: float) -> "Objective":
        """Objective of a step after a share `done` of the stage's steps, where it changes in their course."""
        return self

    def derived(self, metrics: Numbers) -> Numbers:
        """Metrics that are no means over examples, but follow from the means of the whole step."""
        return {}

    def ends_round(self, metrics: Numbers) -> bool:
        """Early stop: whether the round's other steps are skipped after one with these metrics, by them alone."""
        return False

    def cautions(self, batches: Sequence[Sequence[Any]]) -> Sequence[str]:
        """What the batches of a round cannot teach, a line for each reason."""
        return ()


@runtime_checkable
class RoundObjective(Objective, Protocol):
    """Objective that works something out once a round, with the weights at its start, for all its epochs."""

    def prepare(
        self,
        policy: LanguageModel,
        reference: RunningReference,
        examples: Sequence[Any],
        memory: Numbers,
        budget: int,
    ) -> tuple[Mapping[str, Tensor], Numbers, Numbers]:
        """Tensors about the examples, the memory for the next round, and metrics of this one.

        `memory` is that of the round before, `budget` bounds the tokens of one forward call. All are kept on disk.
        """
        ...

    def with_prepared(self, examples: Sequence[Any], tensors: Mapping[str, Tensor]) -> Sequence[Any]:
        """Examples with the tensors that `prepare` gave about them, in the form that the loss takes."""
        ...

    def token_values(self, examples: Sequence[Any]) -> Iterator[tuple[Rollout, Mapping[str, Sequence[float]]]]:
        """One response of every prepared example, with one number per token in every named row, for people."""
        ...
