"""Spans of text among the tokens of a longer one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.types import Where

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = tuple[int, ...]

# Contents that begin differently under any usable vocabulary, for tokenizers without offsets.
_PLACEHOLDERS = ("That", "yes", "1", "?")
_BLANK_MARKS = "▁Ġ "
_WINDOW = 30


def tokenize(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[Ids]:
    """Ids of each text in one batch call; no special tokens beside those that the texts spell out."""
    batch = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
    return [tuple(ids) for ids in batch["input_ids"]]


def decoded(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> str:
    """What ids spell, without special tokens: the text of a response that was sampled."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def split(
    tokenizer: "PreTrainedTokenizerBase", header: str, contents: Sequence[str], where: Where | None = None
) -> list[tuple[Ids, Ids]]:
    """Stem and branch of `header + content`, split where the content begins, for every content in one batch call.

    Spaces at the end of the header go with the content, since many vocabularies join them with the first word; other
    blanks stay with the header unless a token joins them with the content. Raises InputError where a token joins
    other characters of the header with the content.
    """
    if tokenizer.is_fast:
        return _split_by_offsets(tokenizer, header, contents, where)
    return _split_by_placeholders(tokenizer, header, contents, where)


def continued(
    tokenizer: "PreTrainedTokenizerBase", before: str, after: str
) -> tuple[tuple[Ids, Ids, list[tuple[int, int]]], bool]:
    """Ids of a text, ids of what goes on after it, and the offsets of these (none of a slow tokenizer); are they apart?

    Where the ids of the first text do not begin those of both, because a token joins the two, the second is read on its
    own, and the last value is true.
    """
    (first, _), (whole, places) = _encoded(tokenizer, [before, before + after])
    joined = [stop for _, stop in places[: len(first)][-1:] if (before + after)[len(before) : stop].strip()]
    if whole[: len(first)] == first and not joined:
        return (first, whole[len(first) :], _moved(places[len(first) :], len(before))), False
    # After an anchor, since what begins a text gets a blank from many tokenizers.
    for anchor in (*map(str, tokenizer.all_special_tokens), "\n", ""):
        (alone, _), (both, places) = _encoded(tokenizer, [anchor, anchor + after])
        if both[: len(alone)] == alone:
            return (first, both[len(alone) :], _moved(places[len(alone) :], len(anchor))), True
    raise InputError("no token of this tokenizer stands alone", field="tokenizer")


def _moved(places: Sequence[tuple[int, int]], by: int) -> list[tuple[int, int]]:
    return [(start - by, end - by) for start, end in places]


def _encoded(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[tuple[Ids, list[tuple[int, int]]]]:
    """Ids and offsets of each text; no offsets of a slow tokenizer."""
    if not tokenizer.is_fast:
        return [(ids, []) for ids in tokenize(tokenizer, texts)]
    options = {"add_special_tokens": False, "return_attention_mask": False, "return_offsets_mapping": True}
    batch = tokenizer(list(texts), verbose=False, **options)
    return [(tuple(ids), places) for ids, places in zip(batch["input_ids"], batch["offset_mapping"], strict=True)]


def is_written(content: str, text: str, *, whole: bool = True) -> bool:
    """Whether a text ends with a content as it is, blanks at the ends aside; unless `whole`, other text may follow it.

    Blanks may differ before and after the mark that closes a thought, which templates set in their own way.
    """
    content, text = content.strip(), text.strip()
    if text.endswith(content) or (not whole and content in text):
        return True
    alike = shared(content[::-1], text[::-1])
    thought = content[: len(content) - alike]
    return _ends_thought(thought) and _without_blanks(text).endswith(_without_blanks(content))


def is_written_later(content: str, text: str) -> bool:
    """Whether a text is a content as it is, blanks at the ends aside, or without the thought that it begins with."""
    content, text = content.strip(), text.strip()
    return content == text or (content.endswith(text) and _ends_thought(content[: len(content) - len(text)]))


def _ends_thought(text: str) -> bool:
    return text.rstrip().endswith((">", "]"))


def _without_blanks(text: str) -> str:
    return "".join(text.split())


def refuse(problem: str, expected: Sequence[str], found: Sequence[str], where: Where | None = None) -> NoReturn:
    """Raises InputError with both texts, or lists of tokens, around their first difference."""
    at = shared(expected, found)
    near = slice(max(at - _WINDOW, 0), at + _WINDOW)
    raise bad_row(
        f"{problem}: expected {expected[near]!r}, found {found[near]!r}",
        where,
        allowed="a chat template that writes the content of every turn as it is, between special tokens or blanks",
    )


def shared(left: Sequence[object], right: Sequence[object]) -> int:
    """Length of the longest common prefix."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def _split_by_offsets(
    tokenizer: "PreTrainedTokenizerBase", header: str, contents: Sequence[str], where: Where | None
) -> list[tuple[Ids, Ids]]:
    batch = tokenizer(
        [header + content for content in contents],
        add_special_tokens=False,
        return_attention_mask=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    blank, splits = len(header.rstrip(" ")), []
    for ids, offsets, content in zip(batch["input_ids"], batch["offset_mapping"], contents, strict=True):
        first = next(i for i, (start, end) in enumerate(offsets) if start >= blank or end > len(header))
        start, end = offsets[first]
        if header[start:].strip():
            refuse("a token joins the header and the follow-up", header[start:], (header + content)[start:end], where)
        splits.append((tuple(ids[:first]), tuple(ids[first:])))
    return splits


def _split_by_placeholders(
    tokenizer: "PreTrainedTokenizerBase", header: str, contents: Sequence[str], where: Where | None
) -> list[tuple[Ids, Ids]]:
    first, *others = tokenize(tokenizer, [header + word for word in _PLACEHOLDERS])
    stem = first[: min(shared(first, other) for other in others)]
    while stem and not str(tokenizer.convert_ids_to_tokens(stem[-1])).strip(_BLANK_MARKS):
        stem = stem[:-1]
    splits = []
    for ids in tokenize(tokenizer, [header + content for content in contents]):
        if ids[: len(stem)] != stem:
            expected, found = (tokenizer.convert_ids_to_tokens(list(part)) for part in (stem, ids))
            refuse("a token joins the header and the follow-up", expected, found, where)
        splits.append((stem, ids[len(stem) :]))
    return splits
