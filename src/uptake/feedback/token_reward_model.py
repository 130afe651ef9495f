"""A token reward model as a reward of dialogues: what it says of the tokens of a response, added up or averaged."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Literal, Self, final, get_args

from uptake.data.cache import content_key
from uptake.data.chat import ChatFormat
from uptake.data.response_tokens import ResponseTokens, response_tokens
from uptake.data.token_view import join
from uptake.errors import InputError, ModelError
from uptake.feedback.fingerprint import fingerprint
from uptake.feedback.rate import rate_each
from uptake.feedback.token_reward import Rewards, load_token_reward, rewards_of_ids
from uptake.models import LanguageModel
from uptake.types import Dialogue, Judgement, Span

Aggregate = Literal["sum", "mean"]


@final
@dataclass(frozen=True, eq=False)
class TokenRewardModel:
    """Rates a response by what a token reward model gives its tokens, the end of the turn among them.

    The score is the sum of these rewards (default), which is what a policy is paid for the response, or their mean,
    which does not grow with its length. They are the judgement's `tokens`, in the reward model's own tokens. The oldest
    turns go where the model's window is too small. Raises InputError for an unknown `aggregate`. A call raises
    ModelError where the model gives a value that is not finite or its chat template ends no turn.
    """

    lm: LanguageModel
    chat: ChatFormat
    aggregate: Aggregate = "sum"

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

    def __call__(self, dialogues: Sequence[Dialogue]) -> Sequence[Judgement]:
        return rate_each(dialogues, self.tokens, self._judge)

    def tokens(self, turns: Dialogue) -> ResponseTokens:
        """What the model reads of a dialogue that ends with a response; InputError where that does not fit."""
        if self.lm.window is not None:
            turns, _ = self.chat.fit(turns, self.lm.window)
        return response_tokens(self.chat, turns[:-1], turns[-1].content)

    def spans(self, turns: Dialogue, judgement: Judgement) -> list[Span]:
        """The token rewards of a judgement of this dialogue on the characters of its response, with the same sum.

        They do not overlap: tokens that share a character are one span. The end of the turn is empty, at the end.
        """
        offsets, size = self.tokens(turns).offsets, len(turns[-1].content)
        found: dict[tuple[int, int], float] = {}
        for token, value in zip(join(offsets, [""] * len(offsets), size), judgement.tokens, strict=True):
            found[token.start, token.end] = found.get((token.start, token.end), 0.0) + value
        return [Span(*place, value) for place, value in found.items()]

    def _judge(self, asked: Sequence[ResponseTokens]) -> list[Judgement]:
        found = rewards_of_ids(self.lm, [(each.prompt_ids, each.ids) for each in asked])
        return [self._judgement(values) for values in found]

    def _judgement(self, values: Rewards) -> Judgement:
        if isinstance(values, str):
            return Judgement(0.0, valid=False, reason=values)
        if not all(map(isfinite, values)):
            raise ModelError(f"{self.lm.name} gives a value that is not finite for a response")
        return Judgement(sum(values) / (len(values) if self.aggregate == "mean" else 1), tokens=values)
