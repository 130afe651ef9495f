"""The town's oracle as a reward of tokens: every faulty word costs one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from uptake.data.chat import ChatFormat
from uptake.errors import InputError
from uptake.ops.spans import place_rewards
from uptake.rewards.base import Detail, Resources, Response, Reward, RewardDetails, RewardSpec, dialogue_of
from uptake.rewards.rate import answered_turns, invalid, token_offsets
from uptake.sampling.draw import uniforms
from uptake.town import Town
from uptake.types import Judgement, Rollout, Span


@dataclass(frozen=True)
class OracleTokens(Reward, RewardSpec):
    """Oracle reward of tokens: -1 for every word to change or drop, and for every place where words are missing.

    The tokens of a word share its reward; what is missing costs the token that stands where it should, or the end. The
    score is the sum. With `shuffled` the values of all tokens but the end change places at random, the same way
    whenever a sample is judged again: a control, since the sum stays. Answers to anything but questions of the town are
    invalid; `town` is the town's seed. Raises InputError for a text that no policy sampled, where it is `shuffled`, and
    for sampled ids without the `chat` format that they are of.
    """

    town: int = 0
    shuffled: bool = False
    chat: ChatFormat | None = field(default=None, repr=False)

    @property
    def fingerprint(self) -> str:
        return repr(self)

    @property
    def offers(self) -> frozenset[Detail]:
        return frozenset({"tokens"})

    def build(self, resources: Resources) -> "OracleTokens":
        return replace(self, chat=resources.chat)

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return [each.judgement for each in self.details(responses)]

    def details(self, responses: Sequence[Response]) -> Sequence[RewardDetails]:
        return [self._rated(response) for response in responses]

    def _rated(self, response: Response) -> RewardDetails:
        try:
            turns = dialogue_of(response)
            turns = turns if isinstance(response, Rollout) else answered_turns(turns)
            marks = [Span(mark.start, mark.stop, -1.0) for mark in Town(self.town).faulty_words(turns)]
        except InputError as error:
            return RewardDetails(invalid(error))
        if not isinstance(response, Rollout):
            if self.shuffled:
                raise InputError("tokens of a text cannot be shuffled", field="shuffled", allowed="sampled responses")
            return RewardDetails(Judgement(-float(len(marks))), tuple(marks))
        values = place_rewards(marks, token_offsets(self.chat, response)).values
        if self.shuffled:
            values = _shuffled(values, response)
        return RewardDetails(Judgement(sum(values), tokens=values), tuple(marks))


def _shuffled(values: Sequence[float], rollout: Rollout) -> tuple[float, ...]:
    """The values in another order, but for that of the end; a function of the sample alone."""
    inner = len(values) - rollout.finished
    order = np.argsort(uniforms(rollout.version, rollout.prompt.key, rollout.sample, inner))
    return (*(values[index] for index in order), *values[inner:])
