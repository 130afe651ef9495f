"""Online self-preferring alignment (OSP; arXiv 2405.14103): the policy judges its own samples, by how much it prefers.

At every step the policy answers each prompt `n` times and compares every other answer with the first, in both orders:
its log-odds are the answer's strength, and that of the first is 0. Answers are ranked by strength, the best is paired
with the worst and so on inward, and DPO takes the probability that two strengths stand for as a soft label: it stops
where its margin says what the judge said, an even pair moves nothing, and a sure one is DPO. Differs from online AI
feedback in that `n - 1` comparisons rank `n` samples, and in who judges. What the policy says of itself is no news from
outside, and strengths drift with it; `judge: {model: {model: start}}`, the policy as the run began, does not. There is
no released code: pairing and defaults are ours. Assumes a policy that can judge; one that goes by the place of an
answer is refused. Gives no signal where it is indifferent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log
from statistics import fmean
from typing import Any, Self

from pydantic import Field, model_validator

from uptake.annotators.base import AnnotatorSpec
from uptake.judge import PairwiseJudge, annotator_spec
from uptake.methods import dpo, fill
from uptake.objective import Pairs
from uptake.recipe import Recipe, Stage
from uptake.reference import REFERENCES
from uptake.rollout.policy import PolicySamples
from uptake.rollout.schedule import PromptBatches
from uptake.signal.ranked import RankedPairs
from uptake.types import Group, Judgement, Verdict
from uptake.update import Optimization, OptimizerName
from uptake.world import World

ALIASES = ("osp",)

# The strength of a judge that is certain: its probability is 1 to the last bit.
SURE = 40.0


class Config(dpo.Config):
    n: int = Field(4, ge=2)
    temperature: float = 0.9
    top_p: float = 1.0
    max_new_tokens: int = 256
    max_prompt_tokens: int | None = None
    # An annotator or a reward by name, or by name with its settings; the policy as it is.
    judge: str | dict[str, Any] = Field(default_factory=lambda: {"model": {"model": "policy"}})
    keep_unfinished: bool = True
    allow_position_bias: bool = False
    steps: int = Field(2000, ge=1)
    # Pairs, of which a prompt gives one for every two samples.
    batch_size: int = 128
    optimizer: OptimizerName = "adafactor"
    clip: float | None = 1.0

    @model_validator(mode="after")
    def _whole_prompts(self) -> Self:
        if self.batch_size % (self.n // 2):
            raise ValueError(f"batch_size {self.batch_size} is no multiple of the {self.n // 2} pairs of a prompt")
        return self


@dataclass(frozen=True)
class AgainstFirst:
    """Judge of groups: the strength of every response against the first of its group, in log-odds; of that one 0."""

    by: AnnotatorSpec
    keep_unfinished: bool = True
    allow_position_bias: bool = False

    @property
    def uses(self) -> tuple[str, ...]:
        """The names of the models that it asks."""
        return self.by.uses

    def start(self, world: World) -> Callable[[Sequence[Group]], Sequence[tuple[Judgement, ...]]]:
        return partial(_against_first, PairwiseJudge(self.by, self.keep_unfinished).start(world))


def _against_first(
    compare: Callable[[Sequence[Group]], Sequence[Verdict]], groups: Sequence[Group]
) -> Sequence[tuple[Judgement, ...]]:
    verdicts = iter(compare([(each, group[0]) for group in groups for each in group[1:]]))
    return [(Judgement(0.0), *(_strength(next(verdicts)) for _ in group[1:])) for group in groups]


def _strength(verdict: Verdict) -> Judgement:
    """The log-odds of a verdict, the mean over both orders, each at most `SURE`."""
    if not verdict.valid:
        return Judgement(0.0, reason=verdict.reason, detail=verdict.detail)
    odds = [SURE if p == 1 else -SURE if p == 0 else log(p / (1 - p)) for p in verdict.by_order]
    return Judgement(fmean(max(-SURE, min(SURE, each)) for each in odds))


def build(config: Config) -> Recipe:
    judge = AgainstFirst(annotator_spec(config.judge), config.keep_unfinished, config.allow_position_bias)
    stage = Stage(
        select=PromptBatches(config.batch_size // (config.n // 2)),
        produce=fill(PolicySamples, config),
        judge=judge,
        signal=RankedPairs(),
        reference=REFERENCES[config.reference],
        objective=Pairs(dpo.kernel(config)),
        update=fill(Optimization, config),
        rounds=config.steps,
    )
    return Recipe((stage,))
