"""Marks on a text become values of its tokens, by the characters that each stands for; nothing is tokenized again."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from uptake.data.spans import shared
from uptake.errors import InputError
from uptake.types import Rollout, Span

Interval = tuple[int, int]


def intervals(tokenizer: PreTrainedTokenizerBase, rollout: Rollout) -> list[Interval]:
    """The characters of a response, half-open, that each of its tokens stands for.

    Read off the lengths of decoded prefixes, so they hold for ids that the tokenizer itself would not have chosen.
    Pieces of one character all get that character. The token that ends a text of n characters is (n, n + 1), and any
    other special token is empty. Raises InputError where the ids do not spell the text.
    """
    text, ids = rollout.response, rollout.response_ids[: len(rollout.response_ids) - rollout.finished]
    found: list[Interval] = []
    said, start = "", 0
    for count in range(1, len(ids) + 1):
        said = _decoded(tokenizer, ids[:count])
        stop = shared(said, text)
        # A character that is not whole yet is decoded as a mark that the text does not have there.
        found.append((start, min(stop + (stop < len(said)), len(text))))
        start = stop
    if said != text:
        raise InputError(f"the tokens spell {said!r}, the response is {text!r}", field="response")
    return [*found, (len(text), len(text) + 1)] if rollout.finished else found


def spread(spans: Sequence[Span], places: Sequence[Interval], text: str) -> list[float]:
    """One value a token, whose sum is that of the spans.

    A span is shared by the tokens it overlaps, in proportion. An empty one goes to the token of the character it stands
    before, or to the token that ends the text, and nowhere where there is none: the response was cut off. Raises
    InputError for a span that is not within the text, or not a number.
    """
    values = [0.0] * len(places)
    for span in spans:
        _check(span, text)
        end = max(span.end, span.start + 1)
        overlaps = [max(0, min(end, stop) - max(span.start, start)) for start, stop in places]
        for index, overlap in enumerate(overlaps):
            if overlap:
                values[index] += span.score * overlap / sum(overlaps)
    return values


def _check(span: Span, text: str) -> None:
    if not 0 <= span.start <= span.end <= len(text):
        raise InputError(f"span {span.start} to {span.end}", field="spans", allowed=f"places from 0 to {len(text)}")
    if not abs(span.score) < float("inf"):
        raise InputError(f"a span with the score {span.score}", field="spans", allowed="finite numbers")


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
