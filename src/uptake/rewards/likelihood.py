"""Direct likelihood: a response is as good as it is likely. The baseline that follow-ups have to beat.

Source: the main baseline of arXiv 2409.13948. Fluent but wrong text wins by the mean, short text by the sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from uptake.data.chat import ChatFormat
from uptake.data.spans import Ids
from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel, branches, load, score_trees
from uptake.rewards.base import Resources, Response, Reward, RewardDetails, RewardSpec
from uptake.rewards.fingerprint import fingerprint
from uptake.rewards.rate import rate_fitted
from uptake.types import Dialogue, Judgement

# Tokens of one forward call, and dialogues among which responses to one prompt share it.
BUDGET = 8192
CHUNK = 16


@dataclass(frozen=True, eq=False)
class DirectLikelihood(Reward):
    """Likelihood reward: the log-probability of a response after its prompt, mean per token (default) or sum, in nats.

    The tokens are the response's own and the end-of-turn token that closes it, as in every loss of Uptake;
    `end_of_turn=False` leaves that one out. Raises InputError for an unknown `reduction`. A call raises ModelError
    where the model gives not-a-number or its chat template ends no turn.
    """

    lm: LanguageModel
    chat: ChatFormat
    reduction: Literal["mean", "sum"] = "mean"
    end_of_turn: bool = True

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum"):
            raise InputError(repr(self.reduction), field="reduction", allowed="mean, sum")

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | LanguageModel,
        *,
        reduction: Literal["mean", "sum"] = "mean",
        end_of_turn: bool = True,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Self:
        """The reward of a Transformers folder, a Hub name or a loaded model, under its own chat template."""
        lm = model if isinstance(model, LanguageModel) else load(model, device=device, dtype=dtype)
        return cls(lm, ChatFormat.of(lm), reduction, end_of_turn)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint("DirectLikelihood", self.lm.model, self.chat, self.reduction, self.end_of_turn)

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return [each.judgement for each in self.details(responses)]

    def details(self, responses: Sequence[Response]) -> Sequence[RewardDetails]:
        return rate_fitted(responses, self._ids, self._judge)

    def _ids(self, turns: Dialogue) -> tuple[tuple[Ids, Ids], int]:
        """Prompt and response; the oldest turns go where the window is too small, as many as are said beside."""
        dropped = 0
        if self.lm.window is not None:
            turns, dropped = self.chat.fit(turns, self.lm.window)
        prompt, response = self.chat.response_ids(turns[:-1], turns[-1])
        return (prompt, response if self.end_of_turn else response[:-1]), dropped

    def _judge(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[Judgement]:
        chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
        scored = [logps.double() for chunk in chunks for logps in self._logps(chunk)]
        totals = [float(logps.mean() if self.reduction == "mean" else logps.sum()) for logps in scored]
        return [Judgement(total) for total in totals]

    def _logps(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[Tensor]:
        """Log-probabilities of the tokens of every response; responses to one prompt are branches of one tree."""
        places: dict[Ids, list[int]] = {}
        for index, (prompt, _) in enumerate(pairs):
            places.setdefault(prompt, []).append(index)
        trees = [branches(prompt, *(pairs[index][1] for index in indices)) for prompt, indices in places.items()]
        found: list[Tensor] = [torch.empty(0)] * len(pairs)
        for indices, nodes in zip(places.values(), score_trees(self.lm, trees, BUDGET), strict=True):
            for index, logps in zip(indices, nodes, strict=True):
                found[index] = logps
        if not all(bool(logps.isfinite().all()) for logps in found):
            raise ModelError(f"{self.lm.name} gives not-a-number for a response")
        return found


@dataclass(frozen=True)
class DirectSpec(RewardSpec):
    """Likelihood reward of a response itself under the model called `model`."""

    reduction: Literal["mean", "sum"] = "mean"
    model: str = "judge"

    short: ClassVar[tuple[str, ...]] = ("reduction",)

    @property
    def uses(self) -> tuple[str, ...]:
        return (self.model,)

    def build(self, resources: Resources) -> Reward:
        return DirectLikelihood.from_pretrained(resources.model(self.model), reduction=self.reduction)
