"""An ensemble's loss: every member of the policy learns by itself from the same examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import pstdev
from typing import Final

from torch import Tensor

from uptake.models import LanguageModel, TokenTree
from uptake.models.ensemble import members, speaking
from uptake.objective.base import Loss, Numbers, Objective
from uptake.objective.pairs import Pairs
from uptake.reference import RunningReference
from uptake.types import Pair

# What is told of each member, and how far members are apart in it.
_TOLD: Final = ("loss", "margin", "accuracy")


@dataclass(frozen=True)
class EachMember(Objective):
    """The loss of pairs under every member of an ensemble, added up, so that each moves as if it were alone.

    Metrics are means over members; loss, margin and accuracy also stand by member ("loss_member_0"), with their
    standard deviation over members ("loss_spread"). Holds the activations of all members until the backward pass.
    """

    objective: Pairs

    def tree(self, example: Pair) -> TokenTree:
        return self.objective.tree(example)

    def size(self, example: Pair) -> float:
        return self.objective.size(example)

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Pair]) -> Loss:
        found: list[Loss] = []
        for name in members(policy):
            with speaking(policy, name):
                found.append(self.objective(policy, reference, examples))
        count = len(found)
        metrics: dict[str, Tensor] = {
            name: sum((each.metrics[name] for each in found[1:]), found[0].metrics[name]) / count
            for name in found[0].metrics
        }
        metrics |= {f"{name}_member_{index}": each.metrics[name] for name in _TOLD for index, each in enumerate(found)}
        return Loss(sum((each.total for each in found[1:]), found[0].total), metrics)

    def derived(self, metrics: Numbers) -> Numbers:
        return {f"{name}_spread": pstdev(_of_members(metrics, name)) for name in _TOLD}


def _of_members(metrics: Mapping[str, float], name: str) -> list[float]:
    return [value for key, value in metrics.items() if key.startswith(f"{name}_member_")]
