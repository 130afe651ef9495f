"""Token trees: sequences that share stems, laid out so that every distinct token is computed once.

Two responses under one prompt, or 120 follow-ups under one response, are branches of one stem. `pack` lays trees one
after another in a single row without padding; the log-probabilities that `uptake.models.scorer` reads off that row are
those of the plain sequences, to rounding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from uptake.errors import InputError


@dataclass(frozen=True, slots=True)
class Node:
    """A run of token ids after the node at index `parent` (-1: the root); `scored` asks for its log-probabilities."""

    ids: tuple[int, ...]
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

    Wanted log-probabilities are ordered by tree, node and token. The i-th wanted token stands at row position
    `target_positions[i]` and is predicted from row position `sources[target_source[i]]`; `owner[i]` numbers its node
    among all scored nodes (`scored_nodes`).
    """

    ids: Int[Tensor, " tokens"]
    positions: Int[Tensor, " tokens"]
    target_positions: Int[Tensor, " wanted"]
    sources: Int[Tensor, " sources"]
    target_source: Int[Tensor, " wanted"]
    owner: Int[Tensor, " wanted"]
    scored_nodes: int
    segments: tuple[Segment, ...]

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    @cached_property
    def targets(self) -> Int[Tensor, " wanted"]:
        """The wanted token ids."""
        return self.ids[self.target_positions]

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


def pack(trees: Sequence[TokenTree]) -> Packed:
    """Lay trees one after another in one row."""
    ids: list[int] = []
    positions: list[int] = []
    wanted: list[tuple[int, int, int]] = []  # source position, target position, scored node
    segments: list[Segment] = []
    scored = 0
    for tree in trees:
        last, depth = _lay_out(tree, len(ids), segments)
        for index, node in enumerate(tree.nodes):
            first = len(ids)
            positions.extend(range(depth[index], depth[index] + len(node.ids)))
            if node.scored:
                previous = last[node.parent] if index else None
                wanted.extend(_predictions(len(node.ids), first, previous, scored))
                scored += 1
            ids.extend(node.ids)
    table = torch.tensor(wanted, dtype=torch.long).reshape(-1, 3)
    sources, target_source = torch.unique(table[:, 0], return_inverse=True)
    return Packed(
        ids=torch.tensor(ids, dtype=torch.long),
        positions=torch.tensor(positions, dtype=torch.long),
        target_positions=table[:, 1].contiguous(),
        sources=sources,
        target_source=target_source,
        owner=table[:, 2].contiguous(),
        scored_nodes=scored,
        segments=tuple(segments),
    )


def batches(trees: Sequence[TokenTree], budget: int) -> Iterator[tuple[range, Packed]]:
    """Pack trees, in order, into rows of at most `budget` tokens; a tree larger than that gets a row of its own.

    Yields the range of tree indices in each row beside the row.
    """
    start, used = 0, 0
    for index, tree in enumerate(trees):
        if used and used + len(tree) > budget:
            yield range(start, index), pack(trees[start:index])
            start, used = index, 0
        used += len(tree)
    if used:
        yield range(start, len(trees)), pack(trees[start:])


def _predictions(length: int, first: int, previous: int | None, owner: int) -> Iterator[tuple[int, int, int]]:
    """(source, target, owner) of every token of a node that starts at row position `first` after `previous`."""
    if previous is not None:
        yield previous, first, owner
    for target in range(first + 1, first + length):
        yield target - 1, target, owner


def _lay_out(tree: TokenTree, base: int, segments: list[Segment]) -> tuple[list[int], list[int]]:
    """Append the tree's segments; return each node's last row position and the depth of its first token.

    A node that is its parent's only child and follows it directly continues the parent's segment, so that a prompt with
    one response is attended to as one plain causal sequence.
    """
    children = [0] * len(tree.nodes)
    for node in tree.nodes[1:]:
        children[node.parent] += 1
    last: list[int] = []
    depth: list[int] = []
    home: list[int] = []
    start = base
    for index, node in enumerate(tree.nodes):
        stop = start + len(node.ids)
        parent = node.parent
        if index == 0:
            home.append(_append(segments, Segment(start, stop, ())))
        elif children[parent] == 1 and last[parent] == start - 1:
            home.append(home[parent])
            old = segments[home[parent]]
            segments[home[parent]] = Segment(old.start, stop, old.path)
        else:
            path = (*segments[home[parent]].path, home[parent])
            home.append(_append(segments, Segment(start, stop, path)))
        depth.append(depth[parent] + len(tree.nodes[parent].ids) if index else 0)
        last.append(stop - 1)
        start = stop
    return last, depth


def _append(segments: list[Segment], segment: Segment) -> int:
    segments.append(segment)
    return len(segments) - 1
