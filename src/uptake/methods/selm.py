"""Self-exploring language models (SELM; arXiv 2405.19332): iterated DPO with a bonus for what is not yet said.

In every iteration the policy answers the next portion of the pairs greedily, a reward ranks its answer beside the
recorded chosen and rejected one, and DPO takes the best against the worst, each iteration against the policy as it
began. Differs from iterated DPO by a term `alpha * beta * log(pi / pi_ref)` of the policy's own answer, whatever its
rank: it lowers what the policy would say anyway, so that probability goes to what it has not tried. The term has no
lower bound: above some `alpha`, 0.025 in a world of five answers, the policy collapses; so it ends for answers whose
reward `beta * log(pi / pi_ref)` is below `-bonus_floor` (ours; the released code has no such guard and truncates the
policy's answer by the length of the other two). Assumes a reward that ranks all three. Gives no signal where they score
alike.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from uptake.judge import PointwiseJudge, reward_spec
from uptake.losses.pairwise import Logistic
from uptake.methods import MethodConfig, fill
from uptake.objective import Pairs
from uptake.ops.axes import PerPair
from uptake.recipe import Recipe, Stage
from uptake.reference import Frozen
from uptake.rollout.policy import PolicySamples
from uptake.rollout.recorded import BesideRecorded
from uptake.rollout.schedule import Portion
from uptake.signal.pair import pair_of
from uptake.signal.summary import summarize
from uptake.support.token_ids import compact
from uptake.types import Dropped, Group, Judgement, Pair, RoundData
from uptake.update import Optimization

ALIASES = ("self_exploring",)


class Config(MethodConfig):
    iterations: int = Field(3, ge=1)
    # A reward by name, or by name with its settings: {"classifier": {"path": "./reward-model"}}.
    reward: str | dict[str, Any] = "follow_up"
    beta: float = 0.01
    alpha: float = Field(0.001, ge=0)
    bonus_floor: float | None = Field(2.0, gt=0)
    n: Literal[1] = 1
    temperature: float = 0.0
    max_new_tokens: int = 1024
    max_prompt_tokens: int | None = None
    # The released runs on Llama 3; the rate falls from the first iteration to the last in equal steps.
    lr: float = 5e-7
    last_lr: float = Field(0.2, gt=0)
    batch_size: int = 128


@dataclass(frozen=True)
class OptimismBonus:
    """Term of the policy's own answer, `alpha * beta * log(pi / pi_ref)`; off below the floor of its reward.

    Source: Zhang et al. 2024 (arXiv 2405.19332), eq. 4.2, where Algorithm 1 leaves out beta.
    """

    alpha: float = 0.001
    bonus_floor: float | None = 2.0

    def __call__(self, aux_ratio: PerPair, beta: float) -> tuple[PerPair, Mapping[str, Tensor]]:
        off = aux_ratio.detach() * beta < -(torch.inf if self.bonus_floor is None else self.bonus_floor)
        bonus = self.alpha * beta * aux_ratio.masked_fill(off, 0.0)
        return bonus, {"bonus": bonus.sum(), "aux_log_ratio": aux_ratio.sum(), "at_floor": off.sum()}


@dataclass(frozen=True)
class RankedBesideRecorded:
    """Pairs of the best and the worst of chosen, rejected and the policy's answer, which stands beside as `aux_ids`."""

    def __call__(self, groups: Sequence[Group], judgements: Sequence[Sequence[Judgement]]) -> RoundData:
        pairs: list[Pair] = []
        dropped: Counter[Dropped] = Counter()
        ranks: Counter[str] = Counter()
        for group, judged in zip(groups, judgements, strict=True):
            scores = [each.score for each in judged]
            reason = next((each.reason for each in judged if each.reason), None)
            if reason is not None:
                dropped[reason] += 1
            elif min(scores) == max(scores):
                dropped[Dropped.NO_CONTRAST] += 1
            else:
                best, worst = scores.index(max(scores)), scores.index(min(scores))
                ranks[{best: "sample_best", worst: "sample_worst"}.get(2, "sample_between")] += 1
                pair = pair_of(group[best], group[worst], scores[best] - scores[worst])
                pairs.append(replace(pair, aux_ids=compact(group[2].response_ids)))
        samples = sum(map(len, groups))
        counts = {"prompts": len(groups), "samples": samples, "pairs": len(pairs), "dropped": dict(dropped)}
        return RoundData(tuple(pairs), counts | dict(ranks) | summarize(pairs))


def build(config: Config) -> Recipe:
    return Recipe(tuple(_iteration(config, index) for index in range(config.iterations)))


def _iteration(config: Config, index: int) -> Stage:
    fall = (1 - config.last_lr) * index / max(1, config.iterations - 1)
    return Stage(
        select=Portion(index, config.iterations),
        produce=BesideRecorded(fill(PolicySamples, config)),
        judge=PointwiseJudge(reward_spec(config.reward)),
        signal=RankedBesideRecorded(),
        reference=Frozen(),
        objective=Pairs(Logistic(config.beta), fill(OptimismBonus, config)),
        update=replace(fill(Optimization, config), lr=config.lr * (1 - fall)),
    )
