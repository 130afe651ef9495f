"""Pair of two responses that were sampled."""

from uptake.support.token_ids import compact
from uptake.types import Pair, Rollout


def pair_of(chosen: Rollout, rejected: Rollout, margin: float, p: float = 1.0) -> Pair:
    """Pair of a better and a worse response to one prompt, with the judge's margin and the label's probability."""
    return Pair(compact(chosen.prompt_ids), compact(chosen.response_ids), compact(rejected.response_ids), margin, p)
