"""A reward of one's own: any Python function of a response, as the judge of a recipe."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from uptake.data.response_tokens import rollout_offsets
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.ops.spans import place_rewards
from uptake.types import Judgement, Rollout, Span
from uptake.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rewards:
    """What a function or a server says of a response: a number, one for every token, and marks on its text.

    Any of the three may be left out; values of tokens and marks add up.
    """

    score: float = 0.0
    tokens: Sequence[float] | None = None
    spans: Sequence[Span] = ()


@dataclass(frozen=True)
class FromFunction:
    """Asks `function` for every response: a number, or `Rewards`.

    `tokens` need one value for each of `rollout.response_ids`; `spans` are marks on `rollout.response`, in characters.
    An exception, a value that is not finite or a wrong number of values stops the run with the name of
    the row, and what was judged before stays in the run folder; with `on_error` "drop" the response is left out and
    counted. `name` is what a recipe prints, the function's own name where none is given: a resumed run has to have the
    same.
    """

    function: Callable[[Rollout], "float | Rewards"] = field(repr=False)
    on_error: Literal["stop", "drop"] = "stop"
    name: str = ""

    def __post_init__(self) -> None:
        if self.on_error not in ("stop", "drop"):
            raise InputError(repr(self.on_error), field="on_error", allowed="stop, drop")
        if not self.name:
            own = getattr(self.function, "__qualname__", type(self.function).__qualname__)
            object.__setattr__(self, "name", own)

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        return [self._judged(world, rollout) for rollout in rollouts]

    def _judged(self, world: World, rollout: Rollout) -> Judgement:
        try:
            said = self.function(rollout)
            rewards = said if isinstance(said, Rewards) else Rewards(float(said))
            return _judgement(world, rollout, rewards)
        except Exception as error:
            problem = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            if self.on_error == "drop":
                log.warning("%s, prompt %s: %s", self.name, rollout.prompt.key, problem)
                return Judgement(0.0, valid=False, reason=f"the reward failed: {type(error).__name__}")
            at = f"{self.name}, sample {rollout.sample} of prompt {rollout.prompt.key}: {problem}"
            raise bad_row(at, rollout.prompt.where, field="reward", allowed="finite numbers") from error


def _judgement(world: World, rollout: Rollout, rewards: Rewards) -> Judgement:
    count = len(rollout.response_ids)
    check_rewards(rewards, count, len(rollout.response))
    tokens = [0.0] * count if rewards.tokens is None else list(map(float, rewards.tokens))
    if rewards.spans:
        marks = place_rewards(rewards.spans, rollout_offsets(world.policy.tokenizer, rollout))
        tokens = [one + other for one, other in zip(tokens, marks.values, strict=True)]
    return Judgement(float(rewards.score), tokens=tuple(tokens))


def check_rewards(rewards: Rewards, tokens: int, characters: int) -> None:
    """Raise InputError where rewards do not fit a response of so many tokens and characters, or are not finite."""
    if rewards.tokens is not None and len(rewards.tokens) != tokens:
        raise InputError(f"{len(rewards.tokens)} values for {tokens} tokens", field="tokens", allowed="one a token")
    for span in rewards.spans:
        if not 0 <= span.start <= span.end <= characters:
            allowed = f"places from 0 to {characters}"
            raise InputError(f"span {span.start} to {span.end}", field="spans", allowed=allowed)
        if not isfinite(span.score):
            raise InputError(f"a span with the score {span.score}", field="spans", allowed="finite numbers")
    for value in (rewards.score, *(rewards.tokens or ())):
        if not isfinite(value):
            raise InputError(f"a reward of {value}")
