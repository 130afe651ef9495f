"""Spans of a text on its tokens and back: as labels to learn, or as rewards whose sum is that of the spans.

Tokens are given by their offsets, half-open and in code points. The end of the turn is the token `(n, n + 1)` after a
text of n code points, so that an omission at the end stands there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uptake.types import Span

Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Placed:
    """One value for every token, and how many spans other than 0 found none."""

    values: tuple[float, ...]
    lost: int = 0


def place_labels(spans: Sequence[Span], offsets: Offsets, *, majority: bool = False) -> Placed:
    """The score of a span on every token that it overlaps, for training.

    With `majority`, only on tokens of which it covers more than half. Of several spans on one token the larger
    magnitude counts, and of equal ones the negative. An omission (an empty span) stands on the token that holds the
    code point after it; it is lost where there is none, as at the end of a text that was cut off.
    """
    values = np.zeros(len(offsets))
    sizes = np.array([max(end - start, 1) for start, end in offsets])
    lost = 0
    for span in spans:
        overlap = _overlaps(span, offsets)
        touched = overlap > (sizes / 2 if majority and span.start < span.end else 0)
        lost += int(not touched.any() and span.score != 0)
        stronger = abs(span.score) > abs(values)
        tied = (abs(span.score) == abs(values)) & (span.score < 0)
        values[touched & (stronger | tied)] = span.score
    return Placed(tuple(values.tolist()), lost)


def place_rewards(spans: Sequence[Span], offsets: Offsets) -> Placed:
    """The score of every span spread over its tokens in proportion to overlap, so that the sum is preserved.

    An empty span puts its score on the first token that holds the code point after it. As with labels, a span is lost
    where there is no token for it.
    """
    values = np.zeros(len(offsets))
    lost = 0
    for span in spans:
        overlap = _overlaps(span, offsets)
        lost += int(not overlap.any() and span.score != 0)
        if overlap.any() and span.start == span.end:
            values[overlap.argmax()] += span.score
        elif overlap.any():
            values += span.score * overlap / overlap.sum()
    return Placed(tuple(values.tolist()), lost)


def as_spans(values: Sequence[float], offsets: Offsets, size: int) -> tuple[Span, ...]:
    """The values of tokens of a text of `size` code points as spans, one a token, without 0: undoes `place_labels`.

    The end of the turn makes an empty span. Of tokens that are pieces of one character the larger magnitude counts.
    """
    strongest: dict[tuple[int, int], float] = {}
    for offset, value in zip(offsets, values, strict=True):
        if offset[0] < offset[1]:
            strongest[offset] = min(value, strongest.get(offset, 0.0), key=lambda each: (-abs(each), each))
    return tuple(Span(start, min(end, size), value) for (start, end), value in strongest.items() if value)


def _overlaps(span: Span, offsets: Offsets) -> NDArray[np.int64]:
    """Code points that every token shares with a span; with an empty one, 1 where the token holds what comes after."""
    table = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    stop = max(span.end, span.start + 1)
    shared: NDArray[np.int64] = np.minimum(table[:, 1], stop) - np.maximum(table[:, 0], span.start)
    return shared.clip(0)
