"""Token trees: sequences that share stems, laid out so that every distinct token is computed once.

Two responses under one prompt, or 120 follow-ups under one response, are branches of one stem. `pack` lays trees one
after another in a single row without padding; the log-probabilities that `uptake.models.scorer` reads off that row are
those of the plain sequences, to rounding.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

import torch
from jaxtyping import Float, Int
from torch import Tensor

from uptake.errors import InputError
from uptake.types import TokenIds

# Tokens that all trees of a row begin with are laid out once from this many on.
WORTH_SHARING = 16


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


def pack(trees: Sequence[TokenTree], *, lean: bool = False) -> Packed:
    """Lay trees one after another in one row.

    A `lean` row is for log-probabilities alone. It leaves out what none of them needs, the last token of every scored
    leaf, and holds once what all trees begin with: the instructions of a judge, a system prompt.
    """
    row = _Row([], [], [], [])
    stem = _shared_stem(trees) if lean else 0
    if stem:
        row.append(trees[0].nodes[0].ids[:stem], 0, ())
    scored = 0
    for tree in trees:
        scored = _lay_out(tree, row, scored, stem, lean)
    table = torch.tensor(row.wanted, dtype=torch.long).reshape(-1, 4)
    sources, target_source = torch.unique(table[:, 0], return_inverse=True)
    return Packed(
        ids=torch.tensor(row.ids, dtype=torch.long),
        positions=torch.tensor(row.positions, dtype=torch.long),
        targets=table[:, 2].contiguous(),
        target_positions=table[:, 1].contiguous(),
        sources=sources,
        target_source=target_source,
        owner=table[:, 3].contiguous(),
        scored_nodes=scored,
        segments=tuple(row.segments),
        trees=tuple(trees),
        lean=lean,
    )


def batches(trees: Sequence[TokenTree], budget: int) -> Iterator[tuple[range, Packed]]:
    """Pack trees, in order, into lean rows of at most `budget` tokens; a larger tree gets a row of its own.

    Yields the range of tree indices in each row beside the row.
    """
    start, whole, stem = 0, 0, 0
    for index, tree in enumerate(trees):
        alike = min(stem, _alike(trees[start], tree))
        if whole and whole + len(tree) - (index - start) * _worth_sharing(alike) > budget:
            yield range(start, index), pack(trees[start:index], lean=True)
            start, whole = index, 0
        stem = alike if whole else _alike(tree, tree)
        whole += len(tree)
    if whole:
        yield range(start, len(trees)), pack(trees[start:], lean=True)


@dataclass(frozen=True, slots=True)
class _Row:
    """A packed row in the making; `wanted` holds (source, target position, target id, scored node)."""

    ids: list[int]
    positions: list[int]
    wanted: list[tuple[int, int, int, int]]
    segments: list[Segment]

    def append(self, ids: Sequence[int], depth: int, path: tuple[int, ...]) -> int:
        """Lay out a segment of its own; returns its number."""
        self.segments.append(Segment(len(self.ids), len(self.ids) + len(ids), path))
        self._extend(ids, depth)
        return len(self.segments) - 1

    def prolong(self, number: int, ids: Sequence[int], depth: int) -> int:
        """Lay out the rest of a segment that ends where the row ends; returns its number."""
        old = self.segments[number]
        self.segments[number] = Segment(old.start, old.stop + len(ids), old.path)
        self._extend(ids, depth)
        return number

    def _extend(self, ids: Sequence[int], depth: int) -> None:
        self.positions.extend(range(depth, depth + len(ids)))
        self.ids.extend(ids)


def _shared_stem(trees: Sequence[TokenTree]) -> int:
    """How many tokens all trees begin with, where that is worth a segment of its own; else 0."""
    return _worth_sharing(min((_alike(trees[0], tree) for tree in trees[1:]), default=0))


def _alike(one: TokenTree, other: TokenTree) -> int:
    """How many tokens two trees could share; of every root one stays its own, for its branches to hang from."""
    roots = one.nodes[0], other.nodes[0]
    if any(root.scored for root in roots):
        return 0
    pairs = zip(roots[0].ids[:-1], roots[1].ids[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], pairs))


def _worth_sharing(stem: int) -> int:
    return stem if stem >= WORTH_SHARING else 0


def _lay_out(tree: TokenTree, row: _Row, scored: int, stem: int, lean: bool) -> int:
    """Append a tree, without the first `stem` tokens of its root; returns the number of scored nodes by then.

    A node that is its parent's only child and follows it directly continues the parent's segment, so that a prompt with
    one response is attended to as one plain causal sequence.
    """
    leaves = set(range(len(tree.nodes))) - {node.parent for node in tree.nodes}
    remaining = [
        node.ids[:-1] if lean and node.scored and index in leaves and (index or len(node.ids) > 1) else node.ids
        for index, node in enumerate(tree.nodes)
    ]
    children = Counter(node.parent for node, ids in zip(tree.nodes, remaining, strict=True) if ids)
    home: list[int] = []
    last: list[int] = []
    depth: list[int] = []
    for index, node in enumerate(tree.nodes):
        parent, ids = node.parent, remaining[index]
        first = len(row.ids)
        depth.append(depth[parent] + len(remaining[parent]) if index else stem)
        if index == 0:
            remaining[0] = ids = ids[stem:]
            home.append(row.append(ids, stem, (0,) if stem else ()))
        elif not ids:
            home.append(home[parent])
        elif children[parent] == 1 and last[parent] == first - 1:
            home.append(row.prolong(home[parent], ids, depth[index]))
        else:
            home.append(row.append(ids, depth[index], (*row.segments[home[parent]].path, home[parent])))
        last.append(len(row.ids) - 1)
        if node.scored:
            row.wanted.extend(_predictions(node.ids, first, len(ids), last[parent] if index else None, scored))
            scored += 1
    return scored


def _predictions(
    ids: Sequence[int], first: int, length: int, previous: int | None, owner: int
) -> Iterator[tuple[int, int, int, int]]:
    """(source, target position, target, owner) of the tokens of a node at row position `first`, after `previous`.

    The position of a token that is not laid out is -1.
    """
    for index, token in enumerate(ids):
        source = previous if index == 0 else first + index - 1
        if source is not None:
            yield source, first + index if index < length else -1, token, owner
