"""Preference pairs: a kernel on the margin between the log-ratios of two responses."""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.losses.pairwise import PairKernel, soft_label
from uptake.models import LanguageModel, TokenTree, branches, pack, token_logps
from uptake.objective.base import Loss, Objective
from uptake.reference import RunningReference
from uptake.types import Pair


@dataclass(frozen=True)
class Pairs(Objective):
    """A kernel on the margin between the log-ratios of chosen and rejected, both under one prompt in one tree.

    With `s` the log-probability of a response (summed, or its token mean where the kernel asks for it) the margin is
    `(s_policy - s_ref)(chosen) - (s_policy - s_ref)(rejected)`. Differs from a padded pair of rows in cost only: the
    prompt is computed once. The label `p` of a pair mixes the losses of both orders. The metric `log_ratio` is the mean
    of both responses' log-ratios: an estimate of the divergence from the reference where the policy has just sampled
    both, and of nothing where they are recorded. Assumes both responses answer the same prompt ids. Gives no signal
    where the two are equal.
    Source: Rafailov et al. 2023 (arXiv 2305.18290), eq. 7.
    """

    kernel: PairKernel

    def tree(self, example: Pair) -> TokenTree:
        return branches(example.prompt_ids, example.chosen_ids, example.rejected_ids)

    def size(self, example: Pair) -> float:
        return 1.0

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Pair]) -> Loss:
        packed = pack([self.tree(example) for example in examples], lean=True)
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
            "log_ratio": (chosen + rejected).sum() / 2,
        }
        return Loss(losses.sum(), {name: value.detach() for name, value in metrics.items()})
