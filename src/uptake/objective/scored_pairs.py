"""Preference pairs under a score head: the objective of a reward model."""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.losses.scalar import ScoreKernel
from uptake.models import LanguageModel, TokenTree, branches, pack
from uptake.models.heads import node_last, token_values
from uptake.objective.base import Loss, Objective
from uptake.reference import RunningReference
from uptake.types import Pair


@dataclass(frozen=True)
class ScoredPairs(Objective):
    """A kernel on the scores of chosen and rejected, both under one prompt in one tree.

    The score of a response is what the policy's head says at its last token, the end of the turn, having read prompt
    and response. Needs no reference.
    """

    kernel: ScoreKernel
    head: str = "score"

    def tree(self, example: Pair) -> TokenTree:
        return branches(example.prompt_ids, example.chosen_ids, example.rejected_ids)

    def size(self, example: Pair) -> float:
        return 1.0

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Pair]) -> Loss:
        packed = pack([self.tree(example) for example in examples])
        scores = node_last(packed, token_values(policy, packed, self.head))
        chosen, rejected = scores.view(-1, 2).unbind(1)
        margins = scores.new_tensor([example.margin for example in examples])
        losses = self.kernel(chosen, rejected, margins, scores.new_tensor([example.p for example in examples]))
        margin = chosen - rejected
        metrics = {
            "loss": losses.sum(),
            "margin": margin.sum(),
            "accuracy": (margin > 0).sum() + 0.5 * (margin == 0).sum(),
            "chosen_reward": chosen.sum(),
            "rejected_reward": rejected.sum(),
            "mean_reward": (chosen + rejected).sum() / 2,
        }
        return Loss(losses.sum(), {name: value.detach() for name, value in metrics.items()})
