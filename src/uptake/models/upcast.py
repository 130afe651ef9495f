"""Half-precision weights read in fp32: what a model says without the rounding of its arithmetic.

A model of 30 layers rounds so much in bfloat16 that a mask it ignores may hide behind it. Weights are cast for one
operation at a time, so that no second copy of the model is held.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

HALVES: Final = (torch.bfloat16, torch.float16)
# These read or carry over single entries of a weight; what comes out is cast where it is used.
_AS_IT_IS: Final = (torch.nn.functional.embedding,)


def in_float32(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """The block in which a model of this dtype computes in fp32; wider ones stay as they are."""
    return _InFloat32() if dtype in HALVES else nullcontext()


@final
class _InFloat32(TorchFunctionMode):
    """While it is open, every operation takes tensors of half precision as fp32, and a weight says that it is fp32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "__get__":
            found = func(*args, **(kwargs or {}))
            return torch.float32 if found in HALVES else found
        if func in _AS_IT_IS:
            return func(*args, **(kwargs or {})).float()
        args, kwargs = tree_map_only(Tensor, _wide, (args, kwargs or {}))
        return func(*args, **kwargs)


def _wide(tensor: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        return tensor.float() if tensor.dtype in HALVES else tensor
