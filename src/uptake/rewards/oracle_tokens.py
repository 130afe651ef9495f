"""The town's oracle as a judge of tokens: every faulty word costs one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uptake.data.response_tokens import rollout_offsets
from uptake.errors import InputError
from uptake.ops.spans import place_rewards
from uptake.rewards.rate import invalid
from uptake.sampling.draw import uniforms
from uptake.town import Town
from uptake.types import Judgement, Rollout, Span, Turn
from uptake.world import World


@dataclass(frozen=True)
class OracleTokens:
    """-1 for every word to change or drop, shared by its tokens, and for every place where words are missing.

    What is missing costs the token that stands where it should, or the end. The score is the sum. With `shuffled` the
    values of all tokens but the end change places at random, the same way whenever a sample is judged again: a control,
    since the sum stays. Answers to anything but questions of the town are invalid; `town` is the town's seed.
    """

    town: int = 0
    shuffled: bool = False

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        return [self._judged(world, rollout) for rollout in rollouts]

    def _judged(self, world: World, rollout: Rollout) -> Judgement:
        try:
            answered = (*rollout.prompt.turns, Turn("assistant", rollout.response))
            marks = [Span(mark.start, mark.stop, -1.0) for mark in Town(self.town).faulty_words(answered)]
        except InputError as error:
            return invalid(error)
        values = place_rewards(marks, rollout_offsets(world.policy.tokenizer, rollout)).values
        if self.shuffled:
            values = _shuffled(values, rollout)
        return Judgement(sum(values), tokens=values)


def _shuffled(values: Sequence[float], rollout: Rollout) -> tuple[float, ...]:
    """The values in another order, but for that of the end; a function of the sample alone."""
    inner = len(values) - rollout.finished
    order = np.argsort(uniforms(rollout.version, rollout.prompt.key, rollout.sample, inner))
    return (*(values[place] for place in order), *values[inner:])
