"""Fine-grained PPO (FG-PPO; arXiv 2406.02756): proximal policy optimization with one reward for every token.

As `ppo`, but the reward says of every token whether it was good or bad, so a mistake is paid where it was made and the
critic has less to know. Rewards are centered over the round, so that their mean makes answers neither longer nor
shorter, and scaled by the running deviation of their sum. The gain needs `lam` below 1: find the best for either method
before you compare them. `credit` "end" pays the same sum at the last token: the control that shows what position is
worth. Assumes a reward that looks at no later token. Gives no signal where all tokens are alike.
"""

from dataclasses import replace
from typing import Any, Literal

from uptake.judge.pointwise import PointwiseJudge, RolloutJudge, token_reward
from uptake.methods import fill, ppo
from uptake.ops.token_rewards import Credit, Shaping
from uptake.recipe import Recipe

ALIASES = ("fg_ppo", "token_ppo")


class Config(ppo.Config):
    # A reward of tokens by name, or by name with its settings: {"token_reward": {"model": "./token-rewards"}}.
    reward: str | dict[str, dict[str, Any]] = "token_reward"
    center: Literal["batch_non_eos", "none"] = "batch_non_eos"
    scale: Literal["running_std_sum", "none"] = "running_std_sum"
    kappa: float = 1.0
    clip_reward: float | None = 5.0
    credit: Credit = "token"
    # What the judge's score of the whole response adds at the end.
    weight: float = 0.0
    center_scores: bool = False
    unfinished: Literal["subtract", "bootstrap", "drop"] = "subtract"


def build(config: Config, judge: RolloutJudge | None = None) -> Recipe:
    """`judge` takes the place of the reward that the options name."""
    shaping = fill(Shaping, config)
    penalty = 0.0 if config.unfinished == "bootstrap" else config.penalty
    shaping = replace(shaping, clip=config.clip_reward, penalty=penalty)
    by = token_reward(config.reward) if judge is None else PointwiseJudge(judge)
    return Recipe((ppo.stage(config, by, shaping, "token"),))
