"""Label a file of pairs by an annotator."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from uptake.annotators.base import Annotator
from uptake.data import Journal, Writer, prompts, read, to_record
from uptake.data.where import bad_row, usable
from uptake.errors import InputError
from uptake.evaluate import Accuracy, pairwise_accuracy
from uptake.evaluate.annotator import AnnotatorStats, annotator_stats
from uptake.support.progress import progress_bar
from uptake.types import Preference, Prompt, Row, Verdict

# Pairs that an annotator is given at once.
CHUNK = 64

_SIDE = re.compile("chosen|rejected")


@dataclass(frozen=True)
class JudgeSummary:
    """What was labelled: rows written, rows where the annotator preferred the second response, rows left out.

    `accuracy` says how often the annotator agrees with the preferences of the file, None where it has none.
    """

    rows: int
    swapped: int
    dropped: int
    stats: AnnotatorStats
    accuracy: Accuracy | None


def judge_file(
    source: str | Path,
    annotator: Annotator,
    out: str | Path,
    *,
    overwrite: bool = False,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    drop_bad: bool = False,
    chunk: int = CHUNK,
) -> JudgeSummary:
    """Write every row of `source` to `out` with the annotator's verdict on its two responses.

    Rows are preferences, or prompts with two texts in the column `responses`. The response that the annotator prefers
    becomes `chosen`, and `p` and `p_by_order` are the probability that it is the better one; `swapped` says that it
    was the second, or the rejected one, before. A row without a valid verdict has neither chosen nor rejected: it goes
    out with its `responses` and the `reason`. `drop_bad` leaves out these rows, and those that cannot be read, and
    counts them. The annotator gets `chunk` pairs at once. Valid verdicts are journaled beside `out` while the work goes
    on, so a call that was killed goes on where it stopped. Raises InputError for a row without two responses, where no
    verdict is valid, and for an `out` that exists, unless `overwrite`.
    """
    bad: list[InputError] = []
    skipped = bad if drop_bad else None
    rows = usable(read(source, limit=limit, columns=columns, skipped=skipped), _pair, skipped)
    if not rows:
        raise InputError("no row has two responses", path=source, allowed=_TWO)
    with Writer(out, overwrite=overwrite) as writer:
        journal = Path(out).with_name(f"{Path(out).name}.journal.jsonl")
        verdicts = _verdicts(rows, annotator, journal, chunk)
        valid = [verdict for verdict in verdicts if verdict.valid]
        if not valid:
            journal.unlink()
            raise InputError(f"no pair could be judged; the first: {verdicts[0].reason}", path=source)
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict.valid or not drop_bad:
                writer.write(_record(row, verdict))
    journal.unlink()
    stats = annotator_stats(verdicts, [len(row.chosen) for row in rows], [len(row.rejected) for row in rows])
    left_out = len(verdicts) - len(valid) if drop_bad else 0
    swapped = sum(verdict.p < 0.5 for verdict in valid)
    return JudgeSummary(len(rows) - left_out, swapped, len(bad) + left_out, stats, _accuracy(rows, verdicts))


_TWO = "chosen and rejected, or a column responses with two texts"


def _pair(row: Row) -> Preference:
    if isinstance(row, Preference):
        return row
    prompt = row if isinstance(row, Prompt) else row.prompt
    match prompt.extra.get("responses"):
        case [str(first), str(second)] if first.strip() and second.strip():
            return Preference(prompt, first, second)
    raise bad_row("this row has not two responses", prompt.where, field="responses", allowed=_TWO)


def _verdicts(rows: Sequence[Preference], annotator: Annotator, path: Path, chunk: int) -> list[Verdict]:
    """The verdict on every row, from the journal as far as it holds it."""
    identity = sha256(repr((rows, annotator.fingerprint)).encode()).hexdigest()
    with Journal(path) as journal, progress_bar("judge", len(rows)) as bar:
        known = {line["row"]: _verdict(line) for line in journal.done if line["identity"] == identity}
        missing = [number for number in range(len(rows)) if number not in known]
        bar.advance(len(known))
        for start in range(0, len(missing), chunk):
            numbers = missing[start : start + chunk]
            asked = [rows[number] for number in numbers]
            verdicts = annotator.compare(prompts(asked), [(row.chosen, row.rejected) for row in asked])
            for number, verdict in zip(numbers, verdicts, strict=True):
                known[number] = verdict
                if verdict.valid:
                    journal.append({"identity": identity, "row": number, **asdict(verdict)})
            bar.advance(len(numbers))
    return [known[number] for number in range(len(rows))]


def _verdict(line: Mapping[str, Any]) -> Verdict:
    one, other = line["by_order"]
    return Verdict(line["p"], (one, other), tokens=line["tokens"], cost=line["cost"])


def _record(row: Preference, verdict: Verdict) -> dict[str, Any]:
    """The row as the annotator labels it; without a label where it has none."""
    told = {"p": verdict.p, "p_by_order": list(verdict.by_order), "valid": True, "swapped": verdict.p < 0.5}
    if not verdict.valid:
        unlabelled = {"responses": [row.chosen, row.rejected], "valid": False, "reason": verdict.reason}
        return to_record(row.prompt) | dict.fromkeys(told) | unlabelled
    left = ("responses", "reason") if "responses" in row.prompt.extra else ()
    extra = {name: value for name, value in row.prompt.extra.items() if name not in left}
    if verdict.p < 0.5:
        one, other = verdict.by_order
        told |= {"p": 1 - verdict.p, "p_by_order": [1 - other, 1 - one]}
        row, extra = replace(row, chosen=row.rejected, rejected=row.chosen), _turned(extra)
    return to_record(replace(row, prompt=replace(row.prompt, extra=extra))) | told


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
