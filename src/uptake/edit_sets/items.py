"""What the files of this room share: edited rows with their source and split, and when an edit is a minimal one."""

from collections.abc import Sequence
from dataclasses import replace

from uptake.feedback_sets.items import Split, split_of
from uptake.ops.alignment import align
from uptake.types import Edited, Prompt, Span

# What a reader of files yields for a row: an edited row, or why there is none.
Row = Edited | str

# What an unchanged text counts: many of them would pull every reward to 0.
NO_EDIT_WEIGHT = 0.1
# The share of words beyond which an edit no longer says where a response was wrong.
MINIMAL = 0.5


def edited(
    prompt: Prompt,
    source: str,
    response: str,
    edit: str | None = None,
    spans: Sequence[Span] | None = None,
    *,
    split: Split | None = None,
    group: str = "",
) -> Row:
    """An edited row, or why there is none. Without a split, the question decides. Spans that overlap are joined.

    Beside spans, an edit that is not minimal is left away; without spans, it is demoted.
    """
    if not response.strip():
        return "no response"
    if spans is None and not (edit or "").strip():
        return "no edit"
    extra = {"source": source, "split": split or split_of(prompt.turns)}
    marks = None if spans is None else joined(spans)
    row = Edited(replace(prompt, extra=extra), response, edit or None, marks, group=group)
    if row.edited is None or minimal(response, row.edited):
        return replace(row, weight=NO_EDIT_WEIGHT) if row.edited == response and spans is None else row
    return replace(row, demoted=True) if spans is None else replace(row, edited=None)


def minimal(response: str, edit: str) -> bool:
    """Whether at most half of the words change."""
    one, other = response.split(), edit.split()
    return align(one, other).distance <= MINIMAL * max(len(one), len(other))


def joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The spans from left to right; of those that overlap, one from the first start to the last end."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda each: each.start):
        if found and span.start < found[-1].end:
            found[-1] = replace(found[-1], end=max(span.end, found[-1].end))
        else:
            found.append(span)
    return tuple(found)
