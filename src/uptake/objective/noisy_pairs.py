"""Preference pairs some of whose labels are doubted: those that the policy itself sees the other way round."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import cast, final

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
        if self.mix == 1:
            policy_logps = project(policy, states, packed)
            ref_logps, mixed = memory.token_logps(packed), policy_logps.detach()
        else:
            mixture = Mixture(memory.lm, packed, self.mix)
            policy_logps = project(policy, states, packed, watch=mixture)
            ref_logps, mixed = mixture.ref_logps, mixture.mixed
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


@final
class Mixture:
    """Log-probabilities of the wanted tokens under a reference, and under the mixture of its logits with a policy's.

    Both are there once the logits of all chunks of the policy have been seen; each chunk counts the first time.
    """

    def __init__(self, lm: LanguageModel, packed: Packed, mix: float) -> None:
        self._lm, self._mix = lm, mix
        with torch.no_grad():
            states = packed_states(lm, packed)
        self._states = states.index_select(0, packed.sources.to(states.device))
        self._rows, self._targets = (each.to(states.device) for each in (packed.target_source, packed.targets))
        self._seen: set[int] = set()
        dtype = torch.promote_types(states.dtype, torch.float32)
        self.ref_logps, self.mixed = states.new_empty(2, len(packed.targets), dtype=dtype)

    def __call__(self, first: int, policy_logits: Float[Tensor, "rows vocabulary"]) -> None:
        if first in self._seen:
            return
        self._seen.add(first)
        here = torch.nonzero((self._rows >= first) & (self._rows < first + len(policy_logits)))[:, 0]
        rows, targets = self._rows[here] - first, self._targets[here]
        with torch.no_grad():
            found = logits(self._lm, self._states[first : first + len(policy_logits)])
            self.ref_logps[here] = found.log_softmax(-1)[rows, targets]
            mixed = found.mul_(1 - self._mix).add_(policy_logits, alpha=self._mix)
            self.mixed[here] = mixed.log_softmax(-1)[rows, targets]
