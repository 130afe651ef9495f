"""Edited rows as rollouts: a response, then its edit, both after the same tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from sys import maxsize
from typing import ClassVar

from uptake.data.edited import edited_columns
from uptake.data.response_tokens import response_tokens
from uptake.data.where import bad_row
from uptake.types import Edited, Preference, Prompt, Rollout, Row
from uptake.world import World

# The column of a prompt's `extra` that tells a judge what the row says beside its texts.
COLUMN = "edit"


@dataclass(frozen=True)
class EditedRows:
    """The response of a row as sample 0 and its edit, if there is one, as sample 1.

    The rejected response of a preference counts as edited to the chosen one, too far to tell where. Prompt and response
    are read together, and the prompt is cut on the left where the longer side does not fit `max_tokens` or the policy's
    window; where a side alone does not fit, or the two sides come after different tokens, rollouts without any token
    stand for the row. Raises InputError for a row of any other kind.
    """

    recorded: ClassVar[bool] = True
    keeps_cut_off: ClassVar[bool] = True

    max_tokens: int = 512

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Rollout]:
        return [rollout for row in rows for rollout in self._rollouts(world, as_edited(row))]

    def _rollouts(self, world: World, row: Edited) -> list[Rollout]:
        texts = [row.response] if row.edited is None else [row.response, row.edited]
        turns, where = row.prompt.turns, row.prompt.where
        # An edit is whole, whatever became of the response.
        sides = [
            response_tokens(world.chat, turns, text, finished=row.finished or bool(place), where=where)
            for place, text in enumerate(texts)
        ]
        stem, longest = sides[0].prompt_ids, max(len(side.ids) for side in sides)
        room = min(self.max_tokens, world.policy.window or maxsize) - longest
        fits = room > 0 and all(side.prompt_ids == stem for side in sides)
        said = {name: value for name, value in edited_columns(row).items() if name != "edited"}
        prompt = replace(row.prompt, extra={**row.prompt.extra, COLUMN: said})
        return [
            Rollout(
                prompt,
                prompt_ids=stem[-room:] if fits else (),
                response_ids=side.ids if fits else (),
                response=text,
                finished=row.finished or bool(place),
                sample=place,
                source="dataset",
            )
            for place, (text, side) in enumerate(zip(texts, sides, strict=True))
        ]


def as_edited(row: Row) -> Edited:
    """An edited row as it is, and a preference as a demoted one; InputError for any other row."""
    if isinstance(row, Edited):
        return row
    if isinstance(row, Preference):
        return Edited(row.prompt, row.rejected, row.chosen, demoted=True)
    where = row.where if isinstance(row, Prompt) else row.prompt.where
    raise bad_row(
        "this row has neither edit nor spans", where, allowed="completion with edited or spans, or a preference"
    )
