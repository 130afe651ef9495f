"""Proximal policy optimization from a reward of whole responses (PPO; arXiv 1707.06347, for text arXiv 1909.08593).

Every round the policy answers some prompts, a reward scores each answer, and a critic spreads the score over the tokens
that led to it; a price on every token keeps the policy near its start. Differs from learning on pairs in that any
number can be the reward, and from `fine_grained_ppo` in that it comes once, at the end. Assumes a score that does not
fall for what is worth learning. Gives no signal where all scores are alike.
"""

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from uptake.judge import PointwiseJudge, RewardSpec, reward_spec
from uptake.methods import MethodConfig, fill
from uptake.models.heads import AddCritic, AddHead
from uptake.objective import ActorCritic
from uptake.ops.advantages import Whitening
from uptake.ops.divergence import KLPenalty, shortest_horizon
from uptake.ops.reward_shaping import RewardShaping
from uptake.recipe import Recipe, Stage
from uptake.reference import REFERENCES, ReferenceName
from uptake.rollout.policy import PolicySamples
from uptake.rollout.schedule import PromptBatches
from uptake.signal.grouped import Grouped
from uptake.update import Optimization, Schedule

ALIASES = ("proximal_policy_optimization",)


class Config(MethodConfig):
    # A reward by name, or by name with its settings: {"classifier": {"path": "./reward-model"}}.
    reward: str | dict[str, Any] = "follow_up"
    # Per round: prompts, samples of each, passes over them, and steps in a pass.
    prompts: int = Field(128, ge=1)
    n: int = Field(4, ge=1)
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = 256
    max_prompt_tokens: int | None = None
    rounds: int = Field(80, ge=1)
    epochs: int = Field(4, ge=1)
    minibatches: int = Field(1, ge=1)
    # Rewards of responses.
    weight: float = 1.0
    center_scores: bool = True
    penalty: float = 1.0
    unfinished: Literal["subtract", "replace", "bootstrap", "drop"] = "subtract"
    # KL penalty.
    beta: float = 0.05
    kl: Literal["k1", "k2", "k3", "full"] = "k1"
    kl_target: float | None = None
    kl_horizon: float = 10_000
    kl_unit: Literal["sum", "mean"] = "sum"
    reference: ReferenceName = "initial"
    # Advantages and losses.
    gamma: float = Field(1.0, ge=0, le=1)
    lam: float = Field(0.95, ge=0, le=1)
    value_lam: float = Field(1.0, ge=0, le=1)
    clip_ratio: float = Field(0.2, gt=0)
    target_kl: float | None = Field(None, gt=0)
    dual_clip: float | None = Field(None, gt=1)
    value_clip: float | None = Field(None, gt=0)
    value_coef: float = Field(1.0, ge=0)
    whiten: Whitening = "sample"
    mean: Literal["token", "response"] = "token"
    # The critic: a network of its own, or a head on the policy.
    critic: Literal["separate", "shared"] = "separate"
    critic_warmup: int = Field(1, ge=0)
    lr: float = 1e-6
    critic_lr: float | None = 9e-6
    warmup: float = 0.0
    schedule: Schedule = "constant"
    eps: float = 1e-5
    clip: float | None = 0.5

    @model_validator(mode="after")
    def _rounds_are_large_enough_and_not_too_large(self) -> Self:
        if self.minibatches > self.prompts:
            raise ValueError(f"minibatches {self.minibatches} of {self.prompts} prompts")
        samples = self.prompts * self.n
        if self.kl_target is not None and self.kl_horizon <= (least := shortest_horizon(samples)):
            raise ValueError(f"kl_horizon {self.kl_horizon:g} with {samples} samples a round, not above {least:g}")
        return self


def stage(config: Config, reward: RewardSpec, shaping: RewardShaping, level: Literal["sequence", "token"]) -> Stage:
    names = "temperature gamma lam value_lam dual_clip value_clip value_coef whiten critic_warmup mean target_kl"
    options = {name: getattr(config, name) for name in names.split()}
    size = -(-config.prompts // config.minibatches)
    return Stage(
        select=PromptBatches(config.prompts),
        # No filter: what the loss scores, the distribution at this temperature, is what was sampled from.
        produce=PolicySamples(config.n, config.temperature, 1.0, 0, config.max_new_tokens, config.max_prompt_tokens),
        judge=PointwiseJudge(reward),
        signal=Grouped(level, keep_unfinished=config.unfinished != "drop"),
        reference=REFERENCES[config.reference],
        objective=ActorCritic(
            shaping,
            KLPenalty(config.beta, config.kl, config.kl_target, config.kl_horizon, config.kl_unit),
            clip=config.clip_ratio,
            truncated="bootstrap" if config.unfinished == "bootstrap" else "penalty",
            **options,
        ),
        modules=AddCritic("value") if config.critic == "separate" else AddHead("value"),
        update=replace(fill(Optimization, config), batch_size=size, module_lr=config.critic_lr),
        rounds=config.rounds,
    )


def build(config: Config, reward: RewardSpec | None = None) -> Recipe:
    """`reward` takes the place of the one that the options name."""
    shaping = RewardShaping(
        config.weight,
        config.center_scores,
        penalty=config.penalty * (config.unfinished != "bootstrap"),
        replace=config.unfinished == "replace",
    )
    return Recipe((stage(config, reward or reward_spec(config.reward), shaping, "sequence"),))
