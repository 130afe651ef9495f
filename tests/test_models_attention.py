"""Attention over packed trees, against one dense mask of who sees whom."""

from collections.abc import Sequence

import pytest
import torch
from tiny_models import forest, long_forest, random_ids
from torch import Tensor

from uptake.models import Packed, TokenTree, branches, layout, pack
from uptake.models.attention import Scores, TreeAttention
from uptake.models.layout import LONG, MUCH_LONGER

CPU = torch.device("cpu")
SCORES = [Scores(0.3), Scores(0.3, softcap=2.0), Scores(0.3, window=5), Scores(0.3, softcap=2.0, window=30)]


def deep() -> list[TokenTree]:
    """Siblings, short and long, whose contexts lie in the row in one, two and three stretches."""
    system, prompt, *answers = (random_ids(length, length) for length in (40, 25, 70, 18, 90))
    trees = [branches((*system, *prompt, *each), *(random_ids(3 + n, n) for n in range(6))) for each in answers]
    return [*trees, branches((*system, 6), random_ids(80, 1), random_ids(5, 2)), branches((*system, 7), (1,), (2,))]


def much_longer() -> list[TokenTree]:
    """Long branches of a short stem, beside one that is just too short to be read from the root on."""
    long = MUCH_LONGER * 20
    return [branches(random_ids(20, 0), *(random_ids(long - 1 + n, n) for n in range(4)), random_ids(LONG, 9))]


def many() -> list[TokenTree]:
    return [branches(random_ids(30, n), *(random_ids(5, 10 * n + m) for m in range(4))) for n in range(6)]


def dense(packed: Packed, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
    """Attention of a packed row under one mask of all its tokens."""
    number = torch.tensor([n for n, segment in enumerate(packed.segments) for _ in range(len(segment))])
    above = torch.zeros(len(packed.segments), len(packed.segments), dtype=torch.bool)
    for n, segment in enumerate(packed.segments):
        above[n, [*segment.path, n]] = True
    distance = packed.positions[:, None] - packed.positions
    seen = above[number][:, number] & (distance >= 0)
    if scores.window is not None:
        seen &= distance < scores.window
    key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], 1) for each in (key, value))
    weights = query @ key.transpose(-1, -2) * scores.scale
    if scores.softcap is not None:
        weights = scores.softcap * torch.tanh(weights / scores.softcap)
    return weights.masked_fill(~seen, -torch.inf).softmax(-1) @ value


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("most", [1, 400, 4000, layout.MAX_SCORES])
@pytest.mark.parametrize("trees", [forest(), long_forest(), deep(), much_longer(), many()], ids=lambda _: "")
def test_attention_is_that_of_a_dense_mask(
    trees: Sequence[TokenTree], most: int, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the blocks: one for every child, or contexts of several groups in one."""
    monkeypatch.setattr(layout, "MAX_SCORES", most)
    packed = pack(trees)
    torch.manual_seed(0)
    query = torch.randn(1, 4, len(packed), 8, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(1, 2, len(packed), 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    attend = TreeAttention(packed.segments, CPU)
    expected = dense(packed, query, key, value, scores)
    weights = torch.randn_like(expected)
    right = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    for layer in range(2):
        found = attend(layer, query, key, value, scores)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
        for ours, theirs in zip(torch.autograd.grad((found * weights).sum(), (query, key, value)), right, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)


def test_a_context_is_not_copied_for_its_blocks() -> None:
    context, count, length = 8000, 120, 10
    packed = pack([branches(random_ids(context, 0), *(random_ids(length, n) for n in range(count)))])
    attend = TreeAttention(packed.segments, CPU)
    assert len(attend.blocks) > 20
    assert len(attend.keys.order) == count * length
    assert len(attend.queries.order) == count * length


def test_a_branch_much_longer_than_its_context_needs_no_mask() -> None:
    packed = pack([branches(random_ids(20, 0), random_ids(MUCH_LONGER * 20, 1), random_ids(MUCH_LONGER * 20 - 1, 2))])
    attend = TreeAttention(packed.segments, CPU)
    states = torch.randn(1, 2, len(packed), 4)
    attend(0, states, states, states, Scores(0.5))
    # The stem itself stands beside the longer branch, padded.
    assert {block.queries.shape[2]: int(block.real.sum()) for block in attend.blocks} == {
        MUCH_LONGER * 20 - 1: MUCH_LONGER * 20 - 1,
        MUCH_LONGER * 20 + 20: MUCH_LONGER * 20 + 20,
    }
    assert [mask.shape[-1] for mask in attend.row_masks.values()] == [MUCH_LONGER * 20 - 1 + 20]
