"""Linear layers by the other library: the numbers and gradients of the plain ones, and nothing else is touched."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from tiny_models import forest, ready, tiny
from torch import Tensor, nn

from uptake.models import pack, products, token_logps
from uptake.models.products import fast_products

CPU = torch.device("cpu")
CALL = "mkldnn::_linear_pointwise"

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this Torch has no oneDNN")


@pytest.fixture(autouse=True)
def slow_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor of AMD's, whatever this one is."""
    monkeypatch.setattr(products, "_mkl_is_slow", lambda: True)


def calls(work: Callable[[], object]) -> int:
    """How many products the other library does."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    return sum(event.count for event in profile.key_averages() if event.key == CALL)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (1, 7)])
@pytest.mark.parametrize("bias", [False, True])
def test_numbers_and_gradients(shape: tuple[int, ...], bias: bool) -> None:
    """Against float64, in which products stay where they were."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 5, bias=bias)
    exact = nn.Linear(6, 5, bias=bias, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    states, weights = torch.randn(*shape, 6, requires_grad=True), torch.randn(*shape, 5)
    doubled = states.detach().double().requires_grad_()

    def both_ways(model: nn.Module, given: Tensor) -> Tensor:
        with fast_products(CPU):
            out: Tensor = model(given)
        (out * weights).sum().backward()
        return out

    expected, found = both_ways(exact, doubled), both_ways(layer, states)
    pairs = [(found, expected), (states.grad, doubled.grad)]
    pairs += [(one.grad, other.grad) for one, other in zip(layer.parameters(), exact.parameters(), strict=True)]
    for one, other in pairs:
        assert one is not None
        torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=1e-5)


def test_which_products_change_place() -> None:
    layer, states = nn.Linear(6, 5), torch.randn(3, 6)

    def used(context: bool = True, dtype: torch.dtype = torch.float32, rows: int = 3) -> int:
        with torch.no_grad(), fast_products(CPU) if context else nullcontext():
            return calls(lambda: layer.to(dtype)(states.to(dtype)[:rows]))

    assert used() == 1
    assert used(context=False) == 0
    assert used(dtype=torch.float64) == 0
    assert used(rows=0) == 0
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert used() == 0


def test_a_frozen_layer_has_no_gradient_to_compute() -> None:
    layer, states = nn.Linear(6, 5).requires_grad_(False), torch.randn(3, 6, requires_grad=True)
    with fast_products(CPU):
        out = layer(states).sum()
    assert calls(out.backward) == 1


def test_scores_and_training_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every product of a model's forward and backward pass, and the same numbers."""
    model = tiny("Llama")
    lm, packed = ready(model), pack(forest())
    assert calls(lambda: token_logps(lm, packed).sum().backward()) >= 3 * 7 * model.config.num_hidden_layers
    found = model.lm_head.weight.grad
    model.zero_grad()
    with torch.no_grad():
        ours = token_logps(lm, packed)
    monkeypatch.setattr(products, "_mkl_is_slow", lambda: False)
    assert calls(lambda: token_logps(lm, packed).sum().backward()) == 0
    torch.testing.assert_close(found, model.lm_head.weight.grad, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(ours, token_logps(lm, packed), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("processor", "slow"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_f": True}, True),
        ({"cpu_name": "AMD EPYC", "avx512_f": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_f": True}, False),
        ({"architecture": "arm64"}, False),
    ],
)
def test_only_where_mkl_holds_back(processor: dict[str, object], slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert products._mkl_is_slow.__wrapped__() is slow
