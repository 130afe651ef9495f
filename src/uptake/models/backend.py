"""Backend of tree attention by device."""

from collections.abc import Sequence
from importlib.util import find_spec

import torch

from uptake.models.attention import Attend, TreeAttention
from uptake.models.flex import FlexAttend
from uptake.models.tree import Segment


def attend_for(segments: Sequence[Segment], device: torch.device) -> Attend:
    """FlexAttention on CUDA where Triton is there to compile it, matrix products elsewhere."""
    if device.type == "cuda" and find_spec("triton") is not None:
        return FlexAttend(segments, device)
    return TreeAttention(segments, device)
