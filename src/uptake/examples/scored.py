"""Scored responses: rows with a reward for every response they hold, as `uptake score` writes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from uptake.data import ChatFormat
from uptake.data.convert import response_turns
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.examples.recorded import each_row, response_ids
from uptake.models import Node, TokenTree
from uptake.support.token_ids import compact
from uptake.types import Preference, Prompt, Row, Turn
from uptake.world import World

# The columns that hold the reward of a response, and those of both sides of a preference.
COLUMNS = (("reward",), ("chosen_reward", "rejected_reward"))


class Scored(NamedTuple):
    """A response with its reward: as the row has it, or standardized."""

    prompt: Prompt
    response: Turn
    reward: float


class Standardization(NamedTuple):
    """Mean and sample standard deviation of all rewards: what 0 and 1 of a standardized one mean."""

    mean: float = 0.0
    std: float = 1.0

    def __call__(self, reward: float) -> float:
        return (reward - self.mean) / self.std


@dataclass(frozen=True)
class ScoredRows:
    """The responses of all rows, in order, with their rewards; standardized over all of them where asked for.

    Raises InputError for a row without a response or a finite reward for each, and where rewards that are to be
    standardized are fewer than two or all the same.
    """

    standardize: bool = True

    columns: ClassVar[tuple[str, ...]] = tuple(name for names in COLUMNS for name in names)

    def __call__(self, world: World) -> Iterator[Scored]:
        scale = self.scale(world)
        for row in each_row(world):
            for scored in _scored(row):
                yield scored._replace(reward=scale(scored.reward))

    def scale(self, world: World) -> Standardization:
        """What rewards are standardized by; nothing where they are taken as they are."""
        if not self.standardize:
            return Standardization()
        rewards = self.rewards(world)
        if len(rewards) < 2 or rewards.min() == rewards.max():
            problem = f"{len(rewards)} rewards, all {rewards[0]:g}" if len(rewards) else "no rewards"
            allowed = "rewards that differ; or standardize=false, to take them as they are"
            raise InputError(problem, field="reward", allowed=allowed)
        return Standardization(float(rewards.mean()), float(rewards.std(ddof=1)))

    def rewards(self, world: World) -> NDArray[np.float64]:
        """The rewards as the rows have them."""
        return np.array([scored.reward for row in world.rows for scored in _scored(row)], dtype=np.float64)


def imitation(chat: ChatFormat, world: World, scored: Scored) -> TokenTree:
    """A response to imitate under a chat format: its tokens, with the end of the turn, after those of the prompt."""
    prompt_ids, ids = response_ids(replace(world, chat=chat), scored.prompt, scored.response)
    return TokenTree((Node(compact(prompt_ids), scored=False), Node(compact(ids), 0)))


def _scored(row: Row) -> Iterator[Scored]:
    prompt = row if isinstance(row, Prompt) else row.prompt
    names: Sequence[str] = COLUMNS[isinstance(row, Preference)]
    for turn, name in zip(response_turns(row), names, strict=True):
        reward: Any = prompt.extra.get(name)
        if isinstance(reward, bool) or not isinstance(reward, int | float) or not isfinite(reward):
            allowed = "a finite number, as `uptake score` writes it"
            raise bad_row(f"found {reward!r}", prompt.where, field=name, allowed=allowed)
        yield Scored(prompt, turn, float(reward))
