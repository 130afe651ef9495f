"""Fine-grained PPO (FG-PPO; arXiv 2406.02756): proximal policy optimization with one reward for every token.

As `ppo`, but the reward says of every token whether it was good or bad, so a mistake costs where it was made and the
critic has less to know. Rewards are centered over the round, so that their mean makes answers neither longer nor
shorter, and scaled by the running deviation of their sum. The gain needs `lam` below 1: find the best for either method
before you compare them. `credit` "end" puts the same sum at the last token: the control that shows what position is
worth. Assumes a reward that looks at no later token. Gives no signal where all tokens are alike.
"""

from dataclasses import replace
from typing import Any, Literal

from uptake.judge import RewardSpec, reward_spec
from uptake.methods import fill, ppo
from uptake.ops.reward_shaping import Credit, RewardShaping
from uptake.recipe import Recipe

ALIASES = ("fg_ppo", "token_ppo")


class Config(ppo.Config):
    # A reward of tokens by name, or by name with its settings: {"token_reward": {"path": "./token-rewards"}}.
    reward: str | dict[str, Any] = "token_reward"
    center: Literal["batch_non_eos", "none"] = "batch_non_eos"
    scale: Literal["running_std_sum", "none"] = "running_std_sum"
    kappa: float = 1.0
    clip_reward: float | None = 5.0
    credit: Credit = "token"
    # What the judge's score of the whole response adds at the end.
    weight: float = 0.0
    center_scores: bool = False
    unfinished: Literal["subtract", "bootstrap", "drop"] = "subtract"


def build(config: Config, reward: RewardSpec | None = None) -> Recipe:
    """`reward` takes the place of the one that the options name."""
    shaping = fill(RewardShaping, config)
    if config.unfinished == "bootstrap":
        shaping = replace(shaping, penalty=0.0)
    return Recipe((ppo.stage(config, reward or reward_spec(config.reward, needs="tokens"), shaping, "token"),))
