"""Token trees of stated sizes: follow-ups after a context, pairs of prompts, follow-ups of several responses.

Only what every version of `uptake.models` has is used here, so that one version is measured against another.
"""

import random
from dataclasses import dataclass

from uptake.models import TokenTree, branches

FOLLOW_UPS = [(context, count) for context in (128, 512, 2048, 8000) for count in (24, 120)]
PAIRS = [(1, 1, 128, 64), (1, 1, 512, 128), (1, 1, 1024, 512), (1, 1, 2048, 1024), (2, 4, 512, 128)]
MINING = [(1, 8, 340, 24), (4, 4, 840, 24), (4, 4, 840, 120), (16, 2, 340, 24)]
RESPONSE = 60


@dataclass(frozen=True)
class Work:
    """Trees of stated sizes, random tokens in all of them."""

    kind: str
    name: str
    sizes: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Those of the longest prompt."""
        return self.sizes[0] if self.kind == "follow-ups" else self.sizes[2]

    def trees(self) -> list[TokenTree]:
        rng = random.Random(0)

        def ids(count: int) -> list[int]:
            return [rng.randrange(5, 30_000) for _ in range(count)]

        def follow_ups(count: int) -> list[list[int]]:
            return [ids(5 + number % 8) for number in range(count)]

        if self.kind == "follow-ups":
            context, count = self.sizes
            return [branches(ids(context), *follow_ups(count))]
        prompts, each, length, last = self.sizes
        several = [ids(length) for _ in range(prompts)]
        if self.kind == "pairs":
            return [branches(prompt, ids(last), ids(last)) for prompt in several for _ in range(each)]
        asked = follow_ups(last)
        return [branches([*prompt, *ids(RESPONSE)], *asked) for prompt in several for _ in range(each)]


def works() -> list[Work]:
    return [
        *(Work("follow-ups", f"{count} follow-ups after {context}", (context, count)) for context, count in FOLLOW_UPS),
        *(Work("pairs", f"pairs, {n} x {k} of {size} + 2 x {last}", (n, k, size, last)) for n, k, size, last in PAIRS),
        *(
            Work("mining", f"responses, {n} x {k} of {size} + {RESPONSE}, {count} follow-ups", (n, k, size, count))
            for n, k, size, count in MINING
        ),
    ]
