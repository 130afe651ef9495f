"""The chunked projection: its numbers do not depend on the chunks, and its memory does."""

from typing import Any

import pytest
import torch
from tiny_models import forest, plain_logps, random_ids, ready, tiny, twin
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from uptake.models import branches, pack, score_trees, scorer, token_logps


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes, in the forward and the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.size = max([self.size, *(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))])
        return result


@pytest.mark.parametrize("chunk", [1, 97 * 3, 97 * 1000])
def test_numbers_and_gradients_do_not_depend_on_the_chunks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorer, "SCORING_CHUNK", chunk)
    monkeypatch.setattr(scorer, "TRAINING_CHUNK", chunk)
    model = tiny("Llama", dtype=torch.float64)
    other = twin(model, "sdpa")
    lm = ready(model)
    expected = plain_logps(other, forest())
    found = token_logps(lm, pack(forest()))
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)
    scored = torch.cat([part for nodes in score_trees(lm, forest(), 1000) for part in nodes])
    torch.testing.assert_close(scored, expected.detach(), atol=1e-7, rtol=0)
    found.sum().backward()
    expected.sum().backward()
    assert other.lm_head.weight.grad is not None
    torch.testing.assert_close(model.lm_head.weight.grad, other.lm_head.weight.grad, atol=1e-4, rtol=1e-4)


def test_training_never_holds_tokens_by_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary, width = 4000, 16
    chunk = 8 * vocabulary
    monkeypatch.setattr(scorer, "TRAINING_CHUNK", chunk)
    lm = ready(tiny("Llama", vocab_size=vocabulary, hidden_size=width, intermediate_size=32, num_hidden_layers=1))
    packed = pack([branches(random_ids(20, 0), random_ids(90, 1), random_ids(120, 2))])
    assert len(packed.sources) == 90 + 120 - 1
    saved: list[torch.Size] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        token_logps(lm, packed).sum().backward()
    # Nothing over the vocabulary waits for the backward pass but the projection's weights, transposed or not, and what
    # the last chunk leaves behind.
    last = len(packed.sources) % 8
    assert {shape for shape in saved if vocabulary in shape} <= {
        (vocabulary, width),
        (width, vocabulary),
        (last, vocabulary),
    }
    assert saved.count(torch.Size((last, vocabulary))) == 1
    # The projection's weights and their gradient are twice a chunk here.
    assert largest.size <= vocabulary * width


def test_scoring_never_holds_tokens_by_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary, width = 4000, 16
    monkeypatch.setattr(scorer, "SCORING_CHUNK", 8 * vocabulary)
    lm = ready(tiny("Llama", vocab_size=vocabulary, hidden_size=width, intermediate_size=32, num_hidden_layers=1))
    with Largest() as largest:
        score_trees(lm, [branches(random_ids(20, 0), random_ids(90, 1), random_ids(120, 2))], 1000)
    assert largest.size <= vocabulary * width
