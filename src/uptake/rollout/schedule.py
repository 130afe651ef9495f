"""Schedule of prompts: those a round works on, where it is not all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uptake.errors import InputError
from uptake.types import Row
from uptake.world import World


@dataclass(frozen=True)
class PromptBatches:
    """The next `size` rows of an endless sequence of passes over all rows, each pass in an order that the seed fixes.

    Raises InputError where there are fewer rows than that: a round would meet a prompt twice, with the same samples.
    """

    size: int

    def __call__(self, world: World, round_: int) -> Sequence[Row]:
        rows = world.rows
        if not 1 <= self.size <= len(rows):
            raise InputError(f"{self.size} prompts a round", field="batch_size", allowed=f"1 to {len(rows)}, the rows")
        # A pass holds whole rounds only, so that no round takes the end of one and the beginning of the next.
        rounds = len(rows) // self.size
        order = np.random.default_rng([world.seed, round_ // rounds]).permutation(len(rows))
        start = round_ % rounds * self.size
        return [rows[index] for index in order[start : start + self.size]]


@dataclass(frozen=True)
class Portion:
    """The rows of one of `of` equal portions, in an order that the seed fixes; a portion numbers from 0.

    Raises InputError where a portion would be empty.
    """

    number: int
    of: int

    def __call__(self, world: World, round_: int) -> Sequence[Row]:
        count = len(world.rows)
        if count < self.of:
            raise InputError(f"{count} rows in {self.of} portions", field="iterations", allowed=f"at most {count}")
        order = np.random.default_rng(world.seed).permutation(count)
        return [world.rows[index] for index in np.array_split(order, self.of)[self.number]]
