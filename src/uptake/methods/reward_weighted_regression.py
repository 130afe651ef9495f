"""Reward-weighted regression (RWR; arXiv 2308.12050, after Peters and Schaal 2007): imitation by `exp(reward / beta)`.

Rows bring responses with rewards, as `uptake score` writes them; rewards are standardized over all rows, weights are
cut off at `max_weight` and divided by their mean. Differs from filtering in that every response counts, and from DPO in
that nothing is pushed away: solved to the end, on responses of the reference, both are `pi_ref * exp(reward / beta)`.
Assumes that what is there is worth imitating at all. A small `beta` learns from a few rows only, which is warned of, a
large one is supervised fine-tuning. `beta` and the cut are ours; no released code has the method. Gives no signal where
all rewards are alike.
"""

import logging
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from uptake.examples.scored import ScoredRows, imitation
from uptake.methods import MethodConfig, fill
from uptake.objective.weighted_tokens import WeightedTokens, WeightedTree
from uptake.recipe import Recipe, Stage
from uptake.types import RoundData
from uptake.update import Optimization
from uptake.world import World

log = logging.getLogger(__name__)

ALIASES = ("rwr",)

# A smaller share of responses that count is warned of.
FEW = 0.1


class Config(MethodConfig):
    beta: float = Field(1.0, gt=0)
    max_weight: float | None = Field(20.0, gt=0)
    standardize: bool = True
    # The authors' scripts.
    lr: float = 5e-6
    batch_size: int = 128


@dataclass(frozen=True)
class Weighted:
    """Every response with a weight of `exp(reward / beta)`, at most `max_weight`, over the mean of all."""

    rows: ScoredRows
    beta: float = 1.0
    max_weight: float | None = 20.0

    def __call__(self, world: World, round_: int) -> RoundData:
        scored = list(self.rows(world))
        logs = np.array([each.reward for each in scored]) / self.beta
        most = np.inf if self.max_weight is None else np.log(self.max_weight)
        cut = np.minimum(logs, most)
        weights = np.exp(cut - cut.max())  # of which the mean is divided out
        share = weights.sum() ** 2 / (weights**2).sum() / len(weights)
        if share < FEW:
            log.warning("%.1f %% of the responses carry the weight of all: a larger beta spreads it", 100 * share)
        weights = weights / weights.mean()
        trees = [
            WeightedTree(imitation(world.chat, world, each), float(weight))
            for each, weight in zip(scored, weights, strict=True)
        ]
        cut_off = int((logs > most).sum())
        figures = {"effective_share": float(share), "largest_weight": float(weights.max()), "weights_cut": cut_off}
        return RoundData(trees, {"samples": len(trees), "kept": len(trees), "dropped": {}} | figures)


def build(config: Config) -> Recipe:
    examples = Weighted(fill(ScoredRows, config), config.beta, config.max_weight)
    stage = Stage(examples=examples, objective=WeightedTokens(), update=fill(Optimization, config))
    return Recipe((stage,))
