"""Verdicts of an annotator as numbers: ties, unsure ones, and how far the order of the two responses sways them.

Every probability is that the first response is the better one, of one verdict or of an array of them.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

P = TypeVar("P", float, NDArray[np.float64])

# A tie, but for the rounding of a mean over both orders.
TIE = 1e-9
# A probability nearer to one half than this says little.
UNSURE = 0.05


def is_tie(p: float) -> bool:
    """Tie: neither response is preferred."""
    return abs(p - 0.5) <= TIE


def position_bias(shown_first: P, shown_second: P) -> P:
    """Position bias: the mean probability of whatever is shown first, less one half.

    `shown_first` and `shown_second` are read with the first response shown first, and shown second.
    """
    return (shown_first - shown_second) / 2


def orders_agree(shown_first: P, shown_second: P) -> P:
    """1 where both readings of a verdict prefer the same response, 0 where not, half where one of them is even."""
    agree: P = 1 - np.abs(np.sign(shown_first - 0.5) - np.sign(shown_second - 0.5)) / 2
    return agree


def order_gap(shown_first: P, shown_second: P) -> P:
    """Distance of the two readings of a verdict, one for each order."""
    return abs(shown_first - shown_second)
