"""The columns of an edited or marked response: `spans`, `edited`, `edited_spans` and what goes with them."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from uptake.data.values import finite, number, one_of
from uptake.data.where import Record, bad_row, truth
from uptake.types import Edited, Prompt, Span, Where

# The columns of which one at least makes a completion an edited row, and all that such a row uses.
MARKS: Final = ("spans", "edited", "edited_spans")
EDITED: Final = (*MARKS, "finished", "group", "demoted", "weight")

_LABELS: Final = {"bad": -1.0, "neutral": 0.0, "good": 1.0}
_SPAN: Final = "{start, end, label or score[, type, note]}"


def edited_row(prompt: Prompt, response: str, record: Record) -> Edited:
    """The row of a response whose record has one of `MARKS`; InputError with place and field for columns that are bad.

    `spans` is a list of `{start, end, label or score}`, the label one of bad (-1), neutral (0) and good (1).
    """
    where = prompt.where
    edited, group = record.get("edited"), record.get("group")
    if edited is not None and not (isinstance(edited, str) and edited.strip()):
        raise bad_row(f"found {edited!r}", where, field="edited", allowed="some text")
    if edited is None and (record.get("spans") is None or record.get("edited_spans") is not None):
        raise bad_row("no edit", where, field="edited", allowed="some text, or `spans` alone")
    spans, edited_spans = (
        None if record.get(name) is None else read_spans(record[name], text, where, name)
        for name, text in (("spans", response), ("edited_spans", edited or ""))
    )
    return Edited(
        prompt,
        response,
        edited,
        spans,
        edited_spans,
        finished=truth(record.get("finished", True), where, "finished"),
        group="" if group is None else str(group),
        demoted=truth(record.get("demoted", False), where, "demoted"),
        weight=_weight(record.get("weight", 1.0), where),
    )


def edited_columns(row: Edited) -> dict[str, Any]:
    """The columns of a row beside prompt and completion, without those that say the usual."""
    columns = {
        "spans": None if row.spans is None else [spell_span(span) for span in row.spans],
        "edited": row.edited,
        "edited_spans": None if row.edited_spans is None else [spell_span(span) for span in row.edited_spans],
        "finished": None if row.finished else False,
        "group": row.group or None,
        "demoted": row.demoted or None,
        "weight": None if row.weight == 1 else row.weight,
    }
    return {name: value for name, value in columns.items() if value is not None}


def spell_span(span: Span) -> dict[str, Any]:
    """A span as `read_spans` reads it."""
    more = {"type": span.kind, "note": span.note}
    return {
        "start": span.start,
        "end": span.end,
        "score": span.score,
        **{name: text for name, text in more.items() if text},
    }


def read_spans(value: Any, text: str, where: Where | None, field: str) -> tuple[Span, ...]:
    """The spans of a text that a list of `{start, end, label or score}` spells; InputError for one that is not such."""
    if value == "[]":  # a cell of a CSV file, which only spells lists of objects
        value = []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise bad_row(f"found a {type(value).__name__}", where, field=field, allowed=f"a list of {_SPAN}")
    spans = tuple(_span(item, len(text), where, f"{field}[{index}]") for index, item in enumerate(value))
    inked = sorted((span for span in spans if span.start < span.end), key=lambda span: span.start)
    for one, other in pairwise(inked):
        if one.end > other.start:
            problem = f"{one.start} to {one.end} overlaps {other.start} to {other.end}"
            raise bad_row(problem, where, field=field, allowed="spans that do not overlap")
    return spans


def _span(item: Any, size: int, where: Where | None, field: str) -> Span:
    if not isinstance(item, Mapping):
        raise bad_row(f"found a {type(item).__name__}", where, field=field, allowed=_SPAN)
    given = {name: value for name, value in item.items() if value is not None}
    if unknown := given.keys() - {"start", "end", "label", "score", "type", "note"}:
        raise bad_row(f"no field {sorted(unknown)}", where, field=field, allowed=_SPAN)
    start, end = (_offset(given.get(name), size, where, f"{field}.{name}") for name in ("start", "end"))
    if start > end:
        raise bad_row(f"{start} to {end}", where, field=field, allowed="an end that is not before the start")
    return Span(start, end, _score(given, where, field), str(given.get("type", "")), str(given.get("note", "")))


def _offset(value: Any, size: int, where: Where | None, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= size:
        raise bad_row(f"found {value!r}", where, field=field, allowed=f"a whole number from 0 to {size}")
    return value


def _score(given: Mapping[str, Any], where: Where | None, field: str) -> float:
    if ("label" in given) == ("score" in given):
        found = "both label and score" if "label" in given else "neither label nor score"
        raise bad_row(found, where, field=field, allowed="one of label and score")
    if "label" in given:
        if (worth := one_of(_LABELS, given["label"])) is None:
            raise bad_row(f"found {given['label']!r}", where, field=f"{field}.label", allowed=", ".join(_LABELS))
        return worth
    if (score := finite(given["score"])) is None:
        raise bad_row(f"found {given['score']!r}", where, field=f"{field}.score", allowed="a finite number")
    return score


def _weight(value: Any, where: Where | None) -> float:
    weight = 1.0 if value is None else number(value)
    if weight is None or weight <= 0:
        raise bad_row(f"found {value!r}", where, field="weight", allowed="a number above 0")
    return weight
