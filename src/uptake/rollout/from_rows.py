"""Responses that are already there: the rows of a data set as rollouts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from uptake.data.where import bad_row
from uptake.types import Preference, Prompt, Rollout, Row
from uptake.world import World


@dataclass(frozen=True)
class FromRows:
    """The recorded responses of rows: chosen before rejected, one each otherwise; none is left unfinished."""

    recorded: ClassVar[bool] = True

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Rollout]:
        return [
            recorded_rollout(world, row, text, sample) for row in rows for sample, text in enumerate(responses(row))
        ]


def recorded_rollout(world: World, row: Row, response: str, sample: int = 0) -> Rollout:
    """A recorded response as token ids under the world's chat format.

    Raises InputError for a row that the model's window cannot hold: a response that is cut off would lose its end.
    Mined rows carry the ids that were sampled; where their tokenizer is ours, these are taken, since another way to cut
    the same text into tokens would be a response that the policy never gave.
    """
    prompt = row if isinstance(row, Prompt) else row.prompt
    ids = prompt.extra.get("token_ids")
    if isinstance(row, Preference) and ids and ids["tokenizer"] == world.chat.fingerprint:
        prompt_ids, response_ids = tuple(ids["prompt"]), tuple(ids[("chosen", "rejected")[sample]])
    else:
        prompt_ids, response_ids = world.chat.response_ids(prompt.turns, response, where=prompt.where)
    window, size = world.policy.window, len(prompt_ids) + len(response_ids)
    if window is not None and size > window:
        allowed = f"at most {window}, the window of {world.policy.name}"
        raise bad_row(f"prompt and response have {size} tokens", prompt.where, allowed=allowed)
    finished = response_ids[-1] in world.chat.end_ids
    return Rollout(prompt, prompt_ids, response_ids, response, finished, sample=sample, source="dataset")


def responses(row: Row) -> tuple[str, ...]:
    """The recorded responses of a row, chosen before rejected; raises InputError where there is none."""
    if isinstance(row, Prompt):
        allowed = "messages that end with the assistant, a completion, or chosen and rejected"
        raise bad_row("this row has no response", row.where, allowed=allowed)
    return (row.chosen, row.rejected) if isinstance(row, Preference) else (row.response,)
