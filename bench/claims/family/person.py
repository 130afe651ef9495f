"""Three head-to-heads by a gold reward model that plays the person."""

from collections.abc import Sequence

from claims.claim import Claim


def claims() -> Sequence[Claim]:
    return []
