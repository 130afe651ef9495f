"""Conditional alignment (CA; arXiv 2308.12050): learn which responses have which reward, and be asked for a high one.

Rows bring responses with rewards, as `uptake score` writes them; rewards are standardized over all rows and written
behind the user's turns by `condition`, and every response is learned after that as in supervised fine-tuning. The
trained model's own chat template then asks for the reward that a share `target_quantile` of the rows does not exceed,
in every program that reads it. Differs from filtering in that bad responses teach too: what belongs to a low reward.
The released code asks for 5.00, which no row has once rewards are standardized. Assumes a model that can tell numbers
apart. Gives no signal where all rewards are alike.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from pydantic import Field

from uptake.data import ChatFormat
from uptake.data.conditioned import check_condition, conditioned, spelled_reward
from uptake.examples.scored import ScoredRows, imitation
from uptake.methods import MethodConfig, fill
from uptake.objective import NextToken
from uptake.recipe import Recipe, Stage
from uptake.types import RoundData
from uptake.update import Optimization
from uptake.world import World

ALIASES = ("ca",)


class Config(MethodConfig):
    # What follows a user's turn, with {reward} where the number stands.
    condition: str = " <rm_score>: {reward}"
    target_quantile: float = Field(0.99, ge=0, le=1)
    standardize: bool = True
    # The authors' scripts.
    lr: float = 5e-6
    batch_size: int = 128


@dataclass(frozen=True)
class AskingFor:
    """The chat format of the trained model: every turn of the user's ends with the reward that is asked for.

    That is the one which a share `target_quantile` of the rows does not exceed, on their own scale.
    """

    rows: ScoredRows
    condition: str = " <rm_score>: {reward}"
    target_quantile: float = 0.99

    def __post_init__(self) -> None:
        check_condition(self.condition)

    def __call__(self, world: World) -> ChatFormat:
        return self.chat(world, self.target(world))

    def target(self, world: World) -> str:
        """The reward that is asked for, as it is spelled."""
        scale = self.rows.scale(world)
        return spelled_reward(scale(float(np.quantile(self.rows.rewards(world), self.target_quantile))))

    def chat(self, world: World, reward: str) -> ChatFormat:
        """The chat format that asks for a reward."""
        suffix = self.condition.replace("{reward}", reward)
        template = conditioned(world.chat.template, suffix)
        return ChatFormat.of(world.policy, template, world.chat.spelled_tokens)


@dataclass(frozen=True)
class Conditioned:
    """Every response after the conversation that asks for its reward."""

    asking: AskingFor

    def __call__(self, world: World, round_: int) -> RoundData:
        chat = cache(lambda reward: self.asking.chat(world, reward))
        trees, values = [], []
        for scored in self.asking.rows(world):
            values.append(scored.reward)
            trees.append(imitation(chat(spelled_reward(scored.reward)), world, scored))
        spread = dict(zip(("lowest", "median", "highest"), np.quantile(values, (0, 0.5, 1)).tolist(), strict=True))
        figures = {"condition": spread | {"asked_for": float(self.asking.target(world))}}
        return RoundData(trees, {"samples": len(trees), "kept": len(trees), "dropped": {}} | figures)


def build(config: Config) -> Recipe:
    asking = AskingFor(fill(ScoredRows, config), config.condition, config.target_quantile)
    examples, update = Conditioned(asking), fill(Optimization, config)
    stage = Stage(examples=examples, objective=NextToken(), respond=asking, update=update)
    return Recipe((stage,))
