"""Linear layers in fp32 on a CPU, by the one of Torch's two libraries that uses the whole processor.

Torch gives them to MKL, which keeps AVX-512 to Intel's processors: on AMD's, half of the arithmetic is idle. oneDNN,
which Torch carries too, uses all of it (2.2 times the products a second on Zen 5). Same precision, another order of
summation.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode


def fast_products(device: torch.device) -> AbstractContextManager[Any]:
    """While it is open, linear layers in fp32 on this device are computed by whichever library is faster there."""
    return _ByOneDNN() if device.type == "cpu" and _mkl_is_slow() else nullcontext()


@cache
def _mkl_is_slow() -> bool:
    libraries = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    processor = torch.cpu.get_capabilities()
    return libraries and bool(processor.get("avx512_f")) and "AMD" in str(processor.get("cpu_name"))


@final
class _ByOneDNN(TorchFunctionMode):
    """Takes the linear layers out of whatever a model calls."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not linear or kwargs or not _fits(*args):
            return func(*args, **(kwargs or {}))
        if torch.is_grad_enabled():
            return _Linear.apply(*args, *(None,) * (3 - len(args)))  # type: ignore[no-untyped-call]
        return _product(*args)


def _fits(*operands: Tensor | None) -> bool:
    given = [each for each in operands if each is not None]
    plain = all(each.dtype == torch.float32 and each.device.type == "cpu" and each.numel() for each in given)
    return plain and not torch.is_autocast_enabled("cpu")


def _product(
    states: Float[Tensor, "*rows inner"], weight: Float[Tensor, "outer inner"], bias: Tensor | None = None
) -> Float[Tensor, "*rows outer"]:
    """`states @ weight.T + bias`; either may be strided."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return out


@final
class _Linear(torch.autograd.Function):
    """The same with its gradient."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(states, weight)
        return _product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        wants = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            _product(grad, weight.t()) if wants[0] else None,
            _product(rows.t(), states.flatten(0, -2).t()) if wants[1] else None,
            rows.sum(0) if wants[2] else None,
        )


def has_bfloat16_units() -> bool:
    """Whether this processor multiplies in bfloat16 itself, so that half the bits take about half the time."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
