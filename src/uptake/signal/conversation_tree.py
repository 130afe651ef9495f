"""Rollouts that continue each other: several stretches of one conversation that carry loss."""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.models import Node, TokenTree
from uptake.signal.as_given import Examples
from uptake.types import Judgement, Rollout


@dataclass(frozen=True)
class ConversationTrees:
    """Every conversation is one tree without branches: its rollouts one after another, the responses scored.

    A conversation begins with sample 0; one whose response is empty is left out and counted.
    """

    def __call__(self, rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> Examples:
        conversations: list[list[Rollout]] = []
        for rollout in rollouts:
            if rollout.sample == 0:
                conversations.append([])
            conversations[-1].append(rollout)
        trees = tuple(_chain(each) for each in conversations if each[0].response_ids)
        dropped = {"last exchange longer than the window": len(conversations) - len(trees)}
        return Examples(trees, {"samples": len(conversations), "kept": len(trees), "dropped": dropped})


def _chain(rollouts: Sequence[Rollout]) -> TokenTree:
    runs = [run for each in rollouts for run in ((each.prompt_ids, False), (each.response_ids, True)) if run[0]]
    return TokenTree(tuple(Node(ids, index - 1, scored) for index, (ids, scored) in enumerate(runs)))
