"""The tokens of a response as they stand after its prompt, with the stretch of the raw text that each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass

from uptake.data.chat import ChatFormat
from uptake.data.spans import Ids, refuse
from uptake.errors import InputError, ModelError
from uptake.types import Dialogue, Turn, Where


@dataclass(frozen=True, slots=True)
class ResponseTokens:
    """Ids of prompt and response, read together, and the offsets of every response token in the raw response.

    Offsets count code points, half-open; every code point before the last token's end belongs to a token, blanks that a
    tokenizer leaves out to the token after them. The end-of-turn token of a response of n code points is `(n, n + 1)`.
    What the template writes between the two has no width. `merged` says that the prompt alone has other ids: a token
    holds the end of the prompt and the beginning of the response, and counts as the response's.
    """

    prompt_ids: Ids
    ids: Ids
    offsets: tuple[tuple[int, int], ...]
    merged: bool = False


def response_tokens(
    chat: ChatFormat, turns: Dialogue, response: str, *, finished: bool = True, where: Where | None = None
) -> ResponseTokens:
    """The tokens of a response; one that is not `finished` has no end-of-turn token.

    Raises InputError where the template changes the response or renders the prompt differently once it is answered,
    and where the tokenizer knows no offsets; ModelError where a finished response has no end-of-turn token.
    """
    if finished and not chat.closing:
        raise ModelError(
            "the chat template ends the assistant's turn without a special token, so it has no end to mark"
        )
    if not chat.tokenizer.is_fast:
        raise InputError("this tokenizer gives no offsets", field="tokenizer", allowed="a fast tokenizer")
    border, begin, end, text = _rendered(chat, turns, response, where)
    text = text[:end] + (chat.closing if finished else "")
    batch = chat.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, places = tuple(batch["input_ids"]), batch["offset_mapping"]
    first = next((place for place, (_, stop) in enumerate(places) if stop > border), len(ids))
    alone = tuple(chat.tokenizer(text[:border], add_special_tokens=False, verbose=False)["input_ids"])
    raw = [(start - begin, stop - begin) for start, stop in places[first:]]
    offsets = filled(raw[:-1] if finished else raw, len(response))
    if finished:
        offsets.append((offsets[-1][1] if offsets else 0, len(response) + 1))
    return ResponseTokens(ids[:first], ids[first:], tuple(offsets), alone != ids[:first])


def filled(raw: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Offsets inside a text of `size` code points without gaps: no token begins after the one before it ended."""
    offsets: list[tuple[int, int]] = []
    reached = 0
    for start, stop in raw:
        inside = min(max(start, 0), size), min(max(stop, 0), size)
        offsets.append((min(inside[0], reached), max(inside[1], min(inside[0], reached))))
        reached = max(reached, inside[1])
    return offsets


def _rendered(chat: ChatFormat, turns: Dialogue, response: str, where: Where | None) -> tuple[int, int, int, str]:
    """Where the prompt ends, where the raw response would begin, where the turn's content ends, and the whole text.

    A template may strip the response, whose first code points then lie before the end of the prompt.
    """
    prompt, whole = chat.render(turns, generation=True), chat.render((*turns, Turn("assistant", response)))
    if not whole.startswith(prompt):
        refuse("the template renders the prompt differently once it is answered", prompt, whole, where)
    end = whole.rfind(chat.closing, len(prompt)) if chat.closing else len(whole)
    said = response.strip()
    at = whole.rfind(said, len(prompt), max(end, len(prompt)))
    if end < 0 or at < 0 or whole[len(prompt) : at].strip() or whole[at + len(said) : end].strip():
        refuse("the template changes the response", response + chat.closing, whole[len(prompt) :], where)
    return len(prompt), at - (len(response) - len(response.lstrip())), end, whole
