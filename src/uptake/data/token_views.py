"""Responses with numbers for their tokens, to look at: which characters each token stands for, and what it got.

Tokens do not cut a text where a reader would: a byte-level vocabulary spells one emoji with several of them, and the
token that ends a turn spells nothing. So a view keeps one place per token and one number per token, whatever the text
does; who draws it joins what belongs to one character.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from uptake.data.response_tokens import sampled_offsets
from uptake.data.spans import decoded
from uptake.ops.spans import Offsets
from uptake.types import Dialogue, Rollout

if TYPE_CHECKING:
    from uptake.data.chat import ChatFormat


@dataclass(frozen=True, slots=True)
class Token:
    """The code points of a response that a token stands for, half-open: `Token(3, 7)` for " cat" in "The cat sat."

    Tokens that share a character have the same place. A special token stands for none, so its place is empty (unless it
    was said between parts of a character), and `special` spells it.
    """

    start: int
    end: int
    special: str = ""


@dataclass(frozen=True, slots=True)
class TokenView:
    """A response with rows of numbers, one per token: `TokenView(turns, "No.", (Token(0, 3),), {"reward": (-1.0,)})`.

    The names of rows are free; the report knows "reward", "advantage" and "value". None is a token without a number.
    `edited` is the minimal edit of the response, `title` says which response this is. `step` counts the optimizer steps
    before it was given. Raises ValueError where places and numbers do not fit the response.
    """

    prompt: Dialogue
    response: str
    tokens: tuple[Token, ...]
    values: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    edited: str | None = None
    title: str = ""
    step: int | None = None

    def __post_init__(self) -> None:
        for name, row in self.values.items():
            if len(row) != len(self.tokens):
                raise ValueError(f"{len(row)} numbers called {name!r} for {len(self.tokens)} tokens")
        for before, token in pairwise((Token(0, 0), *self.tokens)):
            same = (before.start, before.end) == (token.start, token.end)
            if not (same or before.end <= token.start <= token.end <= len(self.response)):
                problem = f"a token from {token.start} to {token.end} after one to {before.end}"
                raise ValueError(f"{problem}, in a response of {len(self.response)} characters")


def token_view(
    chat: "ChatFormat",
    prompt: Dialogue,
    response_ids: Sequence[int],
    values: Mapping[str, Sequence[float | None]],
    *,
    edited: str | None = None,
    title: str = "",
    step: int | None = None,
) -> TokenView:
    """The view of a response given as token ids, the end-of-turn token included, with one number per id in every row.

    Numbers keep five digits, which is more than a reader tells apart. Raises ValueError where a row has another length.
    """
    response, tokens = locate(chat, response_ids)
    rows = {name: tuple(None if each is None else float(f"{each:.5g}") for each in row) for name, row in values.items()}
    return TokenView(prompt, response, tokens, rows, edited, title, step)


def rollout_view(
    chat: "ChatFormat", rollout: Rollout, values: Mapping[str, Sequence[float | None]], title: str = ""
) -> TokenView:
    """The view of a rollout: one number per response id in every row of `values`."""
    turns = rollout.prompt.turns
    return token_view(chat, turns, rollout.response_ids, values, title=title, step=rollout.version)


def locate(chat: "ChatFormat", ids: Sequence[int]) -> tuple[str, tuple[Token, ...]]:
    """The text of some ids without special tokens, and the place of every id in it."""
    finished = bool(ids) and ids[-1] in chat.end_ids
    text = decoded(chat.tokenizer, ids[: len(ids) - finished])
    offsets = sampled_offsets(chat.tokenizer, ids, text, finished=finished)
    return text, join(offsets, [str(token) for token in chat.tokenizer.convert_ids_to_tokens(list(ids))], len(text))


def join(offsets: Offsets, spelled: Sequence[str], size: int) -> tuple[Token, ...]:
    """Tokens from their offsets in a text of `size` code points; those that overlap share a place.

    A token beyond the text, or without width, stands for no character and is `spelled`; one that was said between parts
    of a character has their place.
    """
    tokens: list[Token] = []
    for (start, end), name in zip(offsets, spelled, strict=True):
        if end > size or start == end:
            tokens.append(Token(min(end, size), min(end, size), name))
            continue
        alike = [at for at, token in enumerate(tokens) if token.end > start and not token.special]
        places = [(start, end), *((tokens[at].start, tokens[at].end) for at in alike)]
        tokens.append(Token(min(offset[0] for offset in places), max(offset[1] for offset in places)))
        for at in range(alike[0], len(tokens)) if alike else ():
            tokens[at] = replace(tokens[-1], special=tokens[at].special)
    return tuple(tokens)
