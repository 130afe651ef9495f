"""Recorded responses: what rows hold, as token ids, one row after another."""

from collections.abc import Iterator

from uptake.data.convert import response_turns
from uptake.data.where import bad_row
from uptake.support.progress import progress_bar
from uptake.types import Preference, Prompt, Row, TokenIds, Turn
from uptake.world import World


def each_row(world: World) -> Iterator[Row]:
    """The world's rows in order, one at a time, under a progress bar."""
    with progress_bar("rows to examples", len(world.rows)) as bar:
        for row in world.rows:
            yield row
            bar.advance()


def preference_ids(world: World, row: Preference) -> tuple[TokenIds, TokenIds, TokenIds]:
    """Ids of the prompt, of the chosen and of the rejected response; raises as `response_ids` does.

    Mined rows carry the ids that were sampled; where their tokenizer is ours, these are taken, since another way to cut
    the same text into tokens would be a response that the policy never gave.
    """
    prompt, ids = row.prompt, row.token_ids
    if ids is not None and ids.tokenizer == world.chat.fingerprint:
        for side in (ids.chosen, ids.rejected):
            _check_window(world, prompt, ids.prompt, side)
        return ids.prompt, ids.chosen, ids.rejected
    chosen, rejected = response_turns(row)
    prompt_ids, chosen_ids = response_ids(world, prompt, chosen)
    _, rejected_ids = response_ids(world, prompt, rejected)
    return prompt_ids, chosen_ids, rejected_ids


def response_ids(world: World, prompt: Prompt, response: Turn) -> tuple[TokenIds, TokenIds]:
    """Ids of a prompt and of a recorded response under the world's chat format.

    Raises InputError for a response of weight 0, which is not to be learned from, and for a row that the model's window
    cannot hold: a response that is cut off would lose its end.
    """
    if response.fields.get("weight", 1) == 0:
        raise bad_row("a response of weight 0", prompt.where, field="weight", allowed="a response to learn from")
    prompt_ids, ids = world.chat.response_ids(prompt.turns, response, where=prompt.where)
    _check_window(world, prompt, prompt_ids, ids)
    return prompt_ids, ids


def _check_window(world: World, prompt: Prompt, prompt_ids: TokenIds, ids: TokenIds) -> None:
    window, size = world.policy.window, len(prompt_ids) + len(ids)
    if window is not None and size > window:
        allowed = f"at most {window}, the window of {world.policy.name}"
        raise bad_row(f"prompt and response have {size} tokens", prompt.where, allowed=allowed)
