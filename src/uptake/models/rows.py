"""Padded rows: the plain way to score trees, for models that cannot attend over a tree.

Each leaf of a tree becomes one right-padded row through the model's own forward call and attention. It costs what token
trees save, and gives the same numbers, so every model that Transformers can run can be used.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from uptake.models.language_model import LanguageModel
from uptake.models.products import fast_products
from uptake.models.tree import Packed

# Logits held at once in the forward pass: 2^26 floats are 256 MB.
MAX_LOGITS = 1 << 26


def row_logps(lm: LanguageModel, packed: Packed, temperature: float = 1.0) -> Float[Tensor, " wanted"]:
    """Log-probability of every wanted token, in the order of `packed.targets`, from one row per leaf segment."""
    paths = _leaf_rows(packed)
    targets = packed.targets.to(lm.device)
    found = torch.zeros(len(targets), dtype=torch.float32, device=lm.device)
    parts, homes = [], []
    for batch, claims in _row_batches(paths, packed, lm.vocabulary):
        scores = _row_logits(lm, batch, packed)
        row, column, wanted = (claim.to(lm.device) for claim in claims)
        at = scores[row, column] / temperature
        parts.append(at.gather(1, targets[wanted][:, None])[:, 0] - at.logsumexp(-1))
        homes.append(wanted)
    return found.to(parts[0].dtype).index_copy(0, torch.cat(homes), torch.cat(parts)) if parts else found


def row_states(lm: LanguageModel, packed: Packed) -> Float[Tensor, "tokens width"]:
    """Final hidden state of every token of the packed row, in its order, from one row per leaf segment."""
    paths = _leaf_rows(packed)
    size = max(1, MAX_LOGITS // (max(map(len, paths)) * lm.config.hidden_size))
    parts = []
    for start in range(0, len(paths), size):
        ids, mask = _padded(paths[start : start + size], packed)
        with fast_products(lm.device), lm.computing():
            output = lm.decoder(input_ids=ids.to(lm.device), attention_mask=mask.long().to(lm.device), use_cache=False)
        parts.append(output.last_hidden_state[mask.to(lm.device)])
    # A stem stands in several rows, with the same states; its first place is taken.
    _, first = np.unique([position for path in paths for position in path], return_index=True)
    return torch.cat(parts)[torch.from_numpy(first).to(lm.device)]


def _leaf_rows(packed: Packed) -> list[list[int]]:
    """Packed positions of each leaf's whole path, root first."""
    inner = {index for segment in packed.segments for index in segment.path}
    rows = []
    for index, segment in enumerate(packed.segments):
        if index not in inner:
            parts = [packed.segments[i] for i in segment.path] + [segment]
            rows.append([position for part in parts for position in range(part.start, part.stop)])
    return rows


Claims = tuple[Int[Tensor, " found"], Int[Tensor, " found"], Int[Tensor, " found"]]


def _row_batches(
    rows: Sequence[Sequence[int]], packed: Packed, vocabulary: int
) -> Iterator[tuple[list[Sequence[int]], Claims]]:
    """Rows in batches of bounded logits, with the (row, column, wanted) triples that each batch answers."""
    after = _wanted_by_source(packed)
    batch: list[Sequence[int]] = []
    claims: list[tuple[int, int, int]] = []
    longest = max(map(len, rows))
    size = max(1, MAX_LOGITS // (longest * vocabulary))
    for row in rows:
        for column, source in enumerate(row):
            claims.extend((len(batch), column, wanted) for wanted in after.pop(source, ()))
        batch.append(row)
        if len(batch) == size:
            yield batch, _columns(claims)
            batch, claims = [], []
    if batch:
        yield batch, _columns(claims)


def _wanted_by_source(packed: Packed) -> dict[int, list[int]]:
    """Source position -> indices of the wanted tokens that it predicts."""
    after: dict[int, list[int]] = {}
    for wanted, source in enumerate(packed.sources[packed.target_source].tolist()):
        after.setdefault(source, []).append(wanted)
    return after


def _columns(claims: Sequence[tuple[int, int, int]]) -> Claims:
    table = torch.tensor(claims, dtype=torch.long).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _row_logits(lm: LanguageModel, rows: Sequence[Sequence[int]], packed: Packed) -> Float[Tensor, "rows length vocab"]:
    ids, mask = _padded(rows, packed)
    with fast_products(lm.device), lm.computing():
        output = lm.model(input_ids=ids.to(lm.device), attention_mask=mask.long().to(lm.device), use_cache=False)
    scores: Tensor = output.logits
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _padded(
    rows: Sequence[Sequence[int]], packed: Packed
) -> tuple[Int[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    """Token ids padded on the right, and which of them are real."""
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.zeros(mask.shape, dtype=torch.long)
    ids[mask] = packed.ids[torch.tensor([position for row in rows for position in row])]
    return ids, mask
