"""Objectives: bind a pure loss kernel to the scorer and the reference, example by example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from uptake.losses.pairwise import PairKernel, soft_label
from uptake.models import LanguageModel, TokenTree, branches, pack, token_logps
from uptake.reference import RunningReference
from uptake.types import Pair


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


@dataclass(frozen=True)
class Pairs:
    """A kernel on the margin between the log-ratios of chosen and rejected, both under one prompt in one tree.

    With `s` the log-probability of a response (summed, or its token mean where the kernel asks for it) the margin is
    `(s_policy - s_ref)(chosen) - (s_policy - s_ref)(rejected)`. Differs from a padded pair of rows in cost only: the
    prompt is computed once. The label `p` of a pair mixes the losses of both orders. The metric `kl` is the mean
    log-ratio of both responses, an estimate of the divergence from the reference where the policy has just sampled
    them. Assumes both responses answer the same prompt ids. Gives no signal where the two are equal.
    Source: Rafailov et al. 2023 (arXiv 2305.18290), eq. 7.
    """

    kernel: PairKernel

    def tree(self, example: Pair) -> TokenTree:
        return branches(example.chosen.prompt_ids, example.chosen.response_ids, example.rejected.response_ids)

    def size(self, example: Pair) -> float:
        return 1.0

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Pair]) -> Loss:
        packed = pack([self.tree(example) for example in examples])
        policy_logps = token_logps(policy, packed)
        ref_logps = reference.token_logps(packed)
        ratios = packed.node_sums(policy_logps - ref_logps)
        if self.kernel.normalize == "token_mean":
            ratios = ratios / packed.lengths.to(ratios.device)
        chosen, rejected = ratios.view(-1, 2).unbind(1)
        margin = chosen - rejected
        losses = soft_label(self.kernel, margin, margin.new_tensor([example.p for example in examples]))
        beta = self.kernel.beta
        sums = packed.node_sums(policy_logps.detach()).view(-1, 2).sum(0)
        metrics = {
            "loss": losses.sum(),
            "margin": beta * margin.sum(),
            "accuracy": (margin > 0).sum() + 0.5 * (margin == 0).sum(),
            "chosen_reward": beta * chosen.sum(),
            "rejected_reward": beta * rejected.sum(),
            "chosen_logp": sums[0],
            "rejected_logp": sums[1],
            "kl": (chosen + rejected).sum() / 2,
        }
        return Loss(losses.sum(), {name: value.detach() for name, value in metrics.items()})


@dataclass(frozen=True)
class NextToken:
    """Cross-entropy of the scored tokens of a tree, averaged over all scored tokens of a step (maximum likelihood)."""

    def tree(self, example: TokenTree) -> TokenTree:
        return example

    def size(self, example: TokenTree) -> float:
        scored = sum(len(node.ids) for node in example.nodes if node.scored)
        # The first token of the root has nothing to be predicted from.
        return float(scored - example.nodes[0].scored)

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[TokenTree]) -> Loss:
        logps = token_logps(policy, pack(examples))
        return Loss(-logps.sum(), {"loss": -logps.detach().sum()})
