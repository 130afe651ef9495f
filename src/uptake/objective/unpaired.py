"""Unpaired preferences: single responses that are good or bad, against how far the policy has moved."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf

import torch

from uptake.losses.unpaired import UnpairedKernel
from uptake.models import LanguageModel, TokenTree, batches, branches, pack, token_logps
from uptake.objective.base import Loss, Objective
from uptake.reference import RunningReference
from uptake.types import Labeled


@dataclass(frozen=True)
class Unpaired(Objective):
    """Unpaired loss: a kernel on the log-ratio of a good or bad response, against how far the policy has moved at all.

    That is the reference point, one number for the whole batch of an optimizer step and without gradient: the mean
    log-ratio of every prompt with a response to another one, or 0 where this is negative. The other response is the
    nearest before it in the batch, cyclically, that answers another prompt and fits the model's window; a prompt
    without one does not count. Costs two forward calls over the batch beside the training.
    Source: Ethayarajh et al. 2024 (arXiv 2402.01306).
    """

    kernel: UnpairedKernel

    def tree(self, example: Labeled) -> TokenTree:
        return branches(example.prompt_ids, example.response_ids)

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
        return _UnpairedBatch(self, max(0.0, total / max(1, len(trees))), good / len(examples))

    def cautions(self, batches: Sequence[Sequence[Labeled]]) -> Sequence[str]:
        lines = []
        labels = {example.good for batch in batches for example in batch}
        if len(labels) == 1:
            kind, way = ("good", "likelier") if labels == {True} else ("bad", "less likely")
            lines.append(f"every response is {kind}: all become {way}, and nothing says what sets them apart")
        alone = sum(len({tuple(example.prompt_ids) for example in batch}) == 1 for batch in batches)
        if alone:
            lines.append(
                f"{alone} of {len(batches)} batches hold one prompt only, so that their reference point is 0: "
                "take a larger batch_size, or rows with more prompts"
            )
        return lines

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Labeled]) -> Loss:
        """The loss of a whole batch at once."""
        return self.for_batch(policy, reference, examples, sys.maxsize)(policy, reference, examples)


@dataclass(frozen=True)
class _UnpairedBatch(Objective):
    """`Unpaired` once the batch is known: its reference point, and its share of good examples for means of either."""

    whole: Unpaired
    point: float
    good: float

    def tree(self, example: Labeled) -> TokenTree:
        return self.whole.tree(example)

    def size(self, example: Labeled) -> float:
        return self.whole.size(example)

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Labeled]) -> Loss:
        packed = pack([self.tree(example) for example in examples], lean=True)
        ratios = packed.node_sums(token_logps(policy, packed) - reference.token_logps(packed))
        good = torch.tensor([example.good for example in examples], device=ratios.device)
        losses = self.whole.kernel(ratios, good, self.point)
        rewards, ahead = self.whole.kernel.beta * ratios.detach(), ratios.detach() - self.point
        metrics = {
            "loss": losses.detach().sum(),
            "accuracy": ((ahead > 0) == good)[ahead != 0].sum() + 0.5 * (ahead == 0).sum(),
            "reference_point": ratios.new_tensor(self.point * len(examples)),
        }
        if self.good > 0:
            metrics["good_reward"] = rewards[good].sum() / self.good
        if self.good < 1:
            metrics["bad_reward"] = rewards[~good].sum() / (1 - self.good)
        return Loss(losses.sum(), metrics)


def mismatched(examples: Sequence[Labeled], window: float = inf) -> list[TokenTree]:
    """The prompt of every example with the response of the nearest example before it, cyclically, to another prompt."""
    trees = []
    for index, example in enumerate(examples):
        for other in chain(reversed(examples[:index]), reversed(examples[index + 1 :])):
            fits = len(example.prompt_ids) + len(other.response_ids) <= window
            if fits and other.prompt_ids != example.prompt_ids:
                trees.append(branches(example.prompt_ids, other.response_ids))
                break
    return trees
