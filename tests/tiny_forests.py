"""Drafts of token trees for Hypothesis, and the forests that are made of them.

Trees are made in the test itself, since the run-time type checks draw random numbers, which Hypothesis forbids.
"""

from hypothesis import strategies as st
from tiny_models import VOCABULARY, random_ids

from uptake.models import Node, TokenTree
from uptake.models.packing import WORTH_SHARING

# A node to be: its ids, its parent among the nodes before it (modulo their number), and whether it is scored.
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


# A forest to be: of every tree the stems that it begins with, each one of two after those before it, the percentage of
# them at which its root ends, and a tree below. So trees share up to three levels of stems, or none.
FORESTS = st.lists(
    st.tuples(st.lists(st.integers(0, 1), max_size=3), st.integers(0, 100), DRAFTS), min_size=1, max_size=6
)
Drafts = list[tuple[list[int], int, list[tuple[list[int], int, bool]]]]


def forest_of(
    drafts: Drafts, seed: int, shortest: int = WORTH_SHARING, vocabulary: int = VOCABULARY
) -> list[TokenTree]:
    trees = []
    for stems, percent, draft in drafts:
        begin: tuple[int, ...] = ()
        for level in range(len(stems)):
            name = 1000 * seed + int("".join(map(str, (7, *stems[: level + 1]))))
            begin += random_ids(shortest + name % (60 - shortest), name, vocabulary)
        end, tree = len(begin) * percent // 100, tree_of(draft)
        tree = under(begin[end:], tree) if begin[end:] else tree
        trees.append(under(begin[:end], tree) if begin[:end] else tree)
    return trees


def under(stem: tuple[int, ...], tree: TokenTree) -> TokenTree:
    """The tree with its root under an unscored stem."""
    return TokenTree((Node(stem, scored=False), *(Node(node.ids, node.parent + 1, node.scored) for node in tree.nodes)))
