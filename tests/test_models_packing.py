"""Packing: the layout by hand, every distinct token once, and rows cut where little is shared."""

from collections.abc import Sequence
from itertools import count, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_forests import FORESTS, Drafts, forest_of
from tiny_models import path_ids, random_ids

from uptake.models import Node, TokenTree, batches, branches, pack
from uptake.models.packing import WORTH_SHARING, cut
from uptake.models.tree import Segment


def test_layout_by_hand() -> None:
    #        ┌ 3 4          ┌ 7
    #  1 2 ──┤        5 6 ──┤
    #        └ 5            └ 8 9 (unscored)
    first = TokenTree((Node((1, 2), scored=False), Node((3, 4), 0), Node((5,), 0)))
    second = TokenTree((Node((5, 6)), Node((7,), 0), Node((8, 9), 0, scored=False)))
    packed = pack((first, second))
    assert packed.ids.tolist() == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9]
    assert packed.positions.tolist() == [0, 1, 2, 3, 2, 0, 1, 2, 2, 3]
    assert packed.target_positions.tolist() == [2, 3, 4, 6, 7]
    assert packed.targets.tolist() == [3, 4, 5, 6, 7]
    assert packed.sources.tolist() == [1, 2, 5, 6]
    assert packed.sources[packed.target_source].tolist() == [1, 2, 1, 5, 6]
    assert packed.owner.tolist() == [0, 0, 1, 2, 3]
    assert packed.scored_nodes == 4
    assert packed.lengths.tolist() == [2, 1, 1, 1]
    assert packed.segments == (
        Segment(0, 2, ()),
        Segment(2, 4, (0,)),
        Segment(4, 5, (0,)),
        Segment(5, 7, ()),
        Segment(7, 8, (3,)),
        Segment(8, 10, (3,)),
    )


def test_lean_layout_by_hand() -> None:
    begin = tuple(range(50, 50 + WORTH_SHARING))
    #          ┌ 3 4          ┌ 7
    #  … 1 2 ──┤        … 5 ──┤
    #          └ 5            └ 8 9 (unscored)
    first = TokenTree((Node((*begin, 1, 2), scored=False), Node((3, 4), 0), Node((5,), 0)))
    second = TokenTree((Node((*begin, 5), scored=False), Node((7,), 0), Node((8, 9), 0, scored=False)))
    packed, stem = pack((first, second), lean=True), WORTH_SHARING
    assert packed.ids.tolist() == [*begin, 1, 2, 3, 5, 8, 9]
    assert packed.positions.tolist() == [*range(stem), stem, stem + 1, stem + 2, stem, stem + 1, stem + 2]
    assert packed.targets.tolist() == [3, 4, 5, 7]
    assert packed.target_positions.tolist() == [stem + 2, -1, -1, -1]
    assert packed.sources[packed.target_source].tolist() == [stem + 1, stem + 2, stem + 1, stem + 3]
    assert packed.owner.tolist() == [0, 0, 1, 2]
    # An only child goes on with the segment of its parent: the others are leaves that are left out.
    assert packed.segments == (Segment(0, stem, ()), Segment(stem, stem + 3, (0,)), Segment(stem + 3, stem + 6, (0,)))


def test_trees_of_one_prompt_are_branches_of_it() -> None:
    prompt = tuple(range(50, 50 + WORTH_SHARING))
    packed = pack([branches(prompt, (2, 3), (7,)), branches(prompt, (4, 3))], lean=True)
    assert packed.ids.tolist() == [*prompt, 2, 4]
    assert packed.targets.tolist() == [2, 3, 7, 4, 3]
    assert packed.sources[packed.target_source].tolist() == [15, 16, 15, 15, 17]
    assert packed.target_positions.tolist() == [16, -1, -1, 17, -1]
    assert packed.segments == (Segment(0, 16, ()), Segment(16, 17, (0,)), Segment(17, 18, (0,)))


def test_short_runs_are_shared_where_they_are_equal() -> None:
    prompt = tuple(range(50, 49 + WORTH_SHARING))
    packed = pack([branches(prompt, (2, 3), (5, 6)), branches(prompt, (2, 3), (5, 7)), branches((*prompt, 9), (2, 3))])
    assert packed.ids.tolist() == [*prompt, 2, 3, 5, 6, 5, 7, *prompt, 9, 2, 3]
    assert packed.targets.tolist() == [2, 3, 5, 6, 2, 3, 5, 7, 2, 3]
    assert packed.target_positions.tolist() == [15, 16, 17, 18, 15, 16, 19, 20, 37, 38]


def test_stems_of_stems_by_hand() -> None:
    system, prompt, answer = (tuple(range(first, first + WORTH_SHARING)) for first in (100, 200, 300))
    #                    ┌ answer ─┬ 7 8   (first tree, whose root goes on to here)
    #  system ─┬ prompt ─┤         └ 9     (third tree)
    #          │         └ 4 5             (second tree)
    #          └ 6 ─ 1 2                   (fourth tree)
    trees = [
        TokenTree((Node((*system, *prompt, *answer), scored=False), Node((7, 8), 0))),
        branches((*system, *prompt), (4, 5)),
        TokenTree((Node((*system, *prompt)), Node(answer, 0), Node((9,), 1))),
        branches((*system, 6), (1, 2)),
    ]
    packed = pack(trees)
    assert packed.ids.tolist() == [*system, *prompt, *answer, 7, 8, 9, 4, 5, 6, 1, 2]
    assert packed.positions.tolist() == [*range(48), 48, 49, 48, 32, 33, 16, 17, 18]
    assert packed.segments == (
        Segment(0, 16, ()),
        Segment(16, 32, (0,)),
        Segment(32, 48, (0, 1)),
        Segment(48, 50, (0, 1, 2)),
        Segment(50, 51, (0, 1, 2)),
        Segment(51, 53, (0, 1)),
        Segment(53, 56, (0,)),
    )
    assert packed.targets.tolist() == [7, 8, 4, 5, *system[1:], *prompt, *answer, 9, 1, 2]
    assert packed.target_positions.tolist() == [48, 49, 51, 52, *range(1, 48), 50, 54, 55]
    assert packed.sources[packed.target_source].tolist() == [47, 48, 31, 51, *range(47), 47, 53, 54]
    assert packed.lengths.tolist() == [2, 2, 31, 16, 1, 2]


def test_stems_that_end_near_one_another_end_together() -> None:
    stem, near = tuple(range(100, 116)), tuple(range(200, 200 + WORTH_SHARING))
    two, three = [branches((*stem, *near[:15]), (own, own)) for own in (1, 2)], branches(stem, (3,))
    assert pack([*two, three]).ids.tolist() == [*stem, *near[:15], 1, 1, *near[:15], 2, 2, 3]
    two = [branches((*stem, *near), (own, own)) for own in (1, 2)]
    assert pack([*two, three]).ids.tolist() == [*stem, *near, 1, 1, 2, 2, 3]


def test_a_row_that_is_not_shared_has_every_tree_in_order() -> None:
    prompt = tuple(range(50, 80))
    packed = pack([branches(prompt), branches(prompt), branches(prompt[:20])], shared=False)
    assert packed.ids.tolist() == [*prompt, *prompt, *prompt[:20]]
    assert packed.segments == (Segment(0, 30, ()), Segment(30, 60, ()), Segment(60, 80, ()))


def test_chains_are_one_segment() -> None:
    chain = TokenTree((Node((1, 2)), Node((3,), 0), Node((4, 5), 1), Node((6,), 2), Node((7,), 2)))
    packed = pack((chain,))
    assert packed.segments == (Segment(0, 5, ()), Segment(5, 6, (0,)), Segment(6, 7, (0,)))
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 5, 5]


def test_trees_are_laid_out_depth_first() -> None:
    breadth_first = TokenTree((Node((1,)), Node((2,), 0), Node((3,), 0), Node((4,), 1), Node((5,), 2)))
    packed = pack((breadth_first,))
    assert packed.ids.tolist() == [1, 2, 4, 3, 5]
    assert packed.positions.tolist() == [0, 1, 2, 1, 2]
    assert packed.segments == (Segment(0, 1, ()), Segment(1, 3, (0,)), Segment(3, 5, (0,)))
    assert packed.targets.tolist() == [2, 3, 4, 5]
    assert packed.sources[packed.target_source].tolist() == [0, 0, 1, 3]


def test_sums_and_means_by_hand() -> None:
    packed = pack((branches((1, 2), (3, 4), (5,)),))
    logps = torch.tensor([-1.0, -2.0, -5.0])
    assert packed.node_sums(logps).tolist() == [-3.0, -5.0]
    assert packed.node_means(logps).tolist() == [-1.5, -5.0]
    assert [part.tolist() for part in packed.per_node(logps)] == [[-1.0, -2.0], [-5.0]]


def test_batches_keep_order_and_budget() -> None:
    trees = [branches((size,) * size, (2,)) for size in (3, 4, 20, 1, 2)]  # 4, 5, 21, 2, 3 tokens
    found = list(batches(trees, 9))
    assert [list(indices) for indices, _ in found] == [[0, 1], [2], [3, 4]]
    # What a budget counts is an upper bound: the last token of a leaf is left out.
    assert [len(packed) for _, packed in found] == [7, 20, 3]


def test_a_budget_counts_once_what_neighbours_begin_with() -> None:
    begin = random_ids(100, 0)
    trees = [branches((*begin, own, own), (2, 3)) for own in range(5)]
    sure = 100 - WORTH_SHARING + 1  # of 104 tokens each
    for budget, sizes in ((3 * 104 - 2 * sure, [3, 2]), (3 * 104 - 2 * sure - 1, [2, 2, 1]), (104, [1] * 5)):
        found = list(batches(trees, budget))
        assert [len(indices) for indices, _ in found] == sizes
        assert all(len(packed) <= budget for indices, packed in found if len(indices) > 1)


def test_rows_are_cut_between_trees_that_share_little() -> None:
    first, second = ([branches((*random_ids(100, stem), own), (2, 3)) for own in range(4)] for stem in (0, 1))
    four = 103 + 3 * (103 - 101 + WORTH_SHARING)
    # Five trees would fit, but then the second stem would be in two rows.
    assert [list(row) for row in cut([*first, *second], four + 103)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [list(row) for row in cut([*first, *second], 2 * four)] == [list(range(8))]


@pytest.mark.parametrize("trees", [[], [branches(random_ids(30, 0), (1, 2))]])
def test_rows_of_no_tree_and_of_one_beyond_the_budget(trees: list[TokenTree]) -> None:
    assert [list(indices) for indices, _ in batches(trees, 1)] == [[0]] * len(trees)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60)), max_size=9), st.integers(1, 250))
def test_no_cut_has_fewer_tokens(drafts: list[tuple[int, int]], budget: int) -> None:
    roots = [(*random_ids(length, stem), 100 + number) for number, (stem, length) in enumerate(drafts)]
    trees = list(map(branches, roots))

    def size(row: range) -> int:
        """Tokens of a row, where a stem may end `WORTH_SHARING - 1` tokens early."""
        runs = roots[row.start : row.stop]
        alike = [next((end for end in range(60) if one[end] != other[end]), 60) for one, other in pairwise(runs)]
        return sum(map(len, runs)) - sum(max(0, each - WORTH_SHARING + 1) for each in alike)

    def fewest(stop: int) -> tuple[int, int]:
        """Tokens and rows of the best of all cuts of the trees before `stop`, tried one by one."""
        rows = [range(start, stop) for start in range(stop)]
        fits = [row for row in rows if len(row) == 1 or size(row) <= budget]
        ways = [(fewest(row.start), size(row)) for row in fits]
        return min(((tokens + more, count + 1) for (tokens, count), more in ways), default=(0, 0))

    found = cut(trees, budget)
    assert [index for row in found for index in row] == list(range(len(trees)))
    assert all(size(row) <= budget or len(row) == 1 for row in found)
    assert (sum(map(size, found)), len(found)) == fewest(len(trees))
    for indices, packed in batches(trees, budget):
        assert len(packed) <= size(indices)


def distinct_tokens(trees: Sequence[TokenTree]) -> int:
    """Tokens that come after different tokens, each counted once."""
    rows = [tuple(path_ids(tree, index)) for tree in trees for index in range(len(tree.nodes))]
    return len({row[:stop] for row in rows for stop in range(1, len(row) + 1)})


@settings(max_examples=200)
@given(FORESTS, st.integers(0, 9), st.sampled_from((1, WORTH_SHARING)))
def test_a_row_has_every_distinct_token_once(drafts: Drafts, seed: int, shortest: int) -> None:
    # Ids of their own below the stems, so that nothing else begins alike by chance.
    fresh = count(10**6)
    own = [(stems, end, [([next(fresh) for _ in ids], *rest) for ids, *rest in draft]) for stems, end, draft in drafts]
    trees = forest_of(own, seed, shortest, 10**6)
    few = (WORTH_SHARING - 1) * (len(trees) - 1) if shortest < WORTH_SHARING else 0
    assert distinct_tokens(trees) <= len(pack(trees)) <= 1.05 * distinct_tokens(trees) + few
