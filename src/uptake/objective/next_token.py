"""Maximum likelihood of the scored tokens of a tree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp

from uptake.models import LanguageModel, TokenTree, pack, token_logps
from uptake.objective.base import Loss, Objective
from uptake.reference import RunningReference


@dataclass(frozen=True)
class NextToken(Objective):
    """Cross-entropy of the scored tokens of a tree, averaged over all scored tokens of a step (maximum likelihood).

    The metric `perplexity` is its exponential.
    """

    def tree(self, example: TokenTree) -> TokenTree:
        return example

    def size(self, example: TokenTree) -> float:
        scored = sum(len(node.ids) for node in example.nodes if node.scored)
        # The first token of the root has nothing to be predicted from.
        return float(scored - example.nodes[0].scored)

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[TokenTree]) -> Loss:
        logps = token_logps(policy, pack(examples, lean=True))
        return Loss(-logps.sum(), {"loss": -logps.detach().sum()})

    def derived(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        # Numbers have no room for the exponential of more than 709.
        return {"perplexity": exp(min(metrics["loss"], 700.0))}
