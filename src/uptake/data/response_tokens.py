"""The tokens of a response with the stretch of its raw text that each of them is, of one that is read or was sampled.

A text that is read has the tokenizer's own offsets, prompt and response in one piece. Ids that were sampled need not be
those that the tokenizer would choose, so theirs are read off the text that they decode to. Both count code points,
half-open, by the same rules:

* every code point up to the end of the last token belongs to a token: what no token spells, such as the accent that a
  normalizer joins to its letter, to the token before, and blanks to the one after;
* tokens that are parts of one character all have that character, so that offsets may overlap;
* special tokens that the text does not spell, and what a template writes after it, are empty;
* the token that ends the turn is `(n, n + 1)` after a text of n code points, and there is none where it was cut off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uptake.data.spans import Ids, decoded, shared
from uptake.errors import InputError
from uptake.ops.spans import Offsets
from uptake.support.keys import THOUGHTS
from uptake.types import Dialogue, Rollout, Turn, Where

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from uptake.data.chat import ChatFormat


# What bytes are decoded to that are no character, or not yet.
_NO_CHARACTER = "\ufffd"


@dataclass(frozen=True, slots=True)
class ResponseTokens:
    """Ids of prompt and response, as of `ChatFormat.response_ids`, and the offsets of every response token."""

    prompt_ids: Ids
    ids: Ids
    offsets: tuple[tuple[int, int], ...]


def response_tokens(
    chat: "ChatFormat", turns: Dialogue, response: Turn | str, *, finished: bool = True, where: Where | None = None
) -> ResponseTokens:
    """The tokens of a response; one that is not `finished` has no end-of-turn token.

    Raises as `ChatFormat.response_ids` does, and InputError where the tokenizer knows no offsets.
    """
    if not chat.tokenizer.is_fast:
        raise InputError("this tokenizer gives no offsets", field="tokenizer", allowed="a fast tokenizer")
    answer = Turn("assistant", response) if isinstance(response, str) else response
    prompt, text = chat.response_text(turns, answer, finished=finished, where=where)
    prompt_ids, ids, places = chat.continued(prompt, text)
    written = text.removesuffix(chat.closing) if finished else text
    raw = _raw_places(chat, answer, written)
    last = len(written)
    offsets = [(raw[min(max(start, 0), last)], raw[min(max(stop, 0), last)]) for start, stop in places]
    filled = _filled(offsets[:-1] if finished else offsets, answer.content, finished)
    return ResponseTokens(prompt_ids, ids, tuple(filled))


def sampled_offsets(
    tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], text: str, *, finished: bool
) -> list[tuple[int, int]]:
    """The offsets of ids that spell a text, whether or not the tokenizer would cut it so; `finished` ones end the turn.

    Read off the lengths of decoded prefixes; where tokens are bytes, a prefix is decoded from its last whole character
    on, since nothing before that can change. What is decoded as long as before is a part of what stands before it, such
    as the further bytes of a character that was cut off. Blanks at both ends aside, which a template may strip, the ids
    have to spell the text: raises InputError where they do not.
    """
    spelled, special = ids[: len(ids) - finished], set(tokenizer.all_special_ids)
    whole = decoded(tokenizer, spelled)
    if whole.strip() != text.strip():
        raise InputError(f"the tokens spell {whole!r}, the response is {text!r}", field="response")
    found: list[tuple[int, int]] = []
    offset, start, first, before, by_bytes = (0, 0), 0, 0, 0, _spells_bytes(tokenizer)
    for count, each in enumerate(spelled, 1):
        if each in special:
            found.append((offset[1], offset[1]))
            continue
        read = decoded(tokenizer, spelled[first:count])
        alike = shared(read, whole[before : before + len(read)])
        # A character that is not whole yet is decoded as a mark that the text does not have there.
        stop = before + alike
        end = min(stop + (alike < len(read)), len(whole))
        offset = (start, end) if end > start else offset
        found.append(offset)
        start = max(start, stop)
        if by_bytes and read and read[-1] != _NO_CHARACTER:
            first, before = count, before + len(read)
    begin = len(text) - len(text.lstrip()) - (len(whole) - len(whole.lstrip()))
    return _filled([(one + begin, other + begin) for one, other in found], text, finished)


def _spells_bytes(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a text is the bytes of its tokens, one after another: what follows a character can be read alone."""
    return tokenizer.is_fast and type(tokenizer.backend_tokenizer.decoder).__name__ == "ByteLevel"


def rollout_offsets(tokenizer: "PreTrainedTokenizerBase", rollout: Rollout) -> list[tuple[int, int]]:
    """The offsets of the ids of a rollout in its response; raises as `sampled_offsets` does."""
    return sampled_offsets(tokenizer, rollout.response_ids, rollout.response, finished=rollout.finished)


def _filled(raw: Offsets, text: str, finished: bool) -> list[tuple[int, int]]:
    """Offsets inside a text without gaps: what no token spells belongs to the token before, blanks to the one after."""
    offsets: list[tuple[int, int]] = []
    reached, size = 0, len(text)
    for start, stop in raw:
        first, last = min(max(start, 0), size), min(max(stop, 0), size)
        gap = text[reached:first]
        if offsets and gap.strip():
            reached = _lengthened(offsets, reached + len(gap.rstrip()))
        offsets.append((min(first, reached), max(last, min(first, reached))))
        reached = max(reached, last)
    if offsets and text[reached:].strip():
        _lengthened(offsets, len(text.rstrip()))
    return [*offsets, (offsets[-1][1] if offsets else 0, size + 1)] if finished else offsets


def _lengthened(offsets: list[tuple[int, int]], stop: int) -> int:
    """The last token, with all that are parts of the same character, up to a new end, which is returned."""
    last, at = offsets[-1], len(offsets)
    while at and offsets[at - 1] == last:
        at -= 1
        offsets[at] = last[0], stop
    return stop


def _raw_places(chat: "ChatFormat", answer: Turn, text: str) -> list[int]:
    """The place in the raw response of every place of what the template writes for it.

    Read from the end: both have the same characters, but for blanks at the ends or around the marks of a thought;
    before them, and after the content where it has tool calls, stands what only the template says.
    """
    content = chat.escape(answer.content)
    bare = content.strip()
    thought = next((str(answer.fields[name]).strip() for name in THOUGHTS if name in answer.fields), "")
    found = text.find(bare, text.find(thought) + len(thought)) if "tool_calls" in answer.fields else text.rfind(bare)
    if bare and found >= 0 and ("tool_calls" in answer.fields or not text[found + len(bare) :].strip()):
        begin = found - (len(content) - len(content.lstrip()))
        return [min(max(at - begin, 0), len(content)) for at in range(len(text) + 1)]
    places, at = [len(content)] * (len(text) + 1), len(content)
    for index in range(len(text) - 1, -1, -1):
        if not text[index].isspace():
            at = len(content[:at].rstrip())
        if at and text[index] == content[at - 1]:
            at -= 1
        places[index] = at
    return places
