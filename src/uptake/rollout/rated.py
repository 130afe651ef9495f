"""Responses with a label of their own: rated rows, and both sides of preferences, as rollouts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from uptake.data.where import bad_row
from uptake.rollout.from_rows import recorded_rollout
from uptake.types import Answered, Edited, Preference, Prompt, Rated, Rollout, Row
from uptake.world import World


@dataclass(frozen=True)
class RatedRows:
    """The recorded responses of rows as sample 0 where they are good or chosen, and sample 1 where bad or rejected.

    So a judge that goes by what the data set says scores both kinds of rows alike. Raises InputError for a row that
    says neither.
    """

    recorded: ClassVar[bool] = True

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Rollout]:
        return [recorded_rollout(world, row, text, sample) for row in rows for sample, text in _rated(row)]


def _rated(row: Row) -> list[tuple[int, str]]:
    match row:
        case Rated():
            return [(0 if row.good else 1, row.response)]
        case Preference():
            return [(0, row.chosen), (1, row.rejected)]
        case Prompt() | Answered() | Edited():
            where = row.where if isinstance(row, Prompt) else row.prompt.where
            raise bad_row("no response of this row is rated", where, allowed="completion and label, or a preference")
