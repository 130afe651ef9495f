"""A token reward model as a reward: what it says of the tokens of a response, added up or averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import isfinite
from pathlib import Path
from typing import ClassVar, Literal, Self, final, get_args

from uptake.data.chat import ChatFormat
from uptake.data.response_tokens import ResponseTokens, response_tokens
from uptake.data.token_views import join
from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel
from uptake.rewards.base import (
    Detail,
    Resources,
    Response,
    Reward,
    RewardDetails,
    RewardSpec,
)
from uptake.rewards.fingerprint import fingerprint
from uptake.rewards.rate import dialogue_of, invalid, rate_fitted
from uptake.rewards.token_reward import TokenValues, load_token_reward, reward_tokens, rewards_of_ids
from uptake.support.keys import content_key
from uptake.types import Dialogue, Judgement, Rollout, Span, Where

Aggregate = Literal["sum", "mean"]


@final
@dataclass(frozen=True, eq=False)
class TokenRewardModel(Reward):
    """Token reward: rates a response by what a token reward model gives its tokens, the end of the turn among them.

    The score is the sum of these rewards (default), which is what a policy is paid for the response, or their mean,
    which does not grow with its length. They are the judgement's `tokens`: of a text in the reward model's own tokens,
    of a `Rollout` in the ids that the `policy` sampled, whose chat format that is. A model under the same tokenizer and
    template reads these very ids. Another one reads the text, and what it says of its tokens is spread over the
    policy's by overlap, so that the sum stays. The oldest turns of a text, or the beginning of a sampled prompt, go
    where the model's window is too small. A response without tokens, or longer than the window, is invalid. Raises
    InputError for an unknown `aggregate`. A call raises ModelError, naming the row, where the model gives a value that
    is not finite, and where its chat template ends no turn.
    """

    lm: LanguageModel
    chat: ChatFormat
    aggregate: Aggregate = "sum"
    policy: ChatFormat | None = None

    def __post_init__(self) -> None:
        if self.aggregate not in get_args(Aggregate):
            raise InputError(repr(self.aggregate), field="aggregate", allowed=", ".join(get_args(Aggregate)))

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, aggregate: Aggregate = "sum", device: str = "auto", dtype: str = "auto"
    ) -> Self:
        """The reward of a token classifier, a folder or Hub name, under its own chat template."""
        lm = load_token_reward(name, device=device, dtype=dtype)
        return cls(lm, ChatFormat.of(lm), aggregate)

    @cached_property
    def fingerprint(self) -> str:
        heads = {
            name: {key: weight.tolist() for key, weight in head.state_dict().items()}
            for name, head in self.lm.heads.items()
        }
        return fingerprint("TokenRewardModel", self.lm.model, self.chat, content_key(heads)[:16], self.aggregate)

    @property
    def offers(self) -> frozenset[Detail]:
        return frozenset({"tokens"})

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return [each.judgement for each in self._rated(responses)]

    def details(self, responses: Sequence[Response]) -> Sequence[RewardDetails]:
        return [
            replace(rated, spans=tuple(self.spans(dialogue_of(response), rated.judgement)))
            if rated.judgement.valid and not (self.policy and isinstance(response, Rollout))
            else rated
            for response, rated in zip(responses, self._rated(responses), strict=True)
        ]

    def _rated(self, responses: Sequence[Response]) -> list[RewardDetails]:
        """Details without spans, which take a second look at the texts."""
        chat, rollouts = self.policy, [each for each in responses if isinstance(each, Rollout)]
        if chat is None:
            return rate_fitted(responses, self._fitted, self._judge)
        values = zip(rollouts, reward_tokens(self.lm, chat, rollouts), strict=True)
        sampled = (RewardDetails(self._rollout_judgement(*each)) for each in values)
        texts = [each for each in responses if not isinstance(each, Rollout)]
        read = iter(rate_fitted(texts, self._fitted, self._judge))
        return [next(sampled if isinstance(each, Rollout) else read) for each in responses]

    def tokens(self, turns: Dialogue) -> ResponseTokens:
        """What the model reads of a dialogue that ends with a response; InputError where that does not fit."""
        return self._fitted(turns)[0]

    def _fitted(self, turns: Dialogue) -> tuple[ResponseTokens, int]:
        """The same, with how many of the oldest turns are left out."""
        dropped = 0
        if self.lm.window is not None:
            turns, dropped = self.chat.fit(turns, self.lm.window)
        return response_tokens(self.chat, turns[:-1], turns[-1]), dropped

    def spans(self, turns: Dialogue, judgement: Judgement) -> list[Span]:
        """The token rewards of a judgement of this dialogue on the characters of its response, with the same sum.

        They do not overlap: tokens that share a character are one span. The end of the turn is empty, at the end.
        """
        offsets, size = self.tokens(turns).offsets, len(turns[-1].content)
        found: dict[tuple[int, int], float] = {}
        for token, value in zip(join(offsets, [""] * len(offsets), size), judgement.tokens, strict=True):
            found[token.start, token.end] = found.get((token.start, token.end), 0.0) + value
        return [Span(*offset, value) for offset, value in found.items()]

    def _judge(self, responses: Sequence[ResponseTokens]) -> list[Judgement]:
        found = rewards_of_ids(self.lm, [(each.prompt_ids, each.ids) for each in responses])
        return [self._judgement(values) for values in found]

    def _rollout_judgement(self, rollout: Rollout, values: TokenValues) -> Judgement:
        row = rollout.prompt.where or f"prompt {rollout.prompt.key}"
        where = f"{row.path}:{row.line}" if isinstance(row, Where) else row
        return self._judgement(values, f"sample {rollout.sample} of {where}")

    def _judgement(self, values: TokenValues, named: str = "a response") -> Judgement:
        if isinstance(values, InputError):
            return invalid(values)
        if not all(map(isfinite, values)):
            raise ModelError(f"{self.lm.name} gives a value that is not finite for {named}")
        return Judgement(sum(values) / (len(values) if self.aggregate == "mean" else 1), tokens=values)


@dataclass(frozen=True)
class TokenRewardSpec(RewardSpec):
    """Token reward of the model at hand that is called `path`, or of the token classifier in that folder or on the Hub.

    These rewards were not learned from preferences, so they prefer with certainty.
    """

    path: str = "token_reward"
    aggregate: Aggregate = "sum"

    short: ClassVar[tuple[str, ...]] = ("path", "aggregate")

    @property
    def offers(self) -> frozenset[Detail]:
        return frozenset({"tokens"})

    def contents(self, resources: Resources) -> Mapping[str, str]:
        return {"path": self.build(resources).fingerprint}

    def build(self, resources: Resources) -> Reward:
        lm = resources.models.get(self.path) or _loaded(self.path, resources.device, resources.dtype)
        return TokenRewardModel(lm, ChatFormat.of(lm), self.aggregate, resources.chat)


@lru_cache(maxsize=2)
def _loaded(name: str, device: str, dtype: str) -> LanguageModel:
    """Loaded once for all rounds of a run."""
    return load_token_reward(name, device=device, dtype=dtype)
