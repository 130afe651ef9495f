"""Score the responses in a file: by the follow-ups they would get, or by any other reward."""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import TypeAdapter

from uptake.data import Writer, prompts, to_record
from uptake.data.edited import spell_span
from uptake.data.read import RowSet, read_as
from uptake.data.resumable import digest, resumable_map, resumable_output
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.evaluate import Accuracy, pairwise_accuracy
from uptake.follow_up.reward import FollowUpReward, FollowUpScores
from uptake.rewards.base import Reward
from uptake.rewards.token_reward_model import TokenRewardModel
from uptake.rollout.from_rows import responses
from uptake.types import Dialogue, Preference, Row, Turn, Where

# Columns that are written only where they are asked for.
LONG = ("logps", "reward_spans")

# Rows that are scored at once: what a kill can cost.
CHUNK = 16


@dataclass(frozen=True, slots=True)
class ResponseScore:
    """What a response got, by the columns it is written in: `ResponseScore(1.25)`; None for what a reward lacks."""

    reward: float
    by_category: Mapping[str, float] | None = None
    logps: Sequence[float] | None = None
    dropped_turns: int | None = None
    reward_spans: Sequence[Mapping[str, Any]] | None = None


# One score a response of a row; none for a row that could not be scored.
Scores = list[ResponseScore]


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


def read_responses(
    source: str | Path,
    out: str | Path,
    *,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    drop_bad: bool = False,
) -> RowSet[Row]:
    """The rows of a data set for `score_file`, which writes them to `out`; raises as `read_as`, e.g. for a prompt."""
    allowed = "messages that end with the assistant, a completion, or chosen and rejected"
    return read_as(_answered, source, out, allowed=allowed, limit=limit, columns=columns, drop_bad=drop_bad)


def _answered(row: Row) -> Row:
    responses(row)
    return row


def score_file(
    rows: RowSet[Row],
    reward: Reward,
    out: str | Path,
    *,
    overwrite: bool = False,
    logps: bool = False,
    tokens: bool = False,
    drop_bad: bool = False,
) -> ScoreSummary:
    """Write every row with the scores of its responses to `out`; a preference row gets one for each side.

    `logps` adds the log-probability of every follow-up, `tokens` the reward of every token as spans of the response;
    `drop_bad` leaves out rows that cannot be scored, and counts them. Scores are journaled beside `out` while the work
    goes on, so a call that was killed goes on where it stopped. Raises InputError where no row can be scored, for an
    `out` that exists, unless `overwrite`, and where `logps` or `tokens` are asked of a reward that has none.
    """
    _check(reward, logps, tokens)
    out, extra = Path(out), [name for name, wanted in zip(LONG, (logps, tokens), strict=True) if wanted]
    tally, fingerprint = _Tally(rows.left_out), reward.fingerprint
    with resumable_output(out, overwrite=overwrite) as journal:
        scored = resumable_map(
            rows.rows,
            (_key(row, fingerprint, extra) for row in rows.rows),
            lambda chunk: _score_rows(chunk, reward, extra, drop_bad),
            journal,
            TypeAdapter(Scores),
            chunk=CHUNK,
            label="score",
            final=bool,
        )
        with Writer(out, overwrite=overwrite, resumes=journal.resumes) as writer:
            for row, scores in zip(rows.rows, scored, strict=True):
                if tally.add(row, scores):
                    writer.write({**to_record(row), **_columns(row, scores), **_source(reward)})
            if not tally.rows:
                allowed = "rows with a response that fits the model"
                raise InputError("no row could be scored", path=rows.source, allowed=allowed)
    return tally.summary()


def _key(row: Row, fingerprint: str, extra: Sequence[str]) -> bytes:
    """A row's key: the reward with its model and settings, what is asked, the conversation and its responses."""
    (prompt,) = prompts([row])
    return digest("score", fingerprint, extra, _spelled(prompt.turns), responses(row))


def _spelled(turns: Dialogue) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in turns]


def _score_rows(rows: Sequence[Row], reward: Reward, extra: Sequence[str], drop_bad: bool) -> Iterator[Scores]:
    """A score for every response of every row; none at all for a row that cannot be scored in full."""
    texts = list(map(responses, rows))
    asked = [(prompt, text) for prompt, said in zip(prompts(rows), texts, strict=True) for text in said]
    dialogues = [(*prompt.turns, Turn("assistant", text)) for prompt, text in asked]
    scores = _scores(reward, dialogues, [prompt.where for prompt, _ in asked], extra, drop_bad)
    for said in texts:
        both = [next(scores) for _ in said]
        yield [] if None in both else [score for score in both if score is not None]


def _scores(
    reward: Reward,
    dialogues: Sequence[Dialogue],
    where: Sequence[Where | None],
    extra: Sequence[str],
    drop_bad: bool,
) -> Iterator[ResponseScore | None]:
    """One score a dialogue, in order; None for one that cannot be rated, or else InputError, unless `drop_bad`."""
    if isinstance(reward, FollowUpReward):
        found = reward.score(dialogues, where=where, unscored={} if drop_bad else None)
        yield from (_score(found, index, "logps" in extra) for index in range(len(dialogues)))
        return
    for turns, place, judgement in zip(dialogues, where, reward(dialogues), strict=True):
        if not (judgement.valid or drop_bad):
            raise bad_row(judgement.reason, place)
        spans = None
        if "reward_spans" in extra and isinstance(reward, TokenRewardModel) and judgement.valid:
            spans = [spell_span(span) for span in reward.spans(turns, judgement)]
        yield ResponseScore(judgement.score, reward_spans=spans) if judgement.valid else None


def _score(scores: FollowUpScores, index: int, logps: bool) -> ResponseScore | None:
    if bool(scores.rewards[index].isnan()):
        return None
    return ResponseScore(
        float(scores.rewards[index]),
        {name: float(column[index]) for name, column in scores.by_category.items()},
        scores.logps[index].tolist() if logps else None,
        scores.dropped_turns[index],
    )


def _columns(row: Row, scores: Scores) -> dict[str, Any]:
    """The columns that a row's scores add to it: one set, or one for chosen and one for rejected."""
    sides = ("chosen_", "rejected_") if isinstance(row, Preference) else ("",)
    return {
        f"{side}{name}": value
        for side, score in zip(sides, scores, strict=True)
        for name, value in asdict(score).items()
        if value is not None
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


def _floats() -> "array[float]":
    return array("d")


@dataclass
class _Tally:
    """The figures of a summary while rows go by: a few numbers of each are held, and no row."""

    dropped: int
    rows: int = 0
    shortened: int = 0
    rewards: "array[float]" = field(default_factory=_floats)
    by_category: dict[str, "array[float]"] = field(default_factory=lambda: defaultdict(_floats))
    pairs: list[tuple[float, float, int, int]] = field(default_factory=list)

    def add(self, row: Row, scores: Scores) -> bool:
        """Count a row; says whether it has scores."""
        if not scores:
            self.dropped += 1
            return False
        self.rows += 1
        for score in scores:
            self.rewards.append(score.reward)
            self.shortened += bool(score.dropped_turns)
            for name, value in (score.by_category or {}).items():
                self.by_category[name].append(value)
        if isinstance(row, Preference):
            self.pairs.append((scores[0].reward, scores[1].reward, len(row.chosen), len(row.rejected)))
        return True

    def summary(self) -> ScoreSummary:
        return ScoreSummary(
            rows=self.rows,
            responses=len(self.rewards),
            mean_reward=fmean(self.rewards),
            by_category={name: fmean(values) for name, values in self.by_category.items()},
            shortened=self.shortened,
            dropped=self.dropped,
            # How often the preferred side has the higher reward, lengths in characters.
            accuracy=pairwise_accuracy(*map(list, zip(*self.pairs, strict=True))) if self.pairs else None,
        )
