"""Token trees: sequences that share stems.

Two responses under one prompt, or 120 follow-ups under one response, are branches of one stem. Packed trees are one row
without padding (`uptake.models.packing`); the log-probabilities that `uptake.models.scorer` reads off that row are
those of the plain sequences, to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from uptake.errors import InputError
from uptake.types import TokenIds


@dataclass(frozen=True, slots=True)
class Node:
    """A run of token ids after the node at index `parent` (-1: the root); `scored` asks for its log-probabilities."""

    ids: TokenIds
    parent: int = -1
    scored: bool = True


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Nodes in an order where parents come first; node 0 is the only root.

    The first token of the root has nothing to be predicted from, so it never gets a log-probability.
    `TokenTree((Node((1, 7), scored=False), Node((4, 2), 0), Node((5, 2), 0)))` is one prompt with two responses.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        for index, node in enumerate(self.nodes):
            if not node.ids:
                raise InputError(f"node {index} of a token tree is empty", allowed="at least one token id")
            if node.parent >= index or (node.parent < 0) != (index == 0):
                raise InputError(
                    f"node {index} of a token tree has parent {node.parent}",
                    allowed=f"-1 for node 0, else 0 to {index - 1}",
                )

    def __len__(self) -> int:
        return sum(len(node.ids) for node in self.nodes)


def branches(stem: Sequence[int], *continuations: Sequence[int]) -> TokenTree:
    """One unscored stem with scored branches: `branches(prompt, chosen, rejected)`."""
    return TokenTree((Node(tuple(stem), scored=False), *(Node(tuple(ids), 0) for ids in continuations)))


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of the packed row that no branch interrupts: tokens `start` to `stop`, after those of the `path`."""

    start: int
    stop: int
    path: tuple[int, ...]

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Packed:
    """Trees in one row: what a model reads and what is asked of it.

    Wanted log-probabilities are ordered by tree, node and token. The i-th wanted token, `targets[i]`, stands at row
    position `target_positions[i]` (-1 where a lean row leaves it out) and is predicted from row position
    `sources[target_source[i]]`; `owner[i]` numbers its node among all scored nodes (`scored_nodes`). `trees` are what
    was laid out, and `lean` how.
    """

    ids: Int[Tensor, " tokens"]
    positions: Int[Tensor, " tokens"]
    targets: Int[Tensor, " wanted"]
    target_positions: Int[Tensor, " wanted"]
    sources: Int[Tensor, " sources"]
    target_source: Int[Tensor, " wanted"]
    owner: Int[Tensor, " wanted"]
    scored_nodes: int
    segments: tuple[Segment, ...]
    trees: tuple[TokenTree, ...]
    lean: bool

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    @cached_property
    def lengths(self) -> Int[Tensor, " nodes"]:
        """Wanted tokens per scored node."""
        return torch.bincount(self.owner, minlength=self.scored_nodes)

    def node_sums(self, logps: Float[Tensor, " wanted"]) -> Float[Tensor, " nodes"]:
        """The log-probability of each scored node: the sum over its tokens."""
        return logps.new_zeros(self.scored_nodes).index_add(0, self.owner.to(logps.device), logps)

    def node_means(self, logps: Float[Tensor, " wanted"]) -> Float[Tensor, " nodes"]:
        """The mean log-probability per token of each scored node."""
        return self.node_sums(logps) / self.lengths.to(logps.device)

    def per_node(self, logps: Float[Tensor, " wanted"]) -> tuple[Tensor, ...]:
        """The log-probabilities of each scored node, one tensor a node."""
        parts: tuple[Tensor, ...] = logps.split(self.lengths.tolist())
        return parts
