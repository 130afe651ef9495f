"""Score the responses in a file: by the follow-ups they would get, or by any other reward."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

from uptake.data import Journal, Writer, prompts, read, to_record
from uptake.data.convert import responses
from uptake.data.edited import spell_span
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.evaluate import Accuracy, pairwise_accuracy
from uptake.follow_up.reward import FollowUpReward, FollowUpScores
from uptake.rewards.base import Reward
from uptake.rewards.token_reward_model import TokenRewardModel
from uptake.support.progress import progress_bar
from uptake.types import Dialogue, Preference, Prompt, Row, Turn, Where

# One record a response of a row; none for a row that could not be scored.
Scores = list[dict[str, Any]]

# Columns that are written only where they are asked for.
LONG = ("logps", "reward_spans")

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
    reward: Reward,
    out: str | Path,
    *,
    overwrite: bool = False,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    logps: bool = False,
    tokens: bool = False,
    drop_bad: bool = False,
) -> ScoreSummary:
    """Write every row of `source` with the scores of its responses to `out`; a preference row gets one for each side.

    `logps` adds the log-probability of every follow-up, `tokens` the reward of every token as spans of the response;
    `drop_bad` leaves out rows that cannot be read or scored, and counts them. Scores are journaled beside `out` while
    the work goes on, so a call that was killed goes on where it stopped. Raises InputError for a row without a
    response, where no row can be scored, for an `out` that exists, unless `overwrite`, and where `logps` or `tokens`
    are asked of a reward that has none.
    """
    extra = [name for name, wanted in zip(LONG, (logps, tokens), strict=True) if wanted]
    _check(reward, logps, tokens)
    bad: list[InputError] = []
    rows = read(source, limit=limit, columns=columns, skipped=bad if drop_bad else None)
    with Writer(out, overwrite=overwrite) as writer:
        scored = _scored(rows, reward, _journal_path(Path(out)), drop_bad)
        kept = [(row, scores) for row, scores in zip(rows, scored, strict=True) if scores]
        if not kept:
            raise InputError("no row could be scored", path=source, allowed="rows with a response that fits the model")
        for row, scores in kept:
            writer.write({**to_record(row), **_columns(row, scores, extra), **_source(reward)})
    _journal_path(Path(out)).unlink()
    return _summary(kept, dropped=len(bad) + len(rows) - len(kept))


def _scored(rows: Sequence[Row], reward: Reward, path: Path, drop_bad: bool) -> list[Scores]:
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


def _score_rows(rows: Sequence[Row], reward: Reward, drop_bad: bool) -> Iterator[Scores]:
    """A record of scores for every response of every row; none at all for a row that cannot be scored in full."""
    texts = [() if drop_bad and isinstance(row, Prompt) else responses(row) for row in rows]
    asked = [(prompt, text) for prompt, said in zip(prompts(rows), texts, strict=True) for text in said]
    dialogues = [(*prompt.turns, Turn("assistant", text)) for prompt, text in asked]
    records = _records(reward, dialogues, [prompt.where for prompt, _ in asked], drop_bad)
    for said in texts:
        both = [next(records) for _ in said]
        yield [] if any(record is None for record in both) else [record for record in both if record is not None]


def _records(
    reward: Reward, dialogues: Sequence[Dialogue], where: Sequence[Where | None], drop_bad: bool
) -> Iterator[dict[str, Any] | None]:
    """One record a dialogue, in order; None for one that cannot be rated, or else InputError, unless `drop_bad`."""
    if isinstance(reward, FollowUpReward):
        scores = reward.score(dialogues, where=where, unscored={} if drop_bad else None)
        yield from (_record(scores, index) for index in range(len(dialogues)))
        return
    for turns, place, judgement in zip(dialogues, where, reward(dialogues), strict=True):
        if not (judgement.valid or drop_bad):
            raise bad_row(judgement.reason, place)
        spans = reward.spans(turns, judgement) if isinstance(reward, TokenRewardModel) and judgement.valid else None
        marks = {} if spans is None else {"reward_spans": [spell_span(span) for span in spans]}
        yield {"reward": judgement.score, **marks} if judgement.valid else None


def _record(scores: FollowUpScores, index: int) -> dict[str, Any] | None:
    if bool(scores.rewards[index].isnan()):
        return None
    return {
        "reward": float(scores.rewards[index]),
        "by_category": {name: float(column[index]) for name, column in scores.by_category.items()},
        "logps": scores.logps[index].tolist(),
        "dropped_turns": scores.dropped_turns[index],
    }


def _columns(row: Row, scores: Scores, extra: Sequence[str]) -> dict[str, Any]:
    """The columns that a row's scores add to it: one set, or one for chosen and one for rejected."""
    sides = ("chosen_", "rejected_") if isinstance(row, Preference) else ("",)
    return {
        f"{side}{name}": value
        for side, record in zip(sides, scores, strict=True)
        for name, value in record.items()
        if name in extra or name not in LONG
    }


def _source(reward: Reward) -> dict[str, str]:
    """The column that says what the scores were made with."""
    if isinstance(reward, FollowUpReward):
        return {"followups": reward.followups.fingerprint}
    return {"rated_by": reward.fingerprint}


def _check(reward: Reward, logps: bool, tokens: bool) -> None:
    if logps and not isinstance(reward, FollowUpReward):
        raise InputError("this reward asks for no follow-ups", field="logps", allowed="a reward by follow-ups")
    if tokens and not isinstance(reward, TokenRewardModel):
        raise InputError("this reward rates no tokens", field="tokens", allowed="token_reward:PATH")


def _identity(rows: Sequence[Row], reward: Reward) -> str:
    """What a journal line depends on: the rows, and the reward with its model and settings."""
    return sha256(repr((rows, reward.fingerprint)).encode()).hexdigest()


def _journal_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.journal.jsonl")


def _summary(kept: Sequence[tuple[Row, Scores]], dropped: int) -> ScoreSummary:
    flat = [record for _, scores in kept for record in scores]
    names = flat[0].get("by_category", ())
    return ScoreSummary(
        rows=len(kept),
        responses=len(flat),
        mean_reward=fmean(record["reward"] for record in flat),
        by_category={name: fmean(record["by_category"][name] for record in flat) for name in names},
        shortened=sum(record.get("dropped_turns", 0) > 0 for record in flat),
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
