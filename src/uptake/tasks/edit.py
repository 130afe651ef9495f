"""Edit the worse response of every row, keep the edits that are minimal and better, and say why the others are not."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar, final

from pydantic import TypeAdapter

from uptake.annotators.base import Annotator
from uptake.data import Writer, to_record
from uptake.data.convert import as_texts
from uptake.data.files import suffix
from uptake.data.read import RowSet, read_as, used_columns
from uptake.data.resumable import Store, digest, filled, resumable_output
from uptake.data.rows import further_columns
from uptake.data.turns import message, of_conversation
from uptake.data.where import bad_row, truth
from uptake.data.write import FORMATS, may_write
from uptake.edits.edit import Draft, Editor, Outcome, Proposal
from uptake.edits.rules import Rules
from uptake.errors import InputError
from uptake.evaluate.annotator import position_bias_warning
from uptake.evaluate.edits import EditStats, edit_stats
from uptake.support.keys import content_key
from uptake.support.progress import progress_bar
from uptake.types import NO_EDIT_WEIGHT, Answered, Edited, Preference, Rated, Row, Verdict

# Responses that an editor is given at once.
CHUNK = 32
# Characters of an answer that an error repeats.
QUOTED = 80

_AnswerT = TypeVar("_AnswerT", Proposal, Verdict)


@dataclass(frozen=True)
class EditSummary:
    """Summary of edits: rows written, rows that could not be read, and figures about all edits.

    `seconds` is what editing and judging took in this call.
    """

    written: int
    dropped: int
    stats: EditStats
    seconds: float


def read_drafts(
    source: str | Path,
    out: str | Path,
    *,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    drop_bad: bool = False,
) -> RowSet[Draft]:
    """The rejected response, or the only one, of every row, for `edit_file`, which writes to `out`.

    Where rows have a column `finished`, it says whether the response ended by itself. Raises as `read_as`.
    """
    return read_as(_draft, source, out, allowed=_EDITABLE, limit=limit, columns=columns, drop_bad=drop_bad)


def edit_file(
    drafts: RowSet[Draft],
    editor: Editor,
    out: str | Path,
    *,
    annotator: Annotator | None = None,
    rules: Rules = Rules(),
    no_edit_weight: float = NO_EDIT_WEIGHT,
    overwrite: bool = False,
    chunk: int = CHUNK,
) -> EditSummary:
    """Write the minimal edit of every response to `out`.

    An edit is written where the `rules` take it and the annotator, if there is one, prefers it in both orders. One that
    changes or moves too much is written as `demoted`, an unchanged response with `no_edit_weight` and no faults. All
    others go, with the reason, to a file beside `out`, "edits.rejects.jsonl" for "edits.jsonl".

    The editor gets `chunk` responses at once. What editor and annotator say is journaled beside `out` while the work
    goes on, so a call that was killed goes on where it stopped. Raises InputError where nothing can be written, and for
    an `out` that exists, unless `overwrite`.
    """
    if not 0 < no_edit_weight <= 1:
        raise InputError(f"{no_edit_weight}", field="no_edit_weight", allowed="more than 0, at most 1")
    out = Path(out)
    rejects = beside(out, "rejects.jsonl")
    begin = perf_counter()
    with resumable_output(out, rejects, overwrite=overwrite) as journal:
        editing = _Editing(editor, annotator, rules, journal)
        outcomes = _outcomes(drafts.rows, editing, chunk)
        seconds = perf_counter() - begin
        good = [outcome for outcome in outcomes if outcome.status != "rejected"]
        _write_rejects(outcomes, editor, rejects, overwrite=not journal.is_finished)
        if not good:
            raise InputError(f"{_nothing(outcomes)}; see {rejects}", path=drafts.source, allowed="at least one edit")
        with Writer(out, overwrite=overwrite, resumes=journal.resumes) as writer:
            for outcome in good:
                writer.write(to_record(_row(outcome, editor, no_edit_weight)))
    return EditSummary(len(good), drafts.left_out, edit_stats(outcomes), seconds)


def beside(out: Path, ending: str) -> Path:
    """A file of the same work: "edits.jsonl" has "edits.rejects.jsonl" beside it."""
    return out.with_name(f"{out.name.removesuffix(suffix(out, FORMATS))}.{ending}")


_EDITABLE = "chosen and rejected, or prompt and completion"


def _draft(row: Row) -> Draft:
    as_texts(row)  # raises for tool calls and thoughts, of which no edit knows
    match row:
        case Preference():
            draft = Draft(row.prompt, row.rejected, row.chosen)
        case Answered() | Rated():
            draft = Draft(row.prompt, row.response)
        case _:
            where = row.where if not isinstance(row, Edited) else row.prompt.where
            raise bad_row("this row has no response to edit", where, allowed=_EDITABLE)
    finished = truth(draft.prompt.extra.get("finished", True), draft.prompt.where, "finished")
    extra = {name: value for name, value in further_columns(row).items() if name != "finished"}
    return replace(draft, prompt=replace(draft.prompt, extra=extra), finished=finished)


def _outcomes(drafts: Sequence[Draft], editing: "_Editing", chunk: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with progress_bar("edit", len(drafts)) as bar:
        for start in range(0, len(drafts), chunk):
            outcomes += editing.outcomes(drafts[start : start + chunk])
            bar.advance(len(drafts[start : start + chunk]))
    return outcomes


@final
@dataclass(frozen=True)
class _Editing:
    """Where drafts become outcomes; what was said in this call, and in one that was killed, is in the store."""

    editor: Editor
    annotator: Annotator | None
    rules: Rules
    store: Store

    def outcomes(self, drafts: Sequence[Draft]) -> list[Outcome]:
        proposals = self._proposals(drafts)
        checked = [
            None if proposal.reason else self.rules(draft, proposal.text)
            for draft, proposal in zip(drafts, proposals, strict=True)
        ]
        outcomes = list(map(Outcome, drafts, proposals, checked))
        if self.annotator is None:
            return outcomes
        judged = [index for index, one in enumerate(outcomes) if one.status in ("accepted", "demoted")]
        for index, verdict in zip(judged, self._verdicts([outcomes[index] for index in judged]), strict=True):
            outcomes[index] = replace(outcomes[index], verdict=verdict)
        return outcomes

    def _proposals(self, drafts: Sequence[Draft]) -> list[Proposal]:
        keys = [digest("edit", self.editor.fingerprint, *_content(draft), draft.better) for draft in drafts]
        return self._answers(keys, lambda new: self.editor([drafts[index] for index in new]), _PROPOSAL)

    def _verdicts(self, outcomes: Sequence[Outcome]) -> list[Verdict]:
        """How likely the edit is better than the response."""
        assert self.annotator is not None
        ask = self.annotator
        pairs = [(one.checked.text if one.checked else "", one.draft.response) for one in outcomes]
        keys = [
            digest("judge", ask.fingerprint, *_content(one.draft), edit, *used_columns(one.draft.prompt, ask.columns))
            for one, (edit, _) in zip(outcomes, pairs, strict=True)
        ]
        prompts = [one.draft.prompt for one in outcomes]
        return self._answers(
            keys, lambda new: ask.compare([prompts[index] for index in new], [pairs[index] for index in new]), _VERDICT
        )

    def _answers(
        self, keys: Sequence[bytes], ask: Callable[[list[int]], Sequence[_AnswerT]], kind: TypeAdapter[_AnswerT]
    ) -> list[_AnswerT]:
        """What was said to every question; those that are new are asked, each once."""
        spelled = [key.hex() for key in keys]
        found = filled(spelled, ask, self.store, kind, final=_is_final)
        return [found[key] for key in spelled]


_PROPOSAL, _VERDICT = TypeAdapter(Proposal), TypeAdapter(Verdict)


def _content(draft: Draft) -> tuple[object, ...]:
    turns = draft.prompt.turns
    return [*map(message, turns), of_conversation(turns)], draft.response, draft.finished


def _is_final(answer: Proposal | Verdict) -> bool:
    """Whether it is an answer at all; what could not be answered is asked again by the next call."""
    return answer.valid if isinstance(answer, Verdict) else answer.reason not in ("no_answer", "skipped")


def _row(outcome: Outcome, editor: Editor, no_edit_weight: float) -> Edited:
    """The outcome as a row to learn from."""
    draft, checked = outcome.draft, outcome.checked
    assert checked is not None
    told: dict[str, Any] = {"status": outcome.status, "annotator": editor.name, "edit_ratio": checked.ratio}
    if outcome.status == "demoted":
        told["reason"] = outcome.reason
    if outcome.verdict is not None:
        told["edit_p_by_order"] = list(outcome.verdict.by_order)
    prompt = replace(draft.prompt, extra={**draft.prompt.extra, **told})
    group = content_key(prompt.key, draft.response)[:16]
    row = Edited(prompt, draft.response, checked.text, finished=draft.finished, group=group)
    if outcome.status == "no_edit":
        return replace(row, edited=draft.response, spans=(), edited_spans=(), weight=no_edit_weight)
    return replace(row, demoted=outcome.status == "demoted")


def _write_rejects(outcomes: Sequence[Outcome], editor: Editor, path: Path, *, overwrite: bool) -> None:
    """Every edit that was not taken, with its reason; no file where all were."""
    rejects = [_reject(outcome, editor) for outcome in outcomes if outcome.status == "rejected"]
    if not rejects:
        may_write(path, overwrite=overwrite)
        path.unlink(missing_ok=True)
        return
    with Writer(path, overwrite=overwrite, resumes=True) as writer:
        for record in rejects:
            writer.write(record)


def _reject(outcome: Outcome, editor: Editor) -> dict[str, Any]:
    """A row without the columns of an edited one, so that nobody learns from it by mistake."""
    draft, proposal, checked, verdict = outcome.draft, outcome.proposal, outcome.checked, outcome.verdict
    told: dict[str, Any] = {"status": "rejected", "reason": outcome.reason, "annotator": editor.name}
    if checked is not None:
        told |= {"proposal": proposal.text, "edit_ratio": checked.ratio, "length_ratio": checked.length}
    elif proposal.answer:
        told["answer"] = proposal.answer
    if verdict is not None:
        told |= {"edit_p_by_order": list(verdict.by_order), "judge": verdict.detail or verdict.reason}
    if not draft.finished:
        told["finished"] = False
    return to_record(Answered(draft.prompt, draft.response)) | told


def _nothing(outcomes: Sequence[Outcome]) -> str:
    reasons = Counter(outcome.reason for outcome in outcomes).most_common()
    answer = next((outcome.proposal.answer for outcome in outcomes if outcome.proposal.answer), "")
    quoted = f"; the first answer: {answer[:QUOTED]!r}" if answer else ""
    judge = edit_stats(outcomes).judge if outcomes else None
    warning = position_bias_warning(judge) if judge else ""
    told = f"{', '.join(f'{reason} {count}' for reason, count in reasons)}{quoted}{warning and f'; {warning}'}"
    return f"no edit can be written: {told}"
