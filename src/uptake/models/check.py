"""Self-check of tree attention at load time: what it runs on, and what it accepts."""

from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from uptake.models.attention import Attend, Scores
from uptake.models.tree import Node, Packed, TokenTree, pack

# Largest accepted difference of one token's log-probability. Rounding on random tokens stays far below; a mask or a
# position that is ignored shows far above.
TOLERANCE: Final = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05, torch.float64: 1e-9}


def check_trees(vocabulary: int) -> Packed:
    """Random tokens in two trees with branches of branches.

    A model that ignores positions, masks or what lies outside its own segment scores them differently from plain rows.
    """
    generator = torch.Generator().manual_seed(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocabulary, (count,), generator=generator).tolist())

    first = TokenTree((Node(ids(9), scored=False), Node(ids(5), 0), Node(ids(3), 0), Node(ids(4), 1), Node(ids(4), 1)))
    second = TokenTree((Node(ids(6)), Node(ids(2), 0), Node(ids(7), 0), Node(ids(1), 2)))
    return pack((first, second))


@dataclass(frozen=True)
class Watched:
    """Attention that notes which sliding window each layer asks for."""

    attend: Attend
    windows: dict[int, int | None] = field(default_factory=dict)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        self.windows[layer] = scores.window
        return self.attend(layer, query, key, value, scores)


def hidden_window(config: Any, windows: dict[int, int | None]) -> str:
    """Say which layer sees less than it tells its attention function, or nothing if there is none.

    Most windows are longer than a text that can be checked at load time, so the numbers alone would not show it.
    """
    types = getattr(config, "layer_types", None)
    local = getattr(config, "sliding_window", None) or None
    for layer, window in windows.items():
        kind = types[layer] if types else "sliding_attention"
        expected = {"full_attention": None, "sliding_attention": local}
        if kind not in expected:
            return f"layer {layer} is of the kind {kind}"
        if window != expected[kind]:
            return f"layer {layer} does not tell its attention function about its sliding window of {local} tokens"
    return ""
