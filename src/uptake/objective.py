"""Objectives: bind a pure loss kernel to the scorer and the reference, example by example."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import exp, inf
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.losses.pairwise import PairKernel, soft_label
from uptake.losses.scalar import ScoreKernel
from uptake.losses.unpaired import UnpairedKernel
from uptake.models import LanguageModel, TokenTree, batches, branches, pack, token_logps
from uptake.models.heads import node_last, token_values
from uptake.reference import RunningReference
from uptake.types import Labeled, Pair


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


@runtime_checkable
class Derives(Protocol):
    """An objective with metrics that are no means over examples, but follow from those of the whole step."""

    def derived(self, metrics: Mapping[str, float]) -> Mapping[str, float]: ...


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
            "kl": (chosen + rejected).sum() / 2,
        }
        return Loss(losses.sum(), {name: value.detach() for name, value in metrics.items()})


@dataclass(frozen=True)
class NextToken:
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


@dataclass(frozen=True)
class ScoredPairs:
    """A kernel on the scores of chosen and rejected, both under one prompt in one tree.

    The score of a response is what the policy's head says at its last token, the end of the turn, having read prompt
    and response. Needs no reference.
    """

    kernel: ScoreKernel
    head: str = "score"

    def tree(self, example: Pair) -> TokenTree:
        return branches(example.chosen.prompt_ids, example.chosen.response_ids, example.rejected.response_ids)

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


@dataclass(frozen=True)
class Unpaired:
    """A kernel on the log-ratio of single responses that are good or bad, against how far the policy has moved at all.

    That is an estimate of the divergence from the reference, one number for the whole batch of an optimizer step and
    without gradient: the mean log-ratio of every prompt with a response to another one, or 0 where this is negative.
    The other response is the nearest before it in the batch, cyclically, that answers another prompt and fits the
    model's window; a prompt without one does not count. Costs two forward calls over the batch beside the training.
    Source: Ethayarajh et al. 2024 (arXiv 2402.01306).
    """

    kernel: UnpairedKernel

    def tree(self, example: Labeled) -> TokenTree:
        return branches(example.rollout.prompt_ids, example.rollout.response_ids)

    def size(self, example: Labeled) -> float:
        return 1.0

    def for_batch(
        self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Labeled], budget: int
    ) -> Objective:
        trees = mismatched(examples, policy.window or inf)
        total = 0.0
        with torch.no_grad():
            for _, packed in batches(trees, budget):
                total += float((token_logps(policy, packed) - reference.token_logps(packed)).sum())
        good = sum(example.good for example in examples)
        return _UnpairedFrom(self, max(0.0, total / max(1, len(trees))), good / len(examples))

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Labeled]) -> Loss:
        """The loss of a whole batch at once."""
        return self.for_batch(policy, reference, examples, sys.maxsize)(policy, reference, examples)


@dataclass(frozen=True)
class _UnpairedFrom:
    """`Unpaired` once the batch is known: its divergence, and its share of good examples, for means of either kind."""

    whole: Unpaired
    divergence: float
    good: float

    def tree(self, example: Labeled) -> TokenTree:
        return self.whole.tree(example)

    def size(self, example: Labeled) -> float:
        return self.whole.size(example)

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Labeled]) -> Loss:
        packed = pack([self.tree(example) for example in examples], lean=True)
        ratios = packed.node_sums(token_logps(policy, packed) - reference.token_logps(packed))
        good = torch.tensor([example.good for example in examples], device=ratios.device)
        losses = self.whole.kernel(ratios, good, self.divergence)
        rewards, ahead = self.whole.kernel.beta * ratios.detach(), ratios.detach() - self.divergence
        metrics = {
            "loss": losses.detach().sum(),
            "accuracy": ((ahead > 0) == good)[ahead != 0].sum() + 0.5 * (ahead == 0).sum(),
            "kl": ratios.new_tensor(self.divergence * len(examples)),
        }
        if self.good > 0:
            metrics["good_reward"] = rewards[good].sum() / self.good
        if self.good < 1:
            metrics["bad_reward"] = rewards[~good].sum() / (1 - self.good)
        return Loss(losses.sum(), metrics)


def mismatched(examples: Sequence[Labeled], window: float = inf) -> list[TokenTree]:
    """The prompt of every example with the response of the nearest example before it, cyclically, to another prompt."""
    rollouts = [example.rollout for example in examples]
    trees = []
    for index, rollout in enumerate(rollouts):
        for other in chain(reversed(rollouts[:index]), reversed(rollouts[index + 1 :])):
            fits = len(rollout.prompt_ids) + len(other.response_ids) <= window
            if fits and other.prompt_ids != rollout.prompt_ids:
                trees.append(branches(rollout.prompt_ids, other.response_ids))
                break
    return trees
