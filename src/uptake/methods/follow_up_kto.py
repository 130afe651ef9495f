"""Follow-up likelihood with KTO: what users would say next makes the policy's own samples good or bad examples.

Follow-ups rate `n` samples for each prompt as in follow-up likelihood (arXiv 2409.13948); a score of `high` or more
makes a good example, `low` or less a bad one, and the band between is left out and counted. Differs from follow-up
likelihood with DPO in that every clear sample counts, not only the best and the worst of a prompt. By default scores
are relative to the other samples of the prompt, and thresholds are quantiles of all that a round has; scores of a
calibrated follow-up set are for `standardize: none` and `threshold_unit: score`. Gives no signal on samples that are
all alike.
"""

from typing import Literal

from pydantic import Field

from uptake.follow_up.reward import FollowUpSpec
from uptake.judge import PointwiseJudge
from uptake.losses.unpaired import KTO
from uptake.methods import fill, kto
from uptake.objective import Unpaired
from uptake.recipe import Recipe, Stage
from uptake.reference import REFERENCES
from uptake.rollout.policy import PolicySamples
from uptake.signal.thresholds import Thresholds, ThresholdUnit
from uptake.update import Optimization

ALIASES = ("flr_kto",)


class Config(kto.Config):
    # Sampling as in the released code of follow-up likelihood.
    n: int = Field(8, ge=1)
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    max_new_tokens: int = 2048
    max_prompt_tokens: int | None = None
    # The follow-up reward.
    followups: str | None = None
    reduction: Literal["mean", "sum"] = "mean"
    polarity: Literal["both", "negative_only", "positive_only"] = "both"
    standardize: Literal["none", "within_prompt"] = "within_prompt"
    # The clear half of all samples, as many good as bad.
    threshold_unit: ThresholdUnit = "quantile"
    low: float = 0.25
    high: float = 0.75
    keep_unfinished: bool = False
    # Scores less what the length of a response explains of them, before thresholds.
    length_residual: bool = False
    rounds: int = Field(1, ge=1)


def build(config: Config) -> Recipe:
    stage = Stage(
        produce=fill(PolicySamples, config),
        judge=PointwiseJudge(fill(FollowUpSpec, config)),
        signal=fill(Thresholds, config),
        reference=REFERENCES[config.reference],
        objective=Unpaired(fill(KTO, config)),
        update=fill(Optimization, config),
        rounds=config.rounds,
    )
    return Recipe((stage,))
