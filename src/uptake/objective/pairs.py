"""Preference pairs: a kernel on the margin between the log-ratios of two responses, and terms beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from uptake.losses.pairwise import PairKernel, soft_label
from uptake.models import LanguageModel, Packed, TokenTree, branches, pack, token_logps
from uptake.objective.base import Loss, Objective
from uptake.ops.axes import PerPair
from uptake.reference import RunningReference
from uptake.types import Pair


class PairTerm(Protocol):
    """Term beside the loss of a pair, of the log-ratio of a third response to the prompt, the pair's `aux_ids`."""

    def __call__(self, aux_ratio: PerPair, beta: float) -> tuple[PerPair, Mapping[str, Tensor]]:
        """What is added to the loss of every pair, and metrics as sums over pairs."""
        ...


@dataclass(frozen=True)
class Pairs(Objective):
    """A kernel on the margin between the log-ratios of chosen and rejected, both under one prompt in one tree.

    With `s` the log-probability of a response (summed, or its token mean where the kernel asks for it) the margin is
    `(s_policy - s_ref)(chosen) - (s_policy - s_ref)(rejected)`. Differs from a padded pair of rows in cost only: the
    prompt is computed once. The label `p` of a pair mixes the losses of both orders. The metric `log_ratio` is the mean
    of both responses' log-ratios: an estimate of the divergence from the reference where the policy has just sampled
    both, and of nothing where they are recorded. With an `extra` term every pair brings a third response, another
    branch of its tree. Assumes that all responses answer the same prompt ids. Gives no signal where the two are equal.
    Source: Rafailov et al. 2023 (arXiv 2305.18290), eq. 7.
    """

    kernel: PairKernel
    extra: PairTerm | None = None

    def tree(self, example: Pair) -> TokenTree:
        third = () if self.extra is None else (example.aux_ids,)
        return branches(example.prompt_ids, example.chosen_ids, example.rejected_ids, *third)

    def size(self, example: Pair) -> float:
        return 1.0

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Pair]) -> Loss:
        packed = pack([self.tree(example) for example in examples], lean=True)
        policy_logps = token_logps(policy, packed)
        ratios, figures = reference.log_ratios(packed, policy_logps)
        return self.loss([example.p for example in examples], packed, policy_logps, ratios, figures)

    def loss(
        self,
        labels: Sequence[float],
        packed: Packed,
        policy_logps: Float[Tensor, " wanted"],
        ratios: Float[Tensor, " nodes"],
        figures: Mapping[str, Tensor],
    ) -> Loss:
        """Loss of pairs with some labels from the log-ratios of their responses; `figures` join its metrics."""
        if self.kernel.normalize == "token_mean":
            ratios = ratios / packed.lengths.to(ratios.device)
        chosen, rejected, *aux = ratios.view(len(labels), -1).unbind(1)
        margin = chosen - rejected
        losses = soft_label(self.kernel, margin, margin.new_tensor(labels))
        beta = self.kernel.beta
        sums = packed.node_sums(policy_logps.detach()).view(len(labels), -1).sum(0)
        metrics = {
            "loss": losses.sum(),
            "margin": beta * margin.sum(),
            "accuracy": (margin > 0).sum() + 0.5 * (margin == 0).sum(),
            "chosen_reward": beta * chosen.sum(),
            "rejected_reward": beta * rejected.sum(),
            "chosen_logp": sums[0],
            "rejected_logp": sums[1],
            "log_ratio": (chosen + rejected).sum() / 2,
            **figures,
        }
        if self.extra is not None:
            added, more = self.extra(aux[0], beta)
            losses = losses + added
            metrics |= {"loss": losses.sum(), **more}
        return Loss(losses.sum(), {name: value.detach() for name, value in metrics.items()})
