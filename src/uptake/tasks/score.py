"""Score the responses in a file by the follow-ups they would get."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

from uptake.data import Journal, Writer, prompts, read, to_record
from uptake.evaluate import Accuracy, pairwise_accuracy
from uptake.feedback import FollowUpReward
from uptake.progress import progress_bar
from uptake.rollout.dataset import responses
from uptake.types import Preference, Row, Turn

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
) -> ScoreSummary:
    """Write every row of `source` with the scores of its responses to `out`; a preference row gets one for each side.

    `logps` adds the log-probability of every follow-up.     Scores are journaled beside `out` while the work goes on, so a call that was killed goes on where it stopped.
    Raises InputError for a row without a response and for an `out` that exists, unless `overwrite`.
    """
    rows = read(source, limit=limit, columns=columns)
    with Writer(out, overwrite=overwrite) as writer:
        scored = _scored(rows, reward, _journal_path(Path(out)))
        for row, scores in zip(rows, scored, strict=True):
            writer.write({**to_record(row), **_columns(row, scores, logps), "followups": reward.followups.fingerprint})
    _journal_path(Path(out)).unlink()
    return _summary(rows, scored)


def _scored(rows: Sequence[Row], reward: FollowUpReward, path: Path) -> list[list[dict[str, Any]]]:
    """For every row, a record of scores a response, from the journal as far as it goes."""
    identity = _identity(rows, reward)
    with Journal(path) as journal, progress_bar("score", len(rows)) as bar:
        results = [scores for line in journal.done if line["identity"] == identity for scores in line["scores"]]
        bar.advance(len(results))
        for start in range(len(results), len(rows), CHUNK):
            chunk = list(_score_rows(rows[start : start + CHUNK], reward))
            journal.append({"identity": identity, "scores": chunk})
            results.extend(chunk)
            bar.advance(len(chunk))
    return results


def _score_rows(rows: Sequence[Row], reward: FollowUpReward) -> Iterator[list[dict[str, Any]]]:
    """A record of scores for every response of every row."""
    asked = [(prompts([row])[0], text) for row in rows for text in responses(row)]
    dialogues = [(*prompt.turns, Turn("assistant", text)) for prompt, text in asked]
    scores = reward.score(dialogues, where=[prompt.where for prompt, _ in asked])
    records = (
        {
            "reward": float(scores.rewards[index]),
            "by_category": {name: float(column[index]) for name, column in scores.by_category.items()},
            "logps": scores.logps[index].tolist(),
            "dropped_turns": scores.dropped_turns[index],
        }
        for index in range(len(asked))
    )
    for row in rows:
        yield [next(records) for _ in responses(row)]


def _columns(row: Row, scores: Sequence[dict[str, Any]], logps: bool) -> dict[str, Any]:
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
    seen = sha256()
    for part in (rows, reward.lm.name, reward.lm.dtype, reward.chat.template, reward.followups.fingerprint, reward.mode):
        seen.update(repr(part).encode())
    seen.update(repr((reward.reduction, reward.combine.polarity, reward.combine.standardize)).encode())
    return seen.hexdigest()


def _journal_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.journal.jsonl")


def _summary(rows: Sequence[Row], scored: Sequence[Sequence[dict[str, Any]]]) -> ScoreSummary:
    flat = [record for scores in scored for record in scores]
    names = flat[0]["by_category"]
    return ScoreSummary(
        rows=len(rows),
        responses=len(flat),
        mean_reward=fmean(record["reward"] for record in flat),
        by_category={name: fmean(record["by_category"][name] for record in flat) for name in names},
        shortened=sum(record["dropped_turns"] > 0 for record in flat),
        accuracy=_accuracy(rows, scored),
    )


def _accuracy(rows: Sequence[Row], scored: Sequence[Sequence[dict[str, Any]]]) -> Accuracy | None:
    """How often the preferred side has the higher reward, lengths in characters; None without preference rows."""
    pairs = [(row, scores) for row, scores in zip(rows, scored, strict=True) if isinstance(row, Preference)]
    if not pairs:
        return None
    return pairwise_accuracy(
        [scores[0]["reward"] for _, scores in pairs],
        [scores[1]["reward"] for _, scores in pairs],
        [len(row.chosen) for row, _ in pairs],
        [len(row.rejected) for row, _ in pairs],
    )
