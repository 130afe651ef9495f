"""Behaviour preference optimization (BPO; arXiv 2406.12168): online AI feedback against the policy that sampled.

The run has phases of `steps_per_round` steps. A phase samples two answers to each of its prompts from the policy as it
is, the behaviour policy, a judge compares them, and DPO learns from the pairs against that same policy. An `ensemble`
of adapters over one base learns from the same pairs, each member by itself; what samples, and is saved at the end, is
the exact mean of what they add to the base. Differs from online AI feedback in that the reference moves, so that
nothing anchors the policy: n phases to convergence end where one ends with `beta / n`, so watch `initial_log_ratio`
beside `log_ratio`. One member in phases of one step has loss log 2 for ever and no trust region, which the ensemble
brings back. Assumes an adapter (`--lora 256` in the paper) or an ensemble of 1, and memory for the activations of all
members. Ties are dropped; the released code gives them to the second answer, ends cut-off answers as if the policy had,
and merges A and B each. Gives no signal on two equal answers.
"""

from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, model_validator

from uptake.methods import dpo, online_ai_feedback
from uptake.models.ensemble import Ensemble
from uptake.objective import EachMember, Pairs
from uptake.recipe import Recipe
from uptake.reference import ReferenceName
from uptake.update import OptimizerName, Schedule

ALIASES = ("behaviour_po", "behavior_po")


class Config(online_ai_feedback.Config):
    ensemble: int = Field(5, ge=1)
    reference: ReferenceName = "behaviour"
    temperature: float = 1.0
    max_new_tokens: int = 128
    max_prompt_tokens: int | None = 512
    # 10,000 prompts in two phases of whole batches.
    steps: int = Field(624, ge=1)
    steps_per_round: int = Field(312, ge=1)
    ahead: Literal[0] = 0
    lr: float = 5e-5
    batch_size: int = 16
    warmup: float = 0.0
    schedule: Schedule = "linear"
    optimizer: OptimizerName = "adamw"
    # For the activations of five members.
    micro_tokens: int = 2048

    @model_validator(mode="before")
    @classmethod
    def _beta_of_the_loss(cls, given: dict[str, Any]) -> dict[str, Any]:
        """One beta for every loss, as released."""
        return given


def build(config: Config) -> Recipe:
    (stage,) = online_ai_feedback.build(config).stages
    if config.ensemble == 1:
        return Recipe((stage,))
    objective = EachMember(Pairs(dpo.kernel(config)))
    return Recipe((replace(stage, modules=Ensemble(config.ensemble), objective=objective),))
