"""Preference pairs some of whose labels are doubted: those that the policy itself sees the other way round."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.models import LanguageModel, Packed, TokenTree, pack
from uptake.models.scorer import logits, packed_states, project
from uptake.objective.base import Loss, Objective
from uptake.objective.pairs import Pairs
from uptake.reference import RunningReference
from uptake.reference.remembering import RememberingModel
from uptake.types import Pair

# Logits of a mixture held at once, in floats, for each of the two models.
CHUNK = 1 << 22


@dataclass(frozen=True)
class NoisyPairs(Objective):
    """The loss of `pairs` whose least certain labels are smoothed: conservative DPO with a rate for every pair.

    A pair is doubted where its margin under the mixture `softmax(mix * policy + (1 - mix) * reference)` of logits, less
    the reference, is at most the threshold under which a share `doubted` of recent pairs lies; its label is then `1 -
    smoothing`. Beyond 1, `mix` shows where the policy is going: a policy that learns noise fits it last. Nothing is
    doubted in the first share `settle` of the steps. Needs a reference that remembers (`Remembering`). Source: Kim et
    al. 2024 (arXiv 2406.04412), and the released code, whose form with two weights is this one.
    """

    pairs: Pairs
    smoothing: float = 0.1
    doubted: float = 0.1
    mix: float = 1.5
    settle: float = 0.2
    threshold: float = -inf

    def tree(self, example: Pair) -> TokenTree:
        return self.pairs.tree(example)

    def size(self, example: Pair) -> float:
        return self.pairs.size(example)

    def at(self, done: float) -> "NoisyPairs":
        return replace(self, smoothing=0.0) if done < self.settle else self

    def for_batch(
        self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Pair], budget: int
    ) -> "NoisyPairs":
        return replace(self, threshold=cast(RememberingModel, reference).threshold(self.doubted))

    def __call__(self, policy: LanguageModel, reference: RunningReference, examples: Sequence[Pair]) -> Loss:
        memory = cast(RememberingModel, reference)
        packed = pack([self.tree(example) for example in examples], lean=True)
        states = packed_states(policy, packed)
        policy_logps = project(policy, states, packed)
        with torch.no_grad():
            ref_states = packed_states(memory.lm, packed)
            ref_logps = project(memory.lm, ref_states, packed)
            mixed = self._mixture((policy, memory.lm), (states, ref_states), packed) if self.mix != 1 else policy_logps
            sides = packed.node_sums(mixed - ref_logps).view(-1, 2)
            margins = self.pairs.kernel.beta * (sides[:, 0] - sides[:, 1])
        doubted = margins <= self.threshold
        memory.remember(margins)
        labels = [
            example.p * (1 - self.smoothing) + (1 - example.p) * self.smoothing if doubt else example.p
            for example, doubt in zip(examples, doubted.tolist(), strict=True)
        ]
        figures = {"doubted": doubted.sum(), "mixed_margin": margins.sum()}
        return self.pairs.loss(labels, packed, policy_logps, packed.node_sums(policy_logps - ref_logps), figures)

    def _mixture(
        self, models: tuple[LanguageModel, LanguageModel], states: tuple[Tensor, Tensor], packed: Packed
    ) -> Float[Tensor, " wanted"]:
        """Log-probabilities of the wanted tokens under the mixture of both models' logits."""
        device = states[0].device
        sources, rows, targets = (each.to(device) for each in (packed.sources, packed.target_source, packed.targets))
        out = states[0].new_empty(len(targets), dtype=torch.float32)
        step = max(1, CHUNK // models[0].vocabulary)
        for first in range(0, len(sources), step):
            here = sources[first : first + step]
            one, other = (logits(lm, each[here]) for lm, each in zip(models, states, strict=True))
            mine = (rows >= first) & (rows < first + step)
            found = (self.mix * one + (1 - self.mix) * other).log_softmax(-1)
            out[mine] = found[rows[mine] - first, targets[mine]].float()
        return out
