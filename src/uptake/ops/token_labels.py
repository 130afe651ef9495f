"""Token labels: which tokens of a response are wrong and which of its edit are better, by aligning the two.

Removed or replaced tokens get -1, new ones +1, kept ones 0. Source: Xu et al. 2024 (arXiv 2406.02756); Yoon et al. 2024
(arXiv 2407.16574).
"""

from dataclasses import dataclass
from itertools import groupby

from uptake.ops.alignment import ADDED, UNCHANGED, Alignment


@dataclass(frozen=True, slots=True)
class TokenLabels:
    """Token labels of a response (`old`) and of its edit (`new`), and how many omissions had no token to stand at."""

    old: tuple[float, ...]
    new: tuple[float, ...]
    anchor_lost: int = 0


def token_labels(alignment: Alignment, *, anchor: bool = True) -> TokenLabels:
    """Token labels of both sides, one for every element.

    A run of changes that only adds leaves nothing wrong in the response, although it lacks something: with `anchor` the
    kept element after such a run gets -1, which is the end-of-turn token for an omission at the end. Where none comes
    after, as in a response that was cut off, `anchor_lost` counts it.
    """
    old = [-float(op != UNCHANGED) for op in alignment.old]
    at = lost = 0
    for changed, run in groupby(alignment.ops, key=lambda op: op != UNCHANGED):
        ops = "".join(run)
        if anchor and changed and set(ops) == {ADDED}:
            if at < len(old):
                old[at] = -1.0
            else:
                lost += 1
        at += len(ops) - ops.count(ADDED)
    return TokenLabels(tuple(old), tuple(float(op != UNCHANGED) for op in alignment.new), lost)


def base_rate(new: float, unchanged: float, edited: float) -> float:
    """Base rate q of the label +1 among good tokens: `#(S, A in the edit) / (#U in the response + |edit|)`.

    `new` tokens of `edited` tokens of edits are not of the response, of which `unchanged` are. A trained model gives
    good tokens about q, not 0. It is 0 where there is no good token.
    """
    good = unchanged + edited
    return new / good if good else 0.0
