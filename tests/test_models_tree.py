"""Token trees: the layout by hand, and the property that packing changes no number."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import forest, long_forest, plain_logps, random_ids, ready, tiny, twin
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from uptake.errors import InputError
from uptake.models import LanguageModel, Node, TokenTree, batches, branches, pack, score_trees, token_logps
from uptake.models.tree import WORTH_SHARING, Segment

# Transformers' eager Llama computes its softmax in fp32 whatever the model's dtype; SDPA and the eager GPT-2 do not.
ROADS = (("Llama", "sdpa"), ("GPT2", "eager"))
EXACT = 1e-9


@cache
def both(family: str, attention: str) -> tuple[LanguageModel, PreTrainedModel]:
    """A float64 model that scores trees, and a second one that reads plain rows."""
    model = tiny(family, dtype=torch.float64)
    other = twin(model, attention)
    for one in (model, other):
        double_norms(one)
    lm = ready(model)
    assert lm.attention == "tree"
    return lm, other


def double_norms(model: PreTrainedModel) -> None:
    """Give a Llama norms in its own dtype; those of Transformers are fp32 always."""
    for module in list(model.modules()):
        for name, norm in module.named_children():
            if isinstance(norm, LlamaRMSNorm):
                own = nn.RMSNorm(norm.weight.shape, norm.variance_epsilon, dtype=norm.weight.dtype)
                own.load_state_dict(norm.state_dict())
                setattr(module, name, own)


def gradients(model: PreTrainedModel, logps: Tensor, weights: Tensor) -> list[Tensor]:
    total = (logps * weights).sum()
    found = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    return [torch.zeros(()) if one is None else one for one in found]


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


def test_equal_prompts_keep_a_token_of_their_own() -> None:
    begin = tuple(range(50, 50 + WORTH_SHARING))
    packed = pack([branches((*begin, 1), (2, 3)), branches((*begin, 1), (4, 3))], lean=True)
    assert packed.ids.tolist() == [*begin, 1, 2, 1, 4]
    short = pack([branches(begin, (2, 3)), branches(begin, (4, 3))], lean=True)
    assert short.ids.tolist() == [*begin, 2, *begin, 4]


def test_chains_are_one_segment() -> None:
    chain = TokenTree((Node((1, 2)), Node((3,), 0), Node((4, 5), 1), Node((6,), 2), Node((7,), 2)))
    packed = pack((chain,))
    assert packed.segments == (Segment(0, 5, ()), Segment(5, 6, (0,)), Segment(6, 7, (0,)))
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 5, 5]


def test_an_only_child_that_does_not_follow_its_parent_is_a_segment_of_its_own() -> None:
    breadth_first = TokenTree((Node((1,)), Node((2,), 0), Node((3,), 0), Node((4,), 1), Node((5,), 2)))
    packed = pack((breadth_first,))
    assert [segment.path for segment in packed.segments] == [(), (0,), (0,), (0, 1), (0, 2)]
    assert packed.positions.tolist() == [0, 1, 1, 2, 2]


def test_sums_and_means_by_hand() -> None:
    packed = pack((branches((1, 2), (3, 4), (5,)),))
    logps = torch.tensor([-1.0, -2.0, -5.0])
    assert packed.node_sums(logps).tolist() == [-3.0, -5.0]
    assert packed.node_means(logps).tolist() == [-1.5, -5.0]
    assert [part.tolist() for part in packed.per_node(logps)] == [[-1.0, -2.0], [-5.0]]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((Node((1,)), Node((), 0)), "node 1 of a token tree is empty"),
        ((Node((1,)), Node((2,), 1)), "node 1 of a token tree has parent 1"),
        ((Node((1,)), Node((2,), -1)), "node 1 of a token tree has parent -1"),
        ((Node((1,), 0),), "node 0 of a token tree has parent 0"),
    ],
)
def test_malformed_trees_are_refused(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TokenTree(nodes)


def test_batches_keep_order_and_budget() -> None:
    trees = [branches((1,) * size, (2,)) for size in (3, 4, 20, 1, 1)]  # 4, 5, 21, 2, 2 tokens
    found = list(batches(trees, 9))
    assert [list(indices) for indices, _ in found] == [[0, 1], [2], [3, 4]]
    # What a budget counts is an upper bound: the last token of a leaf is left out.
    assert [len(packed) for _, packed in found] == [7, 20, 2]


def test_a_budget_counts_once_what_all_trees_begin_with() -> None:
    begin = tuple(range(50, 50 + WORTH_SHARING))
    trees = [branches((*begin, own, own), (2, 3)) for own in range(5)]  # 20 tokens each, 16 of them shared
    for budget, sizes in ((WORTH_SHARING + 12, [3, 2]), (WORTH_SHARING + 11, [2, 2, 1]), (WORTH_SHARING, [1] * 5)):
        found = list(batches(trees, budget))
        assert [len(indices) for indices, _ in found] == sizes
        assert all(len(packed) <= budget for indices, packed in found if len(indices) > 1)
    # One that begins differently shares nothing, and from then on no tree of its row does.
    mixed = [*trees[:2], branches((9,) * 18, (2, 3)), *trees[2:]]
    assert [list(indices) for indices, _ in batches(mixed, 24)] == [[0, 1], [2], [3, 4], [5]]


# A node to be: its ids, its parent among the nodes before it (modulo their number), and whether it is scored. Trees are
# made of them in the test itself, since the run-time type checks draw random numbers, which Hypothesis forbids.
DRAFTS = st.lists(
    st.tuples(st.lists(st.integers(0, 96), min_size=1, max_size=6), st.integers(0, 719), st.booleans()),
    min_size=1,
    max_size=7,
)


def tree_of(draft: list[tuple[list[int], int, bool]]) -> TokenTree:
    nodes = [
        Node(tuple(ids), parent % index if index else -1, scored) for index, (ids, parent, scored) in enumerate(draft)
    ]
    return TokenTree((*nodes, Node((7, 5), len(nodes) - 1)))


@pytest.mark.parametrize("road", ROADS)
@settings(max_examples=15)
@given(st.lists(DRAFTS, min_size=1, max_size=4))
def test_random_trees_score_and_train_like_plain_rows(
    road: tuple[str, str], drafts: list[list[tuple[list[int], int, bool]]]
) -> None:
    lm, other = both(*road)
    several = [tree_of(draft) for draft in drafts]
    packed = pack(several)
    found, expected = token_logps(lm, packed), plain_logps(other, several)
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=0)
    weights = torch.linspace(-1, 1, len(found), dtype=torch.float64).sin()
    for ours, theirs in zip(gradients(lm.base, found, weights), gradients(other, expected, weights), strict=True):
        torch.testing.assert_close(ours, theirs.to(ours), atol=EXACT, rtol=EXACT)


@pytest.mark.parametrize("road", ROADS)
@settings(max_examples=15)
@given(st.lists(DRAFTS, min_size=1, max_size=4), st.integers(WORTH_SHARING, 90))
def test_lean_rows_score_and_train_like_plain_rows(
    road: tuple[str, str], drafts: list[list[tuple[list[int], int, bool]]], stem: int
) -> None:
    lm, other = both(*road)
    several = [under(random_ids(stem, 0), tree_of(draft)) for draft in drafts]
    packed = pack(several, lean=True)
    assert len(packed) < sum(map(len, several))
    found, expected = token_logps(lm, packed), plain_logps(other, several)
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=0)
    weights = torch.linspace(-1, 1, len(found), dtype=torch.float64).sin()
    for ours, theirs in zip(gradients(lm.base, found, weights), gradients(other, expected, weights), strict=True):
        torch.testing.assert_close(ours, theirs.to(ours), atol=EXACT, rtol=EXACT)


def test_lean_rows_of_models_in_padded_rows() -> None:
    lm = replace(both(*ROADS[0])[0], attention="rows")
    several = [under(random_ids(20, 0), tree) for tree in forest()]
    for lean in (False, True):
        found = token_logps(lm, pack(several, lean=lean))
        torch.testing.assert_close(found, plain_logps(both(*ROADS[0])[1], several), atol=EXACT, rtol=0)


def under(stem: tuple[int, ...], tree: TokenTree) -> TokenTree:
    """The tree with its root under an unscored stem."""
    return TokenTree((Node(stem, scored=False), *(Node(node.ids, node.parent + 1, node.scored) for node in tree.nodes)))


@pytest.mark.parametrize("road", ROADS)
def test_long_branches_score_and_train_like_plain_rows(road: tuple[str, str]) -> None:
    lm, other = both(*road)
    found, expected = token_logps(lm, pack(long_forest())), plain_logps(other, long_forest())
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=0)
    weights = torch.linspace(-1, 1, len(found), dtype=torch.float64).sin()
    for ours, theirs in zip(gradients(lm.base, found, weights), gradients(other, expected, weights), strict=True):
        torch.testing.assert_close(ours, theirs.to(ours), atol=EXACT, rtol=EXACT)


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_order_and_rows_do_not_matter(budget: int) -> None:
    lm, other = both(*ROADS[0])
    several = [*forest(), *long_forest()]
    order = [4, 0, 3, 5, 1, 2]
    found = score_trees(lm, [several[index] for index in order], budget)
    for index, nodes in zip(order, found, strict=True):
        if nodes and len(torch.cat(nodes)):
            expected = plain_logps(other, [several[index]])
            torch.testing.assert_close(torch.cat(nodes), expected, atol=EXACT, rtol=0)


def test_a_tree_without_wanted_tokens_gives_none() -> None:
    lm, _ = both(*ROADS[0])
    assert token_logps(lm, pack((TokenTree((Node((1, 2, 3), scored=False),)),))).shape == (0,)
