"""Examples exactly as the data set gives them: pairs to prefer, or texts to imitate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uptake.data.where import bad_row
from uptake.models import Node, TokenTree, branches
from uptake.types import Judgement, Pair, Rollout


@dataclass(frozen=True)
class Examples:
    """Training examples with the figures that are logged about them."""

    examples: tuple[Any, ...]
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class AsGiven:
    """Consecutive rollouts form a pair, the higher judgement chosen; equal responses give no pair.

    Raises InputError for a row that has one response only.
    """

    def __call__(self, rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> Examples:
        pairs = []
        for index in range(0, len(rollouts), 2):
            first = rollouts[index]
            if [rollout.sample for rollout in rollouts[index : index + 2]] != [0, 1]:
                raise bad_row("this row has one response", first.prompt.where, allowed="chosen and rejected")
            second, one, two = rollouts[index + 1], *judgements[index : index + 2]
            if first.response_ids != second.response_ids:
                chosen, rejected = (first, second) if one.score >= two.score else (second, first)
                pairs.append(Pair(chosen, rejected, abs(one.score - two.score)))
        dropped = {"equal responses": len(rollouts) // 2 - len(pairs)}
        return Examples(tuple(pairs), {"samples": len(rollouts), "pairs": len(pairs), "dropped": dropped})


@dataclass(frozen=True)
class Imitate:
    """Every rollout is a text to imitate: its response after its prompt, or all of it without prompt tokens."""

    def __call__(self, rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> Examples:
        trees = tuple(
            branches(rollout.prompt_ids, rollout.response_ids)
            if rollout.prompt_ids
            else TokenTree((Node(rollout.response_ids),))
            for rollout in rollouts
        )
        return Examples(trees, {"samples": len(rollouts)})
