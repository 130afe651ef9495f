"""The next-token draw: frequencies against the exact filtered distribution of Transformers' own filters."""

import math
from collections import Counter
from functools import reduce

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LogitsProcessor,
    PreTrainedTokenizerFast,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from uptake.errors import InputError
from uptake.models import prepare
from uptake.sampling import PromptIds, Sampling, sample
from uptake.sampling.draw import draw, uniforms
from uptake.types import Prompt, Turn

FILTERS = [
    {"temperature": 1.0, "top_p": 1.0},
    {"temperature": 0.7, "top_p": 1.0},
    {"temperature": 1.0, "top_p": 0.6},
    {"temperature": 1.5, "top_p": 0.9},
    {"temperature": 1.0, "top_p": 1.0, "top_k": 3},
    {"temperature": 0.8, "top_p": 0.7, "top_k": 5},
]


def filtered(logits: Tensor, temperature: float, top_p: float, top_k: int = 0) -> Tensor:
    """The distribution that Transformers samples from."""
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(temperature)]
    steps += [TopKLogitsWarper(top_k)] if top_k else []
    steps += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    return reduce(lambda scores, step: step(None, scores), steps, logits.double()).softmax(-1)


def assert_drawn_from(counts: Tensor, expected: Tensor) -> None:
    """Pearson's chi-square stays within four standard deviations; what has no probability is never drawn."""
    assert not counts[expected == 0].any()
    kept = expected > 0
    expected = expected[kept] * counts.sum()
    freedom = int(kept.sum()) - 1
    statistic = float(((counts[kept] - expected) ** 2 / expected).sum())
    assert statistic <= freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("options", FILTERS)
def test_frequencies_and_log_probabilities(options: dict[str, float]) -> None:
    logits = torch.randn(3, 11, generator=torch.Generator().manual_seed(0)) * 1.5
    numbers = torch.rand(3, 20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = filtered(logits, **options)
    ids, logps = draw(logits, numbers, Sampling(**options))
    for row in range(3):
        assert_drawn_from(torch.bincount(ids[row], minlength=11), expected[row])
    torch.testing.assert_close(logps.double(), expected.gather(1, ids).log(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", FILTERS)
def test_frequencies_of_whole_answers(options: dict[str, float]) -> None:
    """Two-token answers of a tiny model against the product of its exact conditionals."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = LlamaConfig(vocab_size=7, initializer_range=0.5, **shape)
    model = AutoModelForCausalLM.from_config(config).eval()
    prompt = (2, 5, 3)
    with torch.no_grad():
        first = filtered(model(torch.tensor([prompt])).logits[:, -1], **options)[0]
        rows = torch.tensor([[*prompt, token] for token in range(7)])
        second = filtered(model(rows).logits[:, -1], **options)
    words = models.WordLevel({f"t{index}": index for index in range(7)}, unk_token="t0")
    lm = prepare(model, PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words)))
    asked = PromptIds(Prompt((Turn("user", "x"),), "x"), prompt)
    found = sample(lm, [asked], Sampling(n=4000, max_new_tokens=2, **options), ())
    counts = Counter(one.response_ids for one in found)
    table = torch.tensor([[counts[a, b] for b in range(7)] for a in range(7)])
    assert_drawn_from(table.flatten(), (first[:, None] * second).flatten())


def test_extremes_of_the_random_number_stay_inside_the_filter() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9, -1.0, 0.5]])
    numbers = torch.tensor([[0.0, 1 - 2**-53]], dtype=torch.float64)
    assert draw(logits, numbers, Sampling(temperature=1, top_p=0.5))[0].tolist() == [[1, 2]]
    assert draw(logits, numbers, Sampling(temperature=1, top_p=1))[0].tolist() == [[0, 4]]


def test_greedy_and_large_batches() -> None:
    logits = torch.randn(70, 30_000, generator=torch.Generator().manual_seed(0))
    numbers = torch.rand(70, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ids, logps = draw(logits, numbers, Sampling(temperature=0))
    assert ids[:, 0].tolist() == logits.argmax(-1).tolist()
    torch.testing.assert_close(logps[:, 0], logits.log_softmax(-1).amax(-1))
    whole = draw(logits, numbers, Sampling())
    alone = [draw(logits[row : row + 1], numbers[row : row + 1], Sampling()) for row in range(70)]
    assert whole[0].tolist() == [ids[0].tolist() for ids, _ in alone]


def test_tokens_as_likely_as_the_last_one_kept_are_kept() -> None:
    numbers = torch.linspace(0, 0.999, 50, dtype=torch.float64)[None]
    for options in ({"top_k": 2, "top_p": 1.0}, {"top_p": 0.6}):
        ids, logps = draw(torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]]), numbers, Sampling(temperature=1, **options))
        assert set(ids.flatten().tolist()) == {0, 1, 2, 3}
        expected = 1 / (1 + 3 / math.e)
        assert float(logps[ids == 0][0].exp()) == pytest.approx(expected)


def test_random_numbers_are_uniform_and_a_function_of_their_name() -> None:
    numbers = uniforms(0, "key", 0, 10_000)
    assert numbers[:7].tolist() == uniforms(0, "key", 0, 7).tolist()
    counts = np.histogram(numbers, bins=50, range=(0, 1))[0]
    assert_drawn_from(torch.tensor(counts), torch.full((50,), 0.02))
    others = [uniforms(1, "key", 0, 3), uniforms(0, "kez", 0, 3), uniforms(0, "key", 1, 3)]
    assert len({float(one[0]) for one in [numbers, *others]}) == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", 0), ("temperature", -1.0), ("temperature", math.nan), ("top_p", 0.0), ("top_p", 1.1), ("top_k", -1)],
)
def test_options_are_checked(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"field '{name}'.*allowed"):
        Sampling(**{name: value})
