"""Every kind of architecture: tree attention where it is exact, padded rows elsewhere, and right numbers in both."""

import pytest
import torch
from tiny_models import forest, long_forest, plain_logps, random_ids, ready, tiny, twin

from uptake.models import branches, pack, token_logps

IN_TREES = (
    "Cohere",
    "GPT2",
    "GPTNeoX",
    "Gemma2",
    "Gemma3Text",
    "Granite",
    "Llama",
    "Mistral",
    "Olmo2",
    "Phi3",
    "Qwen2",
)
# State-space layers, biases by distance, attention sinks: none of them can be told of a tree.
IN_ROWS = ("Bloom", "GptOss", "Jamba", "Mamba")
EXACT = 1e-5


@pytest.mark.parametrize("family", [*IN_TREES, "Qwen3"])
def test_trees_give_the_numbers_of_plain_rows(family: str) -> None:
    model = tiny(family)
    other = twin(model, "eager")
    lm = ready(model)
    assert (lm.attention, lm.note) == ("tree", "")
    trees = [*forest(), *long_forest()]
    with torch.no_grad():
        torch.testing.assert_close(token_logps(lm, pack(trees)), plain_logps(other, trees), atol=EXACT, rtol=EXACT)


@pytest.mark.parametrize("family", IN_ROWS)
def test_others_fall_back_to_rows_with_the_same_numbers(family: str, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny(family)
    other = twin(model)
    lm = ready(model, "the model")
    assert lm.attention == "rows"
    assert "the model: scoring in padded rows, which is slower and gives the same numbers" in caplog.text
    assert lm.note in caplog.text
    assert lm.base.config._attn_implementation != "uptake_tree"
    with torch.no_grad():
        found, expected = token_logps(lm, pack(forest())), plain_logps(other, forest())
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=EXACT)


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "Granite", "Bloom"])
@pytest.mark.parametrize("temperature", [0.6, 2.0])
def test_a_temperature_divides_the_logits(family: str, temperature: float) -> None:
    """After soft cap and scaling, in trees as in rows, and in the gradient too."""
    model = tiny(family)
    other = twin(model, None if family == "Bloom" else "eager")
    found = token_logps(ready(model), pack(forest()), temperature)
    expected = plain_logps(other, forest(), temperature)
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=EXACT)
    found.sum().backward()
    expected.sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-3)


def test_rows_train_like_plain_rows() -> None:
    model = tiny("GptOss")
    other = twin(model)
    token_logps(ready(model), pack(forest())).sum().backward()
    plain_logps(other, forest()).sum().backward()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_a_window_that_only_the_mask_knows_is_found_though_the_check_is_shorter() -> None:
    model = tiny("Phimoe")
    other = twin(model)
    lm = ready(model)
    assert lm.attention == "rows"
    assert "sliding window of 50 tokens" in lm.note
    longer = [branches(random_ids(60, 0), random_ids(30, 1), random_ids(20, 2))]
    with torch.no_grad():
        torch.testing.assert_close(token_logps(lm, pack(longer)), plain_logps(other, longer), atol=EXACT, rtol=EXACT)


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "Mistral"])
def test_a_prepared_model_still_reads_plain_rows(family: str) -> None:
    model = tiny(family)
    other = twin(model, "eager")
    ready(model)
    ids = torch.tensor([random_ids(20, 0), random_ids(20, 1)])
    mask = torch.ones_like(ids)
    mask[1, :7] = 0
    with torch.no_grad():
        found, expected = (one(input_ids=ids, attention_mask=mask).logits for one in (model, other))
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], atol=1e-4, rtol=EXACT)


def test_bfloat16_stays_near_float32() -> None:
    model = tiny("Llama", initializer_range=0.1)
    half = twin(model).to(torch.bfloat16)
    lm = ready(half)
    assert lm.attention == "tree"
    trees = [*forest(), *long_forest()]
    with torch.no_grad():
        found, expected = token_logps(lm, pack(trees)), plain_logps(model, trees)
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).abs().max()) < 0.05


@pytest.mark.parametrize("family", ["Llama", "Gemma2"])
def test_mixed_precision_trains_near_float32(family: str) -> None:
    model = tiny(family, initializer_range=0.1)
    other = twin(model, "eager")
    lm = ready(model)
    trees = [*forest(), *long_forest()]
    with torch.autocast("cpu", torch.bfloat16):
        found = token_logps(lm, pack(trees))
    expected = plain_logps(other, trees)
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).detach().abs().max()) < 0.05
    found.sum().backward()
    expected.sum().backward()
    ours, theirs = (torch.cat([weight.grad.flatten() for weight in one.parameters()]) for one in (model, other))
    assert float(torch.cosine_similarity(ours, theirs, dim=0)) > 0.999


def test_a_window_longer_than_the_text_changes_nothing() -> None:
    wide, none = tiny("Mistral", sliding_window=200), tiny("Mistral", sliding_window=None)
    with torch.no_grad():
        found, expected = (token_logps(ready(one), pack(long_forest())) for one in (wide, none))
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=EXACT)
