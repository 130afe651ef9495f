"""Filtering alignment (FA; arXiv 2308.12050): imitation of the responses that a reward likes better than most.

Rows bring responses with rewards, as `uptake score` writes them; rewards are standardized over all rows, and what is
above `threshold` is learned as in supervised fine-tuning (`by: best` takes the best response to each prompt instead).
Differs from DPO in that nothing is pushed away and nothing holds the policy near its start. Assumes that the best of
what is there is good; a reward that likes length selects for it, and a hard prompt may lose all its rows, which is
counted. Gives no signal where all rewards are alike.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from uptake.examples.scored import Scored, ScoredRows, imitation
from uptake.methods import MethodConfig, fill
from uptake.objective import NextToken
from uptake.recipe import Recipe, Stage
from uptake.types import Dropped, RoundData
from uptake.update import Optimization
from uptake.world import World

ALIASES = ("fa",)


class Config(MethodConfig):
    by: Literal["threshold", "best"] = "threshold"
    # In standard deviations from the mean, or as the rows have it; null takes every response.
    threshold: float | None = 0.0
    standardize: bool = True
    # The authors' scripts.
    lr: float = 5e-6
    batch_size: int = 128


@dataclass(frozen=True)
class Filtered:
    """Responses above a threshold of their reward, or the best of each prompt, the first of equal ones."""

    rows: ScoredRows
    by: Literal["threshold", "best"] = "threshold"
    threshold: float | None = 0.0

    def __call__(self, world: World, round_: int) -> RoundData:
        best: dict[str, Scored] = {}
        scored = list(self.rows(world))
        for each in scored:
            if each.prompt.key not in best or each.reward > best[each.prompt.key].reward:
                best[each.prompt.key] = each
        chosen = [each for each in scored if self._takes(each, best)]
        left = [each for each in scored if not self._takes(each, best)]
        trees = [imitation(world.chat, world, each) for each in chosen]
        without = len(best) - len({each.prompt.key for each in chosen})
        figures = {"reward_kept": _mean(chosen), "reward_left_out": _mean(left), "prompts_without": without}
        reason = Dropped.NOT_THE_BEST if self.by == "best" else Dropped.BELOW_THRESHOLD
        counts = {"prompts": len(best), "samples": len(scored), "kept": len(chosen)}
        return RoundData(trees, counts | figures | {"dropped": {reason: len(left)}})

    def _takes(self, scored: Scored, best: Mapping[str, Scored]) -> bool:
        if self.by == "best":
            return scored is best[scored.prompt.key]
        return self.threshold is None or scored.reward > self.threshold


def _mean(scored: Iterable[Scored]) -> float | None:
    rewards = [each.reward for each in scored]
    return fmean(rewards) if rewards else None


def build(config: Config) -> Recipe:
    examples = Filtered(fill(ScoredRows, config), config.by, config.threshold)
    stage = Stage(examples=examples, objective=NextToken(), update=fill(Optimization, config))
    return Recipe((stage,))
