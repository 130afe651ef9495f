"""From which labels can one who reads word by word know of faulty words at all?"""

from collections.abc import Sequence

from claims.claim import Arm, Claim
from claims.family.sizes import sized
from claims.work.reader import reader

SEEN = sized(200)


def arm(longest: bool, late: bool) -> Arm:
    name = (
        f"edit {'that agrees for longest' if longest else 'first of the list'}, changes {'late' if late else 'early'}"
    )
    return Arm(name, reader, {"longest": longest, "late": late, "seen": SEEN})


def claims() -> Sequence[Claim]:
    first, late, ours = arm(False, False), arm(False, True), arm(True, True)
    return [
        Claim("labels by the edit that agrees for longest tell more than by the first", ours, late, "auroc"),
        Claim("labels of late changes tell more than of early ones", late, first, "top1"),
        Claim("by both, who has seen all texts reaches an area of 0.95", ours, 0.95, "auroc"),
        Claim("and finds the faulty word in more than 95 %", ours, 0.95, "top1"),
    ]
