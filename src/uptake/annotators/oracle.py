"""The town's oracle as an annotator, as good or as bad as an experiment wants it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from math import exp
from typing import ClassVar

from uptake.annotators.base import Annotator, AnnotatorSpec
from uptake.annotators.order import OrderAverage, average_orders
from uptake.errors import InputError
from uptake.rewards.base import Resources
from uptake.town import Town
from uptake.types import Prompt, Turn, Verdict


@dataclass(frozen=True)
class OracleAnnotator(Annotator, AnnotatorSpec):
    """Oracle annotator: prefers quality, by `logit P(first shown) = (q_1 - q_2) / temperature + position_bias`.

    `shorter` takes that much quality from a response for every word it has. `noise` is the share of pairs that it gets
    wrong way round, always the same ones. With `one_order` it is shown every pair once, as it
    should not be. Raises InputError for a setting out of its range.
    """

    town: int = 0
    temperature: float = 0.05
    noise: float = 0.0
    position_bias: float = 0.0
    shorter: float = 0.0
    order_average: OrderAverage = "prob"
    one_order: bool = False

    both_orders: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"{self.temperature}", field="temperature", allowed="a number above 0")
        if not 0 <= self.noise <= 1:
            raise InputError(f"{self.noise}", field="noise", allowed="a number from 0 to 1")
        average_orders(0.5, 0.5, self.order_average)

    def build(self, resources: Resources) -> "OracleAnnotator":
        return self

    @property
    def fingerprint(self) -> str:
        return repr(self)

    @cached_property
    def _town(self) -> Town:
        return Town(self.town)

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        return [self._verdict(prompt, *pair) for prompt, pair in zip(prompts, pairs, strict=True)]

    def _verdict(self, prompt: Prompt, first: str, second: str) -> Verdict:
        contrast = (self._worth(prompt, first) - self._worth(prompt, second)) / self.temperature
        if self._mistaken(prompt, first, second):
            contrast = -contrast
        shown_first = _sigmoid(contrast + self.position_bias)
        by_order = shown_first, shown_first if self.one_order else _sigmoid(contrast - self.position_bias)
        return Verdict(average_orders(*by_order, self.order_average), by_order)

    def _worth(self, prompt: Prompt, response: str) -> float:
        quality = self._town.quality((*prompt.turns, Turn("assistant", response))).overall
        return quality - self.shorter * len(response.split())

    def _mistaken(self, prompt: Prompt, first: str, second: str) -> bool:
        """Whether this is one of the pairs it gets wrong; the same in both orders."""
        content = repr((prompt.key, *sorted((first, second))))
        return int.from_bytes(sha256(content.encode()).digest()[:7], "big") / 2**56 < self.noise


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))
