"""Recorded responses beside fresh ones: what a row holds against what the policy says to its prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from uptake.data import ChatFormat
from uptake.data.convert import prompts, response_turns
from uptake.rollout.samples import Samples
from uptake.types import Group, Prompt, Rollout, Row, Turn
from uptake.world import World


@final
@dataclass(frozen=True)
class BesideRecorded:
    """Responses of a row as a group: those that it holds, chosen before rejected, then `samples` to its prompt.

    Recorded ones have the source "dataset" and end with the template's end of turn. Raises InputError for a row without
    a response.
    """

    samples: Samples

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Group]:
        sampled = self.samples(world, rows, round_, version)
        return [
            (*(self._recorded(world.chat, prompt, turn) for turn in response_turns(row)), *group)
            for row, prompt, group in zip(rows, prompts(rows), sampled, strict=True)
        ]

    def _recorded(self, chat: ChatFormat, prompt: Prompt, turn: Turn) -> Rollout:
        prompt_ids, ids = chat.response_ids(self.samples.fitted(prompt, chat), turn, where=prompt.where)
        return Rollout(prompt, prompt_ids, ids, turn.content, finished=True, source="dataset", fields=turn.fields)
