"""A reward as an annotator: it prefers the response that it rates higher."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from uptake.errors import InputError
from uptake.rewards.base import Reward
from uptake.types import Dialogue, Judgement, Prompt, Turn, Verdict


@dataclass(frozen=True)
class FromReward:
    """Prefers by `P(a is better) = sigma((R_a - R_b) / temperature)`; without a temperature, 1, 0, or 1/2 on a tie.

    Swapping two responses turns p into exactly 1 - p. A verdict is invalid where either response could not be rated.
    Raises InputError for a temperature that is not above 0. The form is that of Bradley and Terry.
    """

    reward: Reward
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise InputError(f"{self.temperature}", field="temperature", allowed="a number above 0, or None")

    @property
    def fingerprint(self) -> str:
        return f"FromReward({self.temperature}, {self.reward.fingerprint})"

    def __call__(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        asked: list[Dialogue] = [
            (*prompt.turns, Turn("assistant", text))
            for prompt, pair in zip(prompts, pairs, strict=True)
            for text in pair
        ]
        judged = self.reward(asked)
        return [self._verdict(*both) for both in zip(judged[::2], judged[1::2], strict=True)]

    def _verdict(self, first: Judgement, second: Judgement) -> Verdict:
        if not (first.valid and second.valid):
            return Verdict(0.5, (0.5, 0.5), valid=False, reason=first.reason or second.reason)
        p = self._p(first.score - second.score)
        return Verdict(p, (p, p))

    def _p(self, margin: float) -> float:
        if margin < 0:
            return 1 - self._p(-margin)
        if self.temperature is None:
            return 1.0 if margin else 0.5
        return 1 / (1 + exp(-margin / self.temperature))
