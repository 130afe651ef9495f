"""Online AI feedback (OAIF; arXiv 2402.04792): an annotator prefers one of two samples that the policy has just drawn.

At every step the policy as it is answers each prompt of the batch twice, an annotator compares the two in both orders,
and DPO, or another `loss` on pairs, learns from them against the policy's own start. Differs from offline alignment in
that the pairs are the policy's own at that very step, and from a trained reward model in that instructions steer the
annotator. `label` says what becomes of the annotator's probability; `steps_per_round` and `ahead` trade freshness for
speed. Gives no signal on two equal samples.
"""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from uptake.judge import PairwiseJudge, annotator_spec
from uptake.methods import dpo, fill
from uptake.objective import Pairs
from uptake.recipe import Recipe, Stage
from uptake.reference import REFERENCES
from uptake.rollout.engines import engine
from uptake.rollout.schedule import PromptBatches
from uptake.signal.comparisons import ComparisonPairs
from uptake.update import Optimization, OptimizerName

ALIASES = ("oaif",)

# The default `beta` of a loss, as reported.
BETA = {"dpo": 0.1, "ipo": 1.0, "slic": 0.002}


class Config(dpo.Config):
    n: Literal[2] = 2
    temperature: float = 0.9
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 256
    max_prompt_tokens: int | None = None
    # What samples, by name or by name with its settings: {"vllm": {"url": "http://localhost:8000/v1"}}.
    engine: str | dict[str, dict[str, Any]] = "transformers"
    # An annotator or a reward by name, or by name with its settings: {"oracle": {"noise": 0.1}}.
    judge: str | dict[str, Any] = "model"
    keep_unfinished: bool = True
    # A judge whose two orders agree in fewer than half of 32 pairs is refused, unless this allows it.
    allow_position_bias: bool = False
    label: Literal["hard", "sampled", "soft"] = "hard"
    # Optimizer steps in all, and how many of them learn from the samples of one round.
    steps: int = Field(2000, ge=1)
    steps_per_round: int = Field(1, ge=1)
    ahead: int = Field(0, ge=0)
    lr: float = 5e-7
    batch_size: int = 128
    epochs: Literal[1] = 1
    warmup: float = 150
    optimizer: OptimizerName = "adafactor"
    clip: float | None = 1.0

    @model_validator(mode="before")
    @classmethod
    def _beta_of_the_loss(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"beta": BETA.get(given.get("loss", "dpo"), 0.1)} | given

    @model_validator(mode="after")
    def _whole_rounds(self) -> Self:
        if self.steps % self.steps_per_round:
            raise ValueError(f"steps {self.steps} is not a multiple of steps_per_round {self.steps_per_round}")
        return self


def build(config: Config) -> Recipe:
    stage = Stage(
        select=PromptBatches(config.batch_size * config.steps_per_round),
        produce=fill(engine(config.engine), config),
        judge=PairwiseJudge(annotator_spec(config.judge), config.keep_unfinished, config.allow_position_bias),
        signal=fill(ComparisonPairs, config),
        reference=REFERENCES[config.reference],
        objective=Pairs(dpo.kernel(config)),
        update=fill(Optimization, config),
        rounds=config.steps // config.steps_per_round,
        ahead=config.ahead,
    )
    return Recipe((stage,))
