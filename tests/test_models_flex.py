"""FlexAttention's mask against the matrix products, uncompiled; and the depth-first numbers by hand."""

import pytest
import torch
from tiny_models import forest, long_forest, random_ids, ready, tiny

from uptake.models import Node, TokenTree, pack
from uptake.models.attention import Scores, TreeAttention
from uptake.models.flex import FlexAttend, _walk
from uptake.models.scorer import attend_for, tree_logps
from uptake.models.tree import Segment

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


def test_walk_numbers_by_hand() -> None:
    # Breadth first: root, two children, a child of the first, a child of the second, and another tree.
    paths = ((), (0,), (0,), (0, 1), (0, 2), ())
    enter, leave = _walk([Segment(index, index + 1, path) for index, path in enumerate(paths)])
    assert enter == [0, 1, 3, 2, 4, 5]
    assert leave == [5, 3, 5, 3, 5, 6]


def deep_forest() -> list[TokenTree]:
    """Stems of stems, which trees of unlike shape share."""
    system, prompt, answer = (random_ids(length, length) for length in (40, 25, 70))
    return [
        TokenTree((Node((*system, *prompt, *answer), scored=False), Node((7, 8, 9), 0), Node((8, 9), 0))),
        TokenTree((Node((*system, *prompt)), Node(answer, 0), Node((9, 9, 9), 1))),
        TokenTree((Node((*system, *prompt), scored=False), Node((4, 5, 6), 0))),
        TokenTree((Node((*system, 6)), Node((1, 2), 0), Node(random_ids(80, 1), 0))),
    ]


@pytest.mark.parametrize("scores", [Scores(0.3), Scores(0.3, softcap=2.0), Scores(0.3, window=5), Scores(0.3, 2.0, 30)])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_flex_sees_what_the_products_see(scores: Scores, kv_heads: int) -> None:
    packed = pack([*forest(), *long_forest(), *deep_forest()])
    assert max(len(segment.path) for segment in packed.segments) == 3
    torch.manual_seed(0)
    query = torch.randn(1, 4, len(packed), 16)
    key, value = torch.randn(2, 1, kv_heads, len(packed), 16).unbind()
    flex = FlexAttend(packed.segments, CPU, compiled=False)
    products = TreeAttention(packed.segments, CPU)
    for layer in range(2):
        found = flex(layer, query, key, value, scores)
        expected = products(layer, query, key, value, scores)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["Gemma2", "Llama"])
def test_a_model_scores_the_same_through_flex(family: str) -> None:
    lm = ready(tiny(family))
    packed = pack([*forest(), *deep_forest()])
    with torch.no_grad():
        found, expected = (
            tree_logps(lm, packed, attend)
            for attend in (FlexAttend(packed.segments, CPU, compiled=False), TreeAttention(packed.segments, CPU))
        )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_rows_of_all_lengths_are_compiled_for_few() -> None:
    lengths = range(1, 1025, 31)
    masks = [FlexAttend([Segment(0, length, ())], CPU, compiled=False)._mask(None) for length in lengths]
    assert {mask.seq_lengths for mask in masks} == {(size, size) for size in range(128, 1025, 128)}


def test_a_cpu_gets_the_products() -> None:
    assert isinstance(attend_for(pack(forest()).segments, CPU), TreeAttention)
