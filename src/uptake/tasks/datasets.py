"""Data sets as rows of a file: of one split, and what is learned from is neither evaluated nor held out anywhere."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uptake.data import Writer
from uptake.data.lock import locked
from uptake.datasets import KINDS, Comparison, Feedback, offers, read_set, spelled
from uptake.datasets.records import DataRow, question_of, record_of, split_of_row
from uptake.errors import InputError
from uptake.tasks.corpus import clean, conversation_keys, evaluated
from uptake.types import Split

# Conversations are gathered from all sets at once, by `uptake.tasks.corpus`.
WRITTEN = tuple(kind for kind in KINDS if kind != "conversations")


@dataclass(frozen=True)
class DataSetSummary:
    """Rows written by set and kind, feedback by its polarity, and rows left out by set and reason."""

    written: Mapping[str, Mapping[str, int]]
    left_out: Mapping[str, Mapping[str, int]]


def write_rows(
    names: Sequence[str],
    kind: str,
    data: str | Path | None,
    out: str | Path,
    *,
    split: Split = "train",
    overwrite: bool = False,
) -> DataSetSummary:
    """Write the rows of one kind and split of these data sets to `out`, with the columns of `record_of`.

    A row to train on shares no question with rows of these sets that are held out, nor with an item of any benchmark
    under the data folder. For edits, this holds of other sets only: all of JFLEG has one question, and FineGrainedRLHF
    compares answers to the questions of its edits. Raises InputError for a kind that is not written here, a set that is
    not there, an `out` that exists unless `overwrite`, and where no row is left.
    """
    if kind not in WRITTEN:
        raise InputError(f"found {kind!r}", field="kind", allowed=", ".join(WRITTEN))
    folder = None if data is None else Path(data)
    names = list(dict.fromkeys(map(spelled, names)))
    found: dict[str, list[DataRow | str]] = {name: list(read_set(name, kind, folder)) for name in names}
    held = _held_out(found, folder) if split == "train" else {}
    reasons: dict[str, list[str]] = {}
    for name, rows in found.items():
        keys = {key for other, keys in held.items() if kind != "edits" or other != name for key in keys}
        reasons[name] = [_reason(row, split, keys) for row in rows]
    left_out = {name: Counter(filter(None, each)) for name, each in reasons.items()}
    written: dict[str, Counter[str]] = {name: Counter() for name in found}
    if not any("" in each for each in reasons.values()):
        counts = ", ".join(f"{reason} {count}" for each in left_out.values() for reason, count in each.items())
        raise InputError(f"no {kind} left; left out: {counts}", path=folder, allowed="another set or split")
    with locked(Path(out)), Writer(out, overwrite=overwrite) as writer:
        for name, rows in found.items():
            for row, reason in zip(rows, reasons[name], strict=True):
                if not isinstance(row, str) and not reason:
                    written[name][row.polarity if isinstance(row, Feedback) else kind] += 1
                    writer.write(record_of(row, name))
    return DataSetSummary(written, left_out)


def sizes(name: str, data: Path) -> dict[str, Counter[str]]:
    """Rows of a data set in its folder, by kind, then by split or by the reason why they are left out."""
    return {
        kind: Counter(row if isinstance(row, str) else split_of_row(row) for row in read_set(name, kind, data))
        for kind in offers(name)
    }


def _reason(row: DataRow | str, split: Split, held_out: set[str]) -> str:
    """Why a row is left out of a split, or nothing."""
    if isinstance(row, str):
        return row
    if split_of_row(row) != split:
        return "held out" if split == "train" else "for training"
    if isinstance(row, Comparison) and row.preference == 0.5:
        return "neither is preferred"
    return "held out" if _key(row) in held_out else ""


def _held_out(found: Mapping[str, Sequence[DataRow | str]], data: Path | None) -> dict[str, set[str]]:
    """Keys of the questions that no row to train on may ask, by the set that holds them out."""
    held = {name: {_key(item) for item in items} for name, items in (evaluated(data) if data is not None else ())}
    for name, rows in found.items():
        held_keys = {_key(row) for row in rows if not isinstance(row, str) and split_of_row(row) == "heldout"}
        held[name] = held.get(name, set()) | held_keys
    return held


def _key(row: DataRow) -> str:
    """Equal for rows whose questions differ in case and blanks only."""
    return conversation_keys(clean(question_of(row)))[-1]
