"""What the load-time self-check of tree attention runs on, and how much it may differ from plain rows."""

from typing import Final

import torch

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
