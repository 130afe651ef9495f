"""Self-check of a model at load time: what it runs on, and what it accepts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from uptake.errors import ModelError
from uptake.models.attention import NAME, Attend, Scores, TreeAttention
from uptake.models.language_model import LanguageModel
from uptake.models.packing import pack
from uptake.models.rope import RopeTables, declared_tables
from uptake.models.rows import row_logps
from uptake.models.scorer import attend_for, by_table, tree_logps
from uptake.models.tree import Node, Packed, Segment, TokenTree
from uptake.models.upcast import HALVES, in_float32

# Largest accepted difference of one token's log-probability. In fp32 and wider, rounding on random tokens stays far
# below; a mask or a position that is ignored shows far above. Half precision is checked in fp32 first.
TOLERANCE: Final = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05, torch.float64: 1e-9}

# How far half precision may be from fp32 in trees, in times of what it is in rows.
SPREAD: Final = 3.0


@torch.no_grad()
def check_trees(lm: LanguageModel) -> LanguageModel:
    """The model switched to tree attention, or as it is but for "rows", with the reason in its `note`.

    Random trees are compared with their plain rows through the model's own attention. A model in half precision is read
    in fp32 for it, since rounding there may be as large as what a forgotten mask does; its own rounding in trees is
    then held against that in rows, and both stand in `note`. Raises ModelError on numbers that are not finite.
    """
    packed, wide, half = random_trees(lm.vocabulary), in_float32(lm.dtype), lm.dtype in HALVES
    by_rows = partial(row_logps, lm)
    windows: dict[int, int | None] = {}
    rough = by_table(lm, packed, by_rows)
    if not bool(rough.isfinite().all()):
        raise ModelError(f"{lm.name}: the model gives not-a-number or infinite log-probabilities on random tokens")
    try:
        with wide:
            exact = by_table(lm, packed, by_rows) if half else rough
        lm.base.set_attn_implementation(NAME)
        found = _by_trees(lm, packed, lambda *row: Watched(attend_for(*row), windows))
        with wide:
            found_wide = _by_trees(lm, packed, TreeAttention) if half else found
    except (ModelError, TypeError, ValueError, RuntimeError, AttributeError, LookupError) as error:
        # Architectures without a registered attention interface fail here in ways of their own.
        return replace(lm, attention="rows", note=f"tree attention raises {type(error).__name__}: {error}")
    reason, rounding = _verdict(lm.dtype, _gap(found_wide, exact), _gap(found, exact), _gap(rough, exact))
    reason = reason or hidden_window(lm.config, windows)
    return replace(lm, attention="rows" if reason else "tree", note=reason or rounding)


def _verdict(dtype: torch.dtype, wide: float, trees: float, rows: float) -> tuple[str, str]:
    """Why a model may not be read in trees, or nothing, and what half precision rounds."""
    kind, exact = (str(each).removeprefix("torch.") for each in (dtype, torch.promote_types(dtype, torch.float32)))
    allowed = TOLERANCE[torch.promote_types(dtype, torch.float32)]
    if wide > allowed:
        return f"self-check differs by {wide:.2g} in {exact} (allowed: {allowed:g})", ""
    if dtype not in HALVES:
        return "", ""
    rounding = f"{kind} is up to {trees:.2g} from fp32 in trees and {rows:.2g} in rows"
    allowed = max(TOLERANCE[dtype], SPREAD * rows)
    return (f"{rounding} (allowed: {allowed:.2g})" if trees > allowed else ""), rounding


def _by_trees(lm: LanguageModel, packed: Packed, attend: Callable[[Sequence[Segment], torch.device], Attend]) -> Tensor:
    return by_table(lm, packed, lambda part: tree_logps(lm, part, attend(part.segments, lm.device)))


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().nan_to_num(torch.inf).max())


def random_trees(vocabulary: int) -> Packed:
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
        with in_float32(lm.dtype):
            differences = [_differ(lm, *ends) for ends in one_table]
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError):
        return declared  # it takes no positions from us, so none can be far
    alike = max(differences) <= TOLERANCE[torch.promote_types(lm.dtype, torch.float32)]
    return declared if alike else RopeTables(0, by_length=True)


@torch.no_grad()
def check_causal(lm: LanguageModel) -> None:
    """Raise ModelError for a model that reads what comes after a token, an encoder say.

    What it says of a token would depend on the token itself: no probability of the next one, and a reward that moves
    with what is said later.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(lm.vocabulary, (1, PROBE), generator=generator).repeat(2, 1)
    ids[1, -1] = (ids[1, -1] + 1) % lm.vocabulary
    with in_float32(lm.dtype):
        one, other = lm.model(input_ids=ids.to(lm.device), attention_mask=torch.ones_like(ids).to(lm.device))[0][:, :-1]
    allowed = TOLERANCE[torch.promote_types(lm.dtype, torch.float32)] * (1 + float(one.abs().max()))
    if _gap(one, other) > allowed:
        problem = f"{lm.name}: a later token changes what it says of earlier ones: it reads in both directions"
        raise ModelError(f"{problem} (allowed: a causal model)")


@torch.no_grad()
def _differ(lm: LanguageModel, near: int, far: int) -> float:
    """How far a row's log-probabilities move when the row beside it ends at position `far` instead of `near`.

    Only positions are far, so a switch at thousands of tokens costs no more than one at a hundred.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(lm.vocabulary, (2, PROBE), generator=generator).to(lm.device)
    order = torch.arange(PROBE)
    seen = [
        lm.model(
            input_ids=ids,
            position_ids=torch.stack((order, (order + end - PROBE).clamp(min=0))).to(lm.device),
            attention_mask=torch.ones_like(ids),
            use_cache=False,
        ).logits[0]
        for end in (near, far)
    ]
    one, other = (logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1) for logits in seen)
    return _gap(one, other)


@dataclass(frozen=True)
class Watched:
    """Attention that notes which sliding window each layer asks for."""

    attend: Attend
    windows: dict[int, int | None]

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
