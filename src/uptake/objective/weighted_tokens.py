"""Maximum likelihood of responses that count more or less."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from uptake.models import LanguageModel, TokenTree, pack, token_logps
from uptake.objective.base import Loss, Objective
from uptake.objective.next_token import NextToken
from uptake.reference import RunningReference


class WeightedTree(NamedTuple):
    """A tree to imitate and how much it counts: `WeightedTree(branches((1, 7), (4, 2)), 1.5)`."""

    tree: TokenTree
    weight: float


@dataclass(frozen=True)
class WeightedTokens(Objective):
    """Cross-entropy of the scored tokens of trees, each tree by its weight, over all scored tokens of a step.

    With weights of 1 it is `NextToken`. The metric `effective_share` is `(sum w)^2 / (n sum w^2)` of the step's n
    trees: the share of them that would count as much if all counted alike.
    """

    def tree(self, example: WeightedTree) -> TokenTree:
        return example.tree

    def size(self, example: WeightedTree) -> float:
        return NextToken().size(example.tree)

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[WeightedTree]) -> Loss:
        packed = pack([example.tree for example in examples], lean=True)
        logps = token_logps(policy, packed)
        scored = [example.weight for example in examples for node in example.tree.nodes if node.scored]
        weights = logps.new_tensor(scored)[packed.owner.to(logps.device)]
        total = -(weights * logps).sum()
        return Loss(total, {"loss": total.detach(), "nll": -logps.detach().sum()})
