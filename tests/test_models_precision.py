"""Half precision: a model is checked in fp32, rounds in trees as in rows, and is refused where it is wrong."""

import copy
import os
from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, forest, plain_logps, ready, tiny
from torch import Tensor, nn
from transformers import PreTrainedModel

from uptake.models import check, load, pack, token_logps
from uptake.models.check import SPREAD, TOLERANCE
from uptake.models.upcast import in_float32

HALVES = [torch.bfloat16, torch.float16]
DEEP = {"num_hidden_layers": 24, "initializer_range": 0.3}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_in_float32_a_half_model_says_what_its_wide_copy_says(family: str, dtype: torch.dtype) -> None:
    half = tiny(family).to(dtype)
    wide = copy.deepcopy(half).float()
    ids = torch.randint(97, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = wide(input_ids=ids, use_cache=False).logits
        with in_float32(dtype):
            found = half(input_ids=ids, use_cache=False).logits
            assert half.lm_head.weight.dtype == torch.float32
        rough = half(input_ids=ids, use_cache=False).logits
    assert found.dtype == torch.float32
    assert half.dtype == dtype
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert float((rough.float() - expected).abs().max()) > 1e-3


class Arange(nn.Module):
    """A rotary embedding that takes the place in the row for the position, where it has a say of `share`."""

    def __init__(self, rotary: nn.Module, share: float) -> None:
        super().__init__()
        self.rotary, self.share = rotary, share

    def forward(self, x: Tensor, position_ids: Tensor) -> Any:
        place = torch.arange(position_ids.shape[1], device=x.device)[None]
        return self.rotary(x, position_ids + self.share * (place - position_ids))


def wrong(share: float, dtype: torch.dtype) -> PreTrainedModel:
    model: Any = tiny("Llama", initializer_range=0.1).to(dtype)
    model.model.rotary_emb = Arange(model.model.rotary_emb, share)
    return model  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("share", [1.0, 0.02])
def test_a_model_that_is_wrong_in_trees_is_refused(
    share: float, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where it is less wrong than half precision rounds."""
    lm = ready(wrong(share, dtype), "wrong")
    assert lm.attention == "rows"
    assert "self-check differs by" in lm.note
    assert lm.note.endswith("in float32 (allowed: 0.0001)")
    assert "wrong: scoring in padded rows" in caplog.text
    # Rows have the right positions: the numbers are those of the model that is not wrong.
    with torch.no_grad():
        right = plain_logps(tiny("Llama", initializer_range=0.1), forest())
        found = token_logps(lm, pack(forest()))
    assert float((found - right).abs().max()) < {torch.float32: 1e-5}.get(dtype, 0.05)


def test_the_smaller_fault_is_below_what_half_precision_may_differ_by() -> None:
    with torch.no_grad():
        lm = ready(tiny("Llama", initializer_range=0.1))
        right = token_logps(lm, pack(forest()))
        fault: Any = lm.model
        fault.model.rotary_emb = Arange(fault.model.rotary_emb, 0.02)
        assert 1e-3 < float((token_logps(lm, pack(forest())) - right).abs().max()) < TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("family", ["Bloom", "GptOss", "Mamba"])
def test_families_without_trees_are_refused_in_bfloat16_too(family: str) -> None:
    assert ready(tiny(family).to(torch.bfloat16)).attention == "rows"


@torch.no_grad()
def test_a_deep_model_keeps_trees_in_bfloat16_and_says_how_it_rounds() -> None:
    """It rounds by more than a fixed tolerance allows, in rows as in trees."""
    model = tiny("Llama", **DEEP)
    exact = plain_logps(copy.deepcopy(model.to(torch.bfloat16)).float(), forest())
    rows = float((plain_logps(copy.deepcopy(model), forest()) - exact).abs().max())
    assert rows > TOLERANCE[torch.bfloat16]
    lm = ready(model)
    assert lm.attention == "tree"
    trees = float((token_logps(lm, pack(forest())) - exact).abs().max())
    assert trees < SPREAD * rows
    assert lm.note.startswith("bfloat16 is up to ")
    assert " from fp32 in trees and " in lm.note


@torch.no_grad()
def test_attention_that_is_rough_in_trees_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in half precision is not what was read in fp32: on CUDA, another kernel."""

    class Rough(check.TreeAttention):  # type: ignore[misc]
        def __call__(self, layer: int, query: Tensor, *rest: Any) -> Tensor:
            noise = torch.randn(query.shape, generator=torch.Generator().manual_seed(layer)).to(query.dtype)
            return super().__call__(layer, query + 0.7 * noise, *rest)

    model = tiny("Llama", **DEEP).to(torch.bfloat16)
    monkeypatch.setattr(check, "attend_for", Rough)
    lm = ready(model)
    assert lm.attention == "rows"
    assert " in rows (allowed: " in lm.note


@pytest.mark.slow
@pytest.mark.skipif("UPTAKE_SMOLLM2" not in os.environ, reason="UPTAKE_SMOLLM2 names no folder of SmolLM2")
def test_smollm2_keeps_trees_in_bfloat16() -> None:
    lm = load(os.environ["UPTAKE_SMOLLM2"], dtype="bfloat16", device="cpu")
    assert lm.attention == "tree"
    assert lm.note.startswith("bfloat16 is up to 0.")
