"""Self-play fine-tuning (SPIN; arXiv 2401.01335): the policy learns to tell recorded responses from its own.

In every iteration the policy answers the prompts of its data, and DPO prefers the recorded response to the policy's,
against the policy as it was then; from the second on, the pairs of the iteration before count too. Differs from
supervised fine-tuning in that what the policy says instead is pushed away: at first the gradient is that of supervised
fine-tuning times `beta / 2`, and it is 0 once the policy writes as the data does. Assumes data better than the policy.
Solved to the end, an iteration leaves `1 - 1 / beta` of the log-ratio between policy and data, so that a `beta` of 0.5
and less never settles; 0.1 works because training stops long before. The released code ends cut-off responses as if the
policy had, which marks the loser; here they are dropped and counted. No signal where the policy repeats the response.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from uptake.data.where import bad_row
from uptake.losses.pairwise import Hinge, Logistic
from uptake.methods import MethodConfig, fill
from uptake.objective import Pairs
from uptake.recipe import Recipe, Stage
from uptake.reference import Frozen
from uptake.rollout.policy import PolicySamples
from uptake.rollout.recorded import BesideRecorded
from uptake.signal.comparisons import ComparisonPairs
from uptake.types import Dropped, Group, Rated, Row, Verdict
from uptake.update import Optimization, OptimizerName, Schedule
from uptake.world import World

ALIASES = ("self_play",)


class Config(MethodConfig):
    iterations: int = Field(4, ge=1)
    loss: Literal["dpo", "slic"] = "dpo"
    beta: float = 0.1
    late_beta: float = 5.0  # from the fourth iteration on
    late_lr: float = Field(0.2, gt=0)  # the share of the learning rate that is left from the third iteration on
    n: Literal[1] = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    max_prompt_tokens: int | None = None
    keep_unfinished: bool = False
    # The released scripts, but for their epochs: the model cards say 2, the scripts 6.
    lr: float = 5e-7
    batch_size: int = 64
    schedule: Schedule = "linear"
    optimizer: OptimizerName = "rmsprop"


@dataclass(frozen=True)
class WorthImitating:
    """Selection of all rows; raises InputError for a response that is labeled bad, which would be preferred."""

    def __call__(self, world: World, round_: int) -> Sequence[Row]:
        for row in world.rows:
            if isinstance(row, Rated) and not row.good:
                raise bad_row("this response is labeled bad", row.prompt.where, field="label", allowed="good ones only")
        return world.rows


@dataclass(frozen=True)
class RecordedWins:
    """Judge of a recorded response and a sample: the recorded one is the better."""

    keep_unfinished: bool = False

    def start(self, world: World) -> Callable[[Sequence[Group]], Sequence[Verdict]]:
        return self._verdicts

    def _verdicts(self, groups: Sequence[Group]) -> Sequence[Verdict]:
        cut = Verdict(0.5, (0.5, 0.5), reason=Dropped.UNFINISHED)
        return [Verdict(1.0, (1.0, 1.0)) if self.keep_unfinished or sample.finished else cut for _, sample in groups]


def build(config: Config) -> Recipe:
    return Recipe(tuple(_iteration(config, index) for index in range(config.iterations)))


def _iteration(config: Config, index: int) -> Stage:
    beta, rate = (config.beta, config.late_beta)[index >= 3], (1.0, config.late_lr)[index >= 2]
    return Stage(
        select=WorthImitating(),
        produce=BesideRecorded(fill(PolicySamples, config)),
        judge=fill(RecordedWins, config),
        signal=ComparisonPairs(),
        reference=Frozen(),
        objective=Pairs(Logistic(beta) if config.loss == "dpo" else Hinge(beta)),
        update=replace(fill(Optimization, config), lr=config.lr * rate),
        earlier=1,
    )
