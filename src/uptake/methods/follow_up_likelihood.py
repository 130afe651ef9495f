"""Follow-up likelihood as reward (FLR; arXiv 2409.13948): mine pairs from the policy's own samples, then align on them.

What a user would say next rates a response: a language model reads the conversation and gives the likelihood of
approving follow-ups ("That answers my question.") minus that of disapproving ones ("You misunderstood me."). The best
and the worst of `n` samples of the policy for each prompt become a pair, and DPO trains the policy on the pairs against
its own starting point. No label is needed. Assumes a follow-up model that has seen users react. Gives no signal on a
prompt whose samples are all alike.
"""

from typing import Any, Literal

from pydantic import Field

from uptake.errors import InputError
from uptake.follow_up.reward import FollowUpSpec
from uptake.judge import PointwiseJudge, RewardSpec, reward_spec
from uptake.methods import dpo, fill
from uptake.objective import Pairs
from uptake.recipe import Recipe, Stage
from uptake.reference import REFERENCES
from uptake.rollout.engines import engine
from uptake.signal import BestWorst
from uptake.update import Optimization, OptimizerName, Schedule

ALIASES = ("flr", "follow_up", "followup")


class Config(dpo.Config):
    # Sampling as in the released code.
    n: int = Field(8, ge=2)
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    max_new_tokens: int = 2048
    max_prompt_tokens: int | None = None
    # What samples, by name or by name with its settings: {"vllm": {"url": "http://localhost:8000/v1"}}.
    engine: str | dict[str, dict[str, Any]] = "transformers"
    # A reward by name, or by name with its settings, and those of follow-up likelihood itself.
    reward: str | dict[str, Any] = "follow_up"
    followups: str | None = None
    reduction: Literal["mean", "sum"] = "mean"
    polarity: Literal["both", "negative_only", "positive_only"] = "both"
    standardize: Literal["none", "within_prompt"] = "none"
    # Which pairs are kept.
    min_margin: float = 0.0
    min_margin_quantile: float = 0.2
    max_length_ratio: float = 2.0
    min_category_agreement: float = 2 / 3
    keep_unfinished: bool = False
    # Scores less what the length of a response explains of them, before pairs are made.
    length_residual: bool = False
    # Rounds of fresh samples from the policy as it is by then; the paper mines once.
    rounds: int = Field(1, ge=1)
    # The starting guess of the trainer that the authors name; the paper's own values are not established.
    lr: float = 5e-6
    batch_size: int = 8
    epochs: int = 3
    warmup: float = 0.1
    schedule: Schedule = "cosine"
    optimizer: OptimizerName = "adamw"
    clip: float | None = 1.0


def _reward(config: Config) -> RewardSpec:
    """The reward that the options name; those of follow-up likelihood are for no other."""
    by_follow_ups = fill(FollowUpSpec, config)
    if config.reward == "follow_up":
        return by_follow_ups
    for name in ("followups", "reduction", "polarity", "standardize"):
        if name in config.model_fields_set:
            raise InputError("for reward=follow_up only", field=name, allowed="settings of the reward that is named")
    return reward_spec(config.reward)


def build(config: Config) -> Recipe:
    stage = Stage(
        produce=fill(engine(config.engine), config),
        judge=PointwiseJudge(_reward(config)),
        signal=fill(BestWorst, config),
        reference=REFERENCES[config.reference],
        objective=Pairs(dpo.kernel(config)),
        update=fill(Optimization, config),
        rounds=config.rounds,
    )
    return Recipe((stage,))
