"""Score the responses in a file by the follow-ups they would get."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

from uptake.data import Journal, Writer, prompts, read, to_record
from uptake.errors import InputError
from uptake.evaluate import Accuracy, pairwise_accuracy
from uptake.feedback import FollowUpReward, FollowUpScores
from uptake.progress import progress_bar
from uptake.rollout.dataset import responses
from uptake.types import Preference, Prompt, Row, Turn

# One record a response of a row; none for a row that could not be scored.
Scores = list[dict[str, Any]]

# Rows between two lines of the journal: what a kill can cost.
CHUNK = 16


@dataclass(frozen=True)
class ScoreSummary:
    """What was scored: responses, mean reward in all and by category, and the accuracy where rows are preferences."""

    rows: int
    responses: int
    mean_reward: float
    by_category: Mapping[str, float]
    shortened: int
    dropped: int
    accuracy: Accuracy | None


def score_file(
    source: str | Path,
    reward: FollowUpReward,
    out: str | Path,
    *,
    overwrite: bool = False,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    logps: bool = False,
    drop_bad: bool = False,
) -> ScoreSummary:
    """Write every row of `source` with the scores of its responses to `out`; a preference row gets one for each side.

    `logps` adds the log-probability of every follow-up; `drop_bad` leaves out rows that cannot be
    read or scored, and counts them. Scores are journaled beside `out` while the work goes on, so a call that was killed
    goes on where it stopped. Raises InputError for a row without a response, where no row can be scored, and for an
    `out` that exists, unless `overwrite`.
    """
    bad: list[InputError] = []
    rows = read(source, limit=limit, columns=columns, skipped=bad if drop_bad else None)
    with Writer(out, overwrite=overwrite) as writer:
        scored = _scored(rows, reward, _journal_path(Path(out)), drop_bad)
        kept = [(row, scores) for row, scores in zip(rows, scored, strict=True) if scores]
        if not kept:
            raise InputError("no row could be scored", path=source, allowed="rows with a response that fits the model")
        for row, scores in kept:
            writer.write({**to_record(row), **_columns(row, scores, logps), "followups": reward.followups.fingerprint})
    _journal_path(Path(out)).unlink()
    return _summary(kept, dropped=len(bad) + len(rows) - len(kept))


def _scored(rows: Sequence[Row], reward: FollowUpReward, path: Path, drop_bad: bool) -> list[Scores]:
    """The scores of every row, from the journal as far as it goes."""
    identity = _identity(rows, reward)
    with Journal(path) as journal, progress_bar("score", len(rows)) as bar:
        results: list[Scores] = []
        for line in journal.done:
            results.extend(line["scores"] if line["identity"] == identity else ())
        bar.advance(len(results))
        for start in range(len(results), len(rows), CHUNK):
            chunk = list(_score_rows(rows[start : start + CHUNK], reward, drop_bad))
            journal.append({"identity": identity, "scores": chunk})
            results.extend(chunk)
            bar.advance(len(chunk))
    return results


def _score_rows(rows: Sequence[Row], reward: FollowUpReward, drop_bad: bool) -> Iterator[Scores]:
    """A record of scores for every response of every row; none at all for a row that cannot be scored in full."""
    texts = [() if drop_bad and isinstance(row, Prompt) else responses(row) for row in rows]
    asked = [(prompt, text) for prompt, said in zip(prompts(rows), texts, strict=True) for text in said]
    dialogues = [(*prompt.turns, Turn("assistant", text)) for prompt, text in asked]
    unscored: dict[int, InputError] | None = {} if drop_bad else None
    scores = reward.score(dialogues, where=[prompt.where for prompt, _ in asked], unscored=unscored)
    records = iter([_record(scores, index) for index in range(len(asked))])
    for said in texts:
        both = [next(records) for _ in said]
        yield [] if any(record is None for record in both) else [record for record in both if record is not None]


def _record(scores: FollowUpScores, index: int) -> dict[str, Any] | None:
    if bool(scores.rewards[index].isnan()):
        return None
    return {
        "reward": float(scores.rewards[index]),
        "by_category": {name: float(column[index]) for name, column in scores.by_category.items()},
        "logps": scores.logps[index].tolist(),
        "dropped_turns": scores.dropped_turns[index],
    }


def _columns(row: Row, scores: Scores, logps: bool) -> dict[str, Any]:
    """The columns that a row's scores add to it: one set, or one for chosen and one for rejected."""
    sides = ("chosen_", "rejected_") if isinstance(row, Preference) else ("",)
    return {
        f"{side}{name}": value
        for side, record in zip(sides, scores, strict=True)
        for name, value in record.items()
        if logps or name != "logps"
    }


def _identity(rows: Sequence[Row], reward: FollowUpReward) -> str:
    """What a journal line depends on: the rows, the model, the follow-ups and how they are used."""
    return sha256(repr((rows, reward.fingerprint)).encode()).hexdigest()


def _journal_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.journal.jsonl")


def _summary(kept: Sequence[tuple[Row, Scores]], dropped: int) -> ScoreSummary:
    flat = [record for _, scores in kept for record in scores]
    names = flat[0]["by_category"]
    return ScoreSummary(
        rows=len(kept),
        responses=len(flat),
        mean_reward=fmean(record["reward"] for record in flat),
        by_category={name: fmean(record["by_category"][name] for record in flat) for name in names},
        shortened=sum(record["dropped_turns"] > 0 for record in flat),
        dropped=dropped,
        accuracy=_accuracy([(row, scores) for row, scores in kept if isinstance(row, Preference)]),
    )


def _accuracy(pairs: Sequence[tuple[Preference, Scores]]) -> Accuracy | None:
    """How often the preferred side has the higher reward, lengths in characters; None without preference rows."""
    if not pairs:
        return None
    return pairwise_accuracy(
        [scores[0]["reward"] for _, scores in pairs],
        [scores[1]["reward"] for _, scores in pairs],
        [len(row.chosen) for row, _ in pairs],
        [len(row.rejected) for row, _ in pairs],
    )
