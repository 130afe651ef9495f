"""A weighted sum of rewards: several rewards at once, and what each of them contributes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import ClassVar, Literal

from uptake.errors import InputError
from uptake.rewards.base import Detail, Resources, Response, Reward, RewardDetails, RewardSpec
from uptake.types import Judgement, Rollout, Span


@dataclass(frozen=True)
class WeightedSum(Reward):
    """Weighted sum of rewards: `sum_i w_i r_i`, with every `w_i r_i` as a part of the judgement.

    Where every part rates tokens, so does the sum: the judgement of a `Rollout` has the weighted sums of its token
    rewards, and the spans of a response are those of all parts, weighted. A response that one part cannot rate is
    invalid, with the reason of the first that cannot. Weights are taken as they are and not normalized.
    """

    rewards: Mapping[str, Reward]
    weights: Mapping[str, float]

    parts: ClassVar[Literal["by_category", "by_reward"] | None] = "by_reward"

    @property
    def fingerprint(self) -> str:
        terms = (f"{self.weights[name]!r} {name} {reward.fingerprint}" for name, reward in self.rewards.items())
        return f"WeightedSum({', '.join(terms)})"

    @property
    def offers(self) -> frozenset[Detail]:
        return _shared_offers([*self.rewards.values()])

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for reward in self.rewards.values() for name in reward.columns))

    @property
    def compares(self) -> bool:
        return any(reward.compares for reward in self.rewards.values())

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return [each.judgement for each in self.details(responses)]

    def details(self, responses: Sequence[Response]) -> Sequence[RewardDetails]:
        columns = [reward.details(responses) for reward in self.rewards.values()]
        return [self._summed(*each) for each in zip(responses, zip(*columns, strict=True), strict=True)]

    def _summed(self, response: Response, terms: Sequence[RewardDetails]) -> RewardDetails:
        for term in terms:
            if not term.judgement.valid:
                return RewardDetails(term.judgement)
        weights = list(self.weights.values())
        scores = [weight * term.judgement.score for weight, term in zip(weights, terms, strict=True)]
        judgement = Judgement(sum(scores), parts=dict(zip(self.rewards, scores, strict=True)))
        dropped = [term.dropped_turns for term in terms if term.dropped_turns is not None]
        spans: tuple[Span, ...] = ()
        if "tokens" in self.offers:
            # The parts may cut a text into other tokens than each other; of sampled ids there is one way.
            tokens = _tokens(weights, terms) if isinstance(response, Rollout) else ()
            judgement = replace(judgement, tokens=tokens)
            spans = tuple(
                replace(span, score=weight * span.score)
                for weight, term in zip(weights, terms, strict=True)
                for span in term.spans
            )
        return RewardDetails(judgement, spans, dropped_turns=max(dropped, default=None))


@dataclass(frozen=True)
class WeightedReward:
    """A reward in a sum, with its weight: `WeightedReward("length", Length(), 0.1)`."""

    name: str
    reward: RewardSpec
    weight: float

    def __post_init__(self) -> None:
        if not isfinite(self.weight):
            raise InputError(f"{self.weight}", field="weight", allowed="a finite number")


@dataclass(frozen=True)
class SumSpec(RewardSpec):
    """Weighted sum of rewards; raises InputError where there are none, and where two have one name."""

    terms: tuple[WeightedReward, ...]

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if not names or len(names) != len(set(names)):
            raise InputError(f"{names}", field="sum", allowed="one reward at least, each with a name of its own")

    @property
    def uses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for term in self.terms for name in term.reward.uses))

    @property
    def offers(self) -> frozenset[Detail]:
        return _shared_offers([term.reward for term in self.terms])

    def build(self, resources: Resources) -> Reward:
        return WeightedSum(
            {term.name: term.reward.build(resources) for term in self.terms},
            {term.name: term.weight for term in self.terms},
        )


def _shared_offers(rewards: Sequence[Reward] | Sequence[RewardSpec]) -> frozenset[Detail]:
    """Tokens, where every part rates them."""
    return frozenset({"tokens"}) if all("tokens" in reward.offers for reward in rewards) else frozenset()


def _tokens(weights: Sequence[float], terms: Sequence[RewardDetails]) -> tuple[float, ...]:
    columns = zip(*(term.judgement.tokens for term in terms), strict=True)
    return tuple(sum(w * value for w, value in zip(weights, column, strict=True)) for column in columns)
