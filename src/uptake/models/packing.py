"""Packing of token trees: one row without padding, in which every distinct token is computed once.

The trees of a row are a forest. What several of them begin with is laid out once, and what some of these go on with
under it, as many levels of shared stems as there are: a system prompt, a prompt, a response.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import torch

from uptake.models.tree import Packed, Segment, TokenTree
from uptake.types import TokenIds

# Runs that begin with as many equal tokens share them; shorter ones are shared where they are equal as a whole.
WORTH_SHARING = 16


def pack(trees: Sequence[TokenTree], *, lean: bool = False, shared: bool = True) -> Packed:
    """Lay trees in one row, depth first, and what several begin with once.

    A `lean` row is for log-probabilities alone and leaves out what none of them needs, the last token of every scored
    leaf. In a row that is not `shared` every tree stands by itself.
    """
    stretches = [_stretches(tree, lean) for tree in trees]
    roots = [of_tree[0].run for of_tree in stretches]
    ids, depths, segments = _laid_out(_groups(roots) if shared else [[root] for root in roots])
    sources, positions, targets, lengths = _wanted(trees, stretches)
    distinct, target_source = torch.unique(torch.tensor(sources, dtype=torch.long), return_inverse=True)
    return Packed(
        ids=torch.tensor(ids, dtype=torch.long),
        positions=torch.tensor(depths, dtype=torch.long),
        targets=torch.tensor(targets, dtype=torch.long),
        target_positions=torch.tensor(positions, dtype=torch.long),
        sources=distinct,
        target_source=target_source,
        owner=torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths, dtype=torch.long)),
        scored_nodes=len(lengths),
        segments=tuple(segments),
        trees=tuple(trees),
        lean=lean,
    )


def batches(trees: Sequence[TokenTree], budget: int) -> Iterator[tuple[range, Packed]]:
    """Pack trees, in order, into lean rows of at most `budget` tokens; a larger tree gets a row of its own.

    Yields the range of tree indices in each row beside the row.
    """
    for row in cut(trees, budget):
        yield row, pack(trees[row.start : row.stop], lean=True)


def cut(trees: Sequence[TokenTree], budget: int) -> list[range]:
    """Cut trees, in order, into rows of at most `budget` tokens; a larger tree gets a row of its own.

    Of all cuts, the one whose rows have the fewest tokens in all, so that trees that share much stay together; of these
    one with the fewest rows. Counted as shared is what a tree has in common with the one before it (`side_by_side`).
    """
    sizes, alike = list(map(len, trees)), [0, *map(_surely_shared, trees, trees[1:])]
    # From each tree on: the tokens of its rows, their number, and minus where the first of them stops.
    best = [(0, 0, 0)] * (len(trees) + 1)
    for start in reversed(range(len(trees))):
        ways: list[tuple[int, int, int]] = []
        tokens = alike[start]
        for stop in range(start + 1, len(trees) + 1):
            tokens += sizes[stop - 1] - alike[stop - 1]
            if tokens > budget and ways:
                break
            ways.append((tokens + best[stop][0], 1 + best[stop][1], -stop))
        best[start] = min(ways)
    rows: list[range] = []
    while (start := rows[-1].stop if rows else 0) < len(trees):
        rows.append(range(start, -best[start][2]))
    return rows


def side_by_side(trees: Sequence[TokenTree]) -> list[int]:
    """Indices of trees in an order that has those side by side that begin alike."""
    return sorted(range(len(trees)), key=lambda index: [tuple(node.ids) for node in trees[index].nodes])


def _surely_shared(one: TokenTree, other: TokenTree) -> int:
    """How many tokens two trees share in a row, by their roots, whatever else is in the row.

    A stem ends up to `WORTH_SHARING - 1` tokens early where another ends just before.
    """
    return max(0, _alike(one.nodes[0].ids, other.nodes[0].ids) - WORTH_SHARING + 1)


def _alike(one: TokenIds, other: TokenIds) -> int:
    """How many tokens two runs begin with alike."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(one, other, strict=False)))


@dataclass(slots=True)
class _Run:
    """Tokens of a tree that no branch interrupts, the row positions of those laid out so far, and what comes after."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    branches: list["_Run"] = field(default_factory=list)

    @property
    def left(self) -> list[int]:
        """The tokens that are not laid out yet."""
        return self.ids[len(self.positions) :]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """The tokens of a node that are laid out: those of a run from `start` to `stop`."""

    run: _Run
    start: int
    stop: int


def _stretches(tree: TokenTree, lean: bool) -> list[_Stretch]:
    """Every node's stretch; a node and its only child are in one run."""
    inner = {node.parent for node in tree.nodes}
    sizes = [
        len(node.ids) - (lean and node.scored and index not in inner and (index > 0 or len(node.ids) > 1))
        for index, node in enumerate(tree.nodes)
    ]
    children = Counter(node.parent for node, size in zip(tree.nodes, sizes, strict=True) if size)
    found: list[_Stretch] = []
    for node, size in zip(tree.nodes, sizes, strict=True):
        before = found[node.parent] if found else _Stretch(_Run(), 0, 0)
        run, start = before.run, before.stop
        if found and size and children[node.parent] > 1:
            run, start = _Run(), 0
            before.run.branches.append(run)
        run.ids.extend(node.ids[:size])
        found.append(_Stretch(run, start, start + size))
    return found


def _laid_out(roots: Sequence[list[_Run]]) -> tuple[list[int], list[int], list[Segment]]:
    """Ids, depths and segments of a row: the groups, depth first, each with what it shares before what comes after.

    What alone comes after a segment continues it, so that a prompt with one response is attended to as one plain causal
    sequence.
    """
    ids: list[int] = []
    depths: list[int] = []
    segments: list[Segment] = []
    todo: list[tuple[list[_Run], int, tuple[int, ...]]] = [(group, 0, ()) for group in reversed(roots)]
    while todo:
        group, depth, path = todo.pop()
        start, groups = len(ids), [group]
        while len(groups) == 1:
            stem, after = _share(groups[0], len(ids))
            ids.extend(stem)
            groups = _groups(after)
        length = len(ids) - start
        depths.extend(range(depth, depth + length))
        below = (*path, len(segments))
        segments.append(Segment(start, len(ids), path))
        todo.extend((each, depth + length, below) for each in reversed(groups))
    return ids, depths, segments


def _share(group: Sequence[_Run], position: int) -> tuple[list[int], list[_Run]]:
    """What all runs of a group begin with, laid out at a row position, and the runs that come after it."""
    left = [run.left for run in group]
    first, last = min(left), max(left)
    stem = first if first == last else first[: _alike(first, last)]
    after: list[_Run] = []
    for run, ids in zip(group, left, strict=True):
        run.positions.extend(range(position, position + len(stem)))
        after.extend([run] if len(ids) > len(stem) else run.branches)
    return stem, after


def _groups(runs: Sequence[_Run]) -> list[list[_Run]]:
    """Runs that share tokens together, in order of the first of each group."""
    groups: defaultdict[tuple[int, ...], list[_Run]] = defaultdict(list)
    for run in runs:
        start = len(run.positions)
        groups[tuple(run.ids[start : start + WORTH_SHARING])].append(run)
    return list(groups.values())


def _wanted(
    trees: Sequence[TokenTree], stretches: Sequence[Sequence[_Stretch]]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Source, row position (-1: not laid out) and id of every wanted token, and how many each scored node has."""
    sources: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    for tree, of_tree in zip(trees, stretches, strict=True):
        for index, (node, each) in enumerate(zip(tree.nodes, of_tree, strict=True)):
            if node.scored:
                before = of_tree[node.parent] if index else each
                known = each.run.positions[each.start : each.stop]
                known = [before.run.positions[before.stop - 1], *known] if index else known
                length = len(node.ids) - (index == 0)
                sources.extend(known[:length])
                positions.extend([*known[1:], -1][:length])
                targets.extend(node.ids[-length:] if length else ())
                lengths.append(length)
    return sources, positions, targets, lengths
