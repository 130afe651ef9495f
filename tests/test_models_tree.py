"""Token trees: the property that packing changes no number."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_forests import DRAFTS, FORESTS, Drafts, forest_of, tree_of, under
from tiny_models import forest, long_forest, plain_logps, random_ids, ready, tiny, twin
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from uptake.errors import InputError
from uptake.models import LanguageModel, Node, TokenTree, pack, score_trees, token_logps

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
@pytest.mark.parametrize("lean", [False, True])
@settings(max_examples=12)
@given(FORESTS, st.integers(0, 9))
def test_forests_score_and_train_like_plain_rows(road: tuple[str, str], lean: bool, drafts: Drafts, seed: int) -> None:
    lm, other = both(*road)
    several = forest_of(drafts, seed)
    packed = pack(several, lean=lean)
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
