"""A reward as an annotator: it prefers the response that it rates higher."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from uptake.annotators.base import Annotator, AnnotatorSpec
from uptake.errors import InputError
from uptake.rewards.base import Resources, Reward, RewardSpec
from uptake.types import Answered, Judgement, Prompt, Verdict


@dataclass(frozen=True)
class FromReward(Annotator):
    """Reward annotator: `P(a is better) = sigma((R_a - R_b) / temperature)`; without one 1, 0, or 1/2 on a tie.

    Swapping two responses turns p into exactly 1 - p. A verdict is invalid where either response could not be rated.
    Raises InputError for a temperature that is not above 0, and for a reward that compares more than two. The form is
    that of Bradley and Terry.
    """

    reward: Reward
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise InputError(f"{self.temperature}", field="temperature", allowed="a number above 0, or None")
        refuse_comparing(self.reward)

    @property
    def fingerprint(self) -> str:
        return f"FromReward({self.temperature}, {self.reward.fingerprint})"

    @property
    def columns(self) -> tuple[str, ...]:
        return self.reward.columns

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        responses = [Answered(prompt, text) for prompt, pair in zip(prompts, pairs, strict=True) for text in pair]
        judged = self.reward.rate(responses)
        return [self._verdict(*both) for both in zip(judged[::2], judged[1::2], strict=True)]

    def _verdict(self, first: Judgement, second: Judgement) -> Verdict:
        if not (first.valid and second.valid):
            missing = second if first.valid else first
            return Verdict(0.5, (0.5, 0.5), missing.reason, missing.detail)
        p = self._p(first.score - second.score)
        return Verdict(p, (p, p))

    def _p(self, margin: float) -> float:
        if margin < 0:
            return 1 - self._p(-margin)
        if self.temperature is None:
            return 1.0 if margin else 0.5
        return 1 / (1 + exp(-margin / self.temperature))


@dataclass(frozen=True)
class FromRewardSpec(AnnotatorSpec):
    """Reward annotator: settings of a reward, and the temperature that turns two of its numbers into a probability."""

    reward: RewardSpec
    temperature: float | None = None

    @property
    def uses(self) -> tuple[str, ...]:
        return self.reward.uses

    def build(self, resources: Resources) -> Annotator:
        policy = resources.policy
        for name in self.uses if policy is not None else ():
            if policy is not None and resources.model(name).base is policy.base:
                problem = "the annotator is the policy that learns: what it prefers would move with it"
                raise InputError(problem, field="judge", allowed=f"another model, --model {name}=PATH; a copy will do")
        return FromReward(self.reward.build(resources), self.temperature)


def refuse_comparing(reward: Reward) -> None:
    """Raise InputError for a reward whose scores depend on the other responses to the same prompt."""
    if reward.compares:
        problem = "a reward of one response cannot depend on the others"
        raise InputError(problem, field="standardize", allowed="none; or all responses to a prompt in one call")
