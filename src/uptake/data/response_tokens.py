"""The tokens of a response with the stretch of its raw text that each of them is, of one that is read or was sampled.

A text that is read has the tokenizer's own offsets, prompt and response in one piece. Ids that were sampled need not be
those that the tokenizer would choose, so theirs are read off the text that they decode to. Both count code points,
half-open, by the same rules:

* every code point up to the end of the last token belongs to a token, and blanks that no token spells to the one after;
* tokens that are parts of one character all have that character, so that offsets may overlap;
* special tokens that the text does not spell, and what a template writes after it, are empty;
* the token that ends the turn is `(n, n + 1)` after a text of n code points, and there is none where it was cut off.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from uptake.data.chat import ChatFormat
from uptake.data.spans import Ids, refuse, shared
from uptake.errors import InputError, ModelError
from uptake.ops.spans import Offsets
from uptake.types import Dialogue, Rollout, Turn, Where


@dataclass(frozen=True, slots=True)
class ResponseTokens:
    """Ids of prompt and response, read together, and the offsets of every response token in the raw response.

    `merged` says that the prompt alone has other ids: a token holds the end of the prompt and the beginning of the
    response, and counts as the response's.
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
    offsets = _filled(raw[:-1] if finished else raw, len(response), finished)
    return ResponseTokens(ids[:first], ids[first:], tuple(offsets), alone != ids[:first])


def sampled_offsets(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], text: str, *, finished: bool
) -> list[tuple[int, int]]:
    """The offsets of ids that spell a text, whether or not the tokenizer would cut it so; `finished` ones end the turn.

    Read off the lengths of decoded prefixes. What is decoded as long as before is a part of what stands before it, such
    as the further bytes of a character that was cut off. Blanks at both ends aside, which a template may strip, the ids
    have to spell the text: raises InputError where they do not.
    """
    said, special = ids[: len(ids) - finished], set(tokenizer.all_special_ids)
    whole = decoded(tokenizer, said)
    if whole.strip() != text.strip():
        raise InputError(f"the tokens spell {whole!r}, the response is {text!r}", field="response")
    found: list[tuple[int, int]] = []
    place, start = (0, 0), 0
    for count, each in enumerate(said, 1):
        if each in special:
            found.append((place[1], place[1]))
            continue
        before = decoded(tokenizer, said[:count])
        stop = shared(before, whole)
        # A character that is not whole yet is decoded as a mark that the text does not have there.
        end = min(stop + (stop < len(before)), len(whole))
        place = (start, end) if end > start else place
        found.append(place)
        start = max(start, stop)
    begin = len(text) - len(text.lstrip()) - (len(whole) - len(whole.lstrip()))
    return _filled([(one + begin, other + begin) for one, other in found], len(text), finished)


def rollout_offsets(tokenizer: PreTrainedTokenizerBase, rollout: Rollout) -> list[tuple[int, int]]:
    """The offsets of the ids of a rollout in its response; raises as `sampled_offsets` does."""
    return sampled_offsets(tokenizer, rollout.response_ids, rollout.response, finished=rollout.finished)


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """What ids spell, without special tokens: the text of a response that was sampled."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _filled(raw: Offsets, size: int, finished: bool) -> list[tuple[int, int]]:
    """Offsets inside a text of `size` code points without gaps: no token begins after the one before it ended."""
    offsets: list[tuple[int, int]] = []
    reached = 0
    for start, stop in raw:
        inside = min(max(start, 0), size), min(max(stop, 0), size)
        offsets.append((min(inside[0], reached), max(inside[1], min(inside[0], reached))))
        reached = max(reached, inside[1])
    return [*offsets, (offsets[-1][1] if offsets else 0, size + 1)] if finished else offsets


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
