"""The reward that an aligned model carries in itself: how much likelier it finds a response than its reference does."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from uptake.errors import InputError
from uptake.models import LanguageModel
from uptake.rewards.base import Resources, Response, Reward, RewardDetails, RewardSpec
from uptake.rewards.likelihood import DirectLikelihood
from uptake.types import Judgement


@dataclass(frozen=True, eq=False)
class ImplicitReward(Reward):
    """Implicit reward of a response: `beta * (log pi(y) - log pi_ref(y))`, over its tokens with the end of the turn.

    Assumes that the model was aligned against this reference; its rewards of one prompt then differ as those it was
    aligned to. Raises InputError unless beta is above 0. Source: Rafailov et al. 2023 (arXiv 2305.18290), eq. 5.
    """

    policy: LanguageModel
    reference: LanguageModel
    beta: float = 0.1

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise InputError(f"{self.beta}", field="beta", allowed="a number above 0")

    @cached_property
    def _sides(self) -> tuple[DirectLikelihood, DirectLikelihood]:
        policy, reference = (
            DirectLikelihood.from_pretrained(lm, reduction="sum") for lm in (self.policy, self.reference)
        )
        return policy, reference

    @cached_property
    def fingerprint(self) -> str:
        policy, reference = self._sides
        return f"ImplicitReward({self.beta}, {policy.fingerprint}, {reference.fingerprint})"

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return [each.judgement for each in self.details(responses)]

    def details(self, responses: Sequence[Response]) -> Sequence[RewardDetails]:
        policy, reference = (side.details(responses) for side in self._sides)
        return [self._both(*both) for both in zip(policy, reference, strict=True)]

    def _both(self, policy: RewardDetails, reference: RewardDetails) -> RewardDetails:
        judgement = self._judge(policy.judgement, reference.judgement)
        if not judgement.valid:
            return RewardDetails(judgement)
        return RewardDetails(judgement, dropped_turns=max(policy.dropped_turns or 0, reference.dropped_turns or 0))

    def _judge(self, policy: Judgement, reference: Judgement) -> Judgement:
        if not (policy.valid and reference.valid):
            return policy if not policy.valid else reference
        return Judgement(self.beta * (policy.score - reference.score), parts=policy.parts)


@dataclass(frozen=True)
class ImplicitSpec(RewardSpec):
    """Implicit reward of the model called `model` against the one called `reference`; preferences gave it its scale."""

    beta: float = 0.1
    model: str = "judge"
    reference: str = "reference"

    temperature: ClassVar[float | None] = 1.0

    @property
    def uses(self) -> tuple[str, ...]:
        return self.model, self.reference

    def build(self, resources: Resources) -> Reward:
        return ImplicitReward(resources.model(self.model), resources.model(self.reference), self.beta)
