"""The reward that an aligned model carries in itself: how much likelier it finds a response than its reference does."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from uptake.errors import InputError
from uptake.models import LanguageModel
from uptake.rewards.likelihood import DirectLikelihood
from uptake.types import Dialogue, Judgement


@dataclass(frozen=True, eq=False)
class ImplicitReward:
    """Rates a response by `beta * (log pi(y) - log pi_ref(y))`, summed over its tokens with the end of the turn.

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

    def __call__(self, dialogues: Sequence[Dialogue]) -> Sequence[Judgement]:
        policy, reference = (side(dialogues) for side in self._sides)
        return [self._judge(*both) for both in zip(policy, reference, strict=True)]

    def _judge(self, policy: Judgement, reference: Judgement) -> Judgement:
        if not (policy.valid and reference.valid):
            return Judgement(0.0, valid=False, reason=policy.reason or reference.reason)
        return Judgement(self.beta * (policy.score - reference.score))
