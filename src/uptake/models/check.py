"""Self-check of a model at load time: what it runs on, and what it accepts."""

from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from uptake.models.attention import Attend, Scores
from uptake.models.language_model import LanguageModel
from uptake.models.rope import RopeTables, declared_tables
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


# Tokens of a row beside another, and how long that one seems where neither window nor rope names a length.
PROBE: Final = 16
FAR: Final = 1 << 15


def rope_tables(lm: LanguageModel) -> RopeTables | None:
    """The tables that a model's rows need, by its configuration where a look at the model itself agrees.

    A model whose numbers go by the longest row of a call in a way that its configuration does not tell gets a table for
    every length.
    """
    declared = declared_tables(lm.config)
    one_table = [(1, declared.switch if declared else lm.window or FAR)]
    if declared and not declared.by_length:
        one_table.append((declared.switch + 1, max(declared.switch + 1, lm.window or FAR)))
    try:
        alike = all(_differ(lm, *ends) <= TOLERANCE[lm.dtype] for ends in one_table)
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError):
        return declared  # it takes no positions from us, so none can be far
    return declared if alike else RopeTables(0, by_length=True)


@torch.no_grad()
def _differ(lm: LanguageModel, near: int, far: int) -> float:
    """How far a row's log-probabilities move when the row beside it ends at position `far` instead of `near`.

    Only positions are far, so a switch at thousands of tokens costs no more than one at a hundred.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(lm.vocabulary, (2, PROBE), generator=generator).to(lm.device)
    own = torch.arange(PROBE)
    seen = [
        lm.model(
            input_ids=ids,
            position_ids=torch.stack((own, (own + end - PROBE).clamp(min=0))).to(lm.device),
            attention_mask=torch.ones_like(ids),
            use_cache=False,
        ).logits[0]
        for end in (near, far)
    ]
    one, other = (logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1) for logits in seen)
    return float((one - other).abs().nan_to_num(torch.inf).max())


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
