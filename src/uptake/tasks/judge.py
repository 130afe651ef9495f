"""Label a file of pairs by an annotator."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from uptake.annotators.base import Annotator
from uptake.data import Writer, prompts, to_record
from uptake.data.convert import response_turns
from uptake.data.read import RowSet, read_as, used_columns
from uptake.data.resumable import digest, resumable_map, resumable_output
from uptake.data.rows import further_columns, response_turn
from uptake.data.turns import as_text, message, of_conversation
from uptake.data.where import bad_row, leave_out
from uptake.errors import InputError
from uptake.evaluate import Accuracy, pairwise_accuracy
from uptake.evaluate.annotator import AnnotatorStats, annotator_stats
from uptake.types import Preference, Prompt, Row, Verdict

# Pairs that an annotator is given at once.
CHUNK = 32

_VERDICT = TypeAdapter(Verdict)
_SIDE = re.compile("chosen|rejected")


@dataclass(frozen=True)
class JudgeSummary:
    """Summary of verdicts: rows written, rows where the annotator preferred the second response, rows left out.

    `accuracy` says how often the annotator agrees with the preferences of the file, None where it has none.
    """

    rows: int
    swapped: int
    dropped: int
    stats: AnnotatorStats
    accuracy: Accuracy | None


def read_pairs(
    source: str | Path,
    out: str | Path,
    *,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    drop_bad: bool = False,
) -> RowSet[Preference]:
    """The pairs of a data set for `judge_file`, which writes them to `out`.

    Rows are preferences, or prompts with two texts in the column `responses`, beside which `response_fields` may hold
    what each is a message with, such as tool calls; raises as `read_as`.
    """
    return read_as(_pair, source, out, allowed=_TWO, limit=limit, columns=columns, drop_bad=drop_bad)


def judge_file(
    pairs: RowSet[Preference],
    annotator: Annotator,
    out: str | Path,
    *,
    overwrite: bool = False,
    drop_bad: bool = False,
    chunk: int = CHUNK,
) -> JudgeSummary:
    """Write every pair to `out` with the annotator's verdict on its two responses.

    The response that the annotator prefers becomes `chosen`, and `p` and `p_by_order` are the probability that it is
    the better one; `swapped` says that it was the second, or the rejected one, before. A row without a valid verdict
    has neither chosen nor rejected: it goes out with its `responses`, with `response_fields` where one has tool calls
    or other fields, and the `reason`. `drop_bad` leaves out these rows and counts them. The annotator gets `chunk`
    pairs at once. Valid verdicts are journaled beside `out` while the work goes on, so a call that was killed goes on
    where it stopped. Raises InputError where no verdict is valid, and for an `out` that exists, unless `overwrite`.
    """
    out, rows = Path(out), pairs.rows
    with resumable_output(out, overwrite=overwrite) as journal:
        keys = _keys(rows, annotator)
        found = resumable_map(
            rows,
            keys,
            _annotated(annotator),
            journal,
            TypeAdapter(Verdict),
            chunk=chunk,
            label="judge",
            final=_is_valid,
        )
        verdicts = list(found)
        valid = list(filter(_is_valid, verdicts))
        if not valid:
            raise InputError(
                f"no pair could be judged; the first: {verdicts[0].detail or verdicts[0].reason}", path=pairs.source
            )
        with Writer(out, overwrite=overwrite, resumes=journal.resumes) as writer:
            for row, verdict in zip(rows, verdicts, strict=True):
                if verdict.valid or not drop_bad:
                    writer.write(_record(row, verdict))
                else:
                    leave_out(bad_row(verdict.detail or str(verdict.reason), row.prompt.where), [])
    stats = annotator_stats(verdicts, [len(row.chosen) for row in rows], [len(row.rejected) for row in rows])
    left_out = len(verdicts) - len(valid) if drop_bad else 0
    swapped = sum(verdict.p < 0.5 for verdict in valid)
    return JudgeSummary(len(rows) - left_out, swapped, pairs.left_out + left_out, stats, _accuracy(rows, verdicts))


_TWO = "chosen and rejected, or a column responses with two texts"


def _pair(row: Row) -> Preference:
    if isinstance(row, Preference):
        return row
    prompt = row if isinstance(row, Prompt) else row.prompt
    match prompt.extra.get("responses"), prompt.extra.get("response_fields", ({}, {})):
        case [str(), str()] as texts, [Mapping(), Mapping()] as fields:
            both = [{**more, "role": "assistant", "content": text} for text, more in zip(texts, fields, strict=True)]
            one, other = (response_turn(each, prompt.where, "responses") for each in both)
            return Preference(prompt, one.content, other.content, one.fields, other.fields)
    raise bad_row("this row has not two responses", prompt.where, field="responses", allowed=_TWO)


def _keys(rows: Sequence[Preference], annotator: Annotator) -> Iterator[bytes]:
    """The key of every pair: the annotator, the conversation, both responses in their order, and columns it reads."""
    fingerprint, used = annotator.fingerprint, annotator.columns
    for row in rows:
        messages = [*map(message, row.prompt.turns), of_conversation(row.prompt.turns)]
        yield digest("judge", fingerprint, messages, *_as_texts(row), *used_columns(row.prompt, used))


def _annotated(annotator: Annotator) -> Callable[[Sequence[Preference]], Sequence[Verdict]]:
    """What asks the annotator for the verdict on pairs."""
    return lambda rows: annotator.compare(prompts(rows), [_as_texts(row) for row in rows])


def _as_texts(row: Preference) -> tuple[str, str]:
    chosen, rejected = map(as_text, response_turns(row))
    return chosen, rejected


def _is_valid(verdict: Verdict) -> bool:
    return verdict.valid


def _record(row: Preference, verdict: Verdict) -> dict[str, Any]:
    """The row as the annotator labels it; without a label where it has none."""
    told = {"p": verdict.p, "p_by_order": list(verdict.by_order), "valid": True, "swapped": verdict.p < 0.5}
    if not verdict.valid:
        unlabelled = {"responses": [row.chosen, row.rejected], "valid": False, "reason": verdict.reason}
        fields = [dict(row.chosen_fields), dict(row.rejected_fields)]
        unlabelled |= {"response_fields": fields} if any(fields) else {}
        unlabelled |= {"detail": verdict.detail} if verdict.detail else {}
        return {**to_record(row.prompt), **further_columns(row), **dict.fromkeys(told), **unlabelled}
    left = ("responses", "response_fields", "reason", "detail") if "responses" in row.prompt.extra else ()
    extra = {name: value for name, value in row.prompt.extra.items() if name not in left}
    if verdict.p < 0.5:
        one, other = verdict.by_order
        told |= {"p": 1 - verdict.p, "p_by_order": [1 - other, 1 - one]}
        row, extra = _turned_pair(row), _turned(extra)
    return to_record(replace(row, prompt=replace(row.prompt, extra=extra))) | told


def _turned_pair(row: Preference) -> Preference:
    """The pair with its responses in the other order."""
    margin, ids = None if row.margin is None else -row.margin, row.token_ids
    ids = ids and replace(ids, chosen=ids.rejected, rejected=ids.chosen)
    sides = row.rejected, row.chosen, row.rejected_fields, row.chosen_fields
    return Preference(row.prompt, *sides, margin, ids)


def _turned(value: Any, margin: bool = False) -> Any:
    """A column's value for the other order: names with chosen and rejected change places, margins their sign."""
    if isinstance(value, Mapping):
        return {_SIDE.sub(_other, name): _turned(part, margin or "margin" in name) for name, part in value.items()}
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return -value if margin and number else value


def _other(side: re.Match[str]) -> str:
    return "rejected" if side[0] == "chosen" else "chosen"


def _accuracy(rows: Sequence[Preference], verdicts: Sequence[Verdict]) -> Accuracy | None:
    """How often the annotator prefers what the file prefers, lengths in characters."""
    both = [(row, v) for row, v in zip(rows, verdicts, strict=True) if v.valid and "responses" not in row.prompt.extra]
    if not both:
        return None
    return pairwise_accuracy(
        [verdict.p for _, verdict in both],
        [1 - verdict.p for _, verdict in both],
        [len(row.chosen) for row, _ in both],
        [len(row.rejected) for row, _ in both],
    )
