"""Score the responses in a file: by the follow-ups they would get, or by any other reward."""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import fsum
from pathlib import Path
from typing import Any, final

from pydantic import TypeAdapter

from uptake.data import Writer, prompts, to_record
from uptake.data.convert import response_turns, responses
from uptake.data.edited import spell_span
from uptake.data.read import RowSet, stream_as, used_columns
from uptake.data.resumable import digest, resumable_output, resumable_stream
from uptake.data.turns import message, of_conversation
from uptake.data.where import bad_row, leave_out
from uptake.errors import InputError
from uptake.evaluate import Accuracy, pairwise_accuracy
from uptake.rewards.base import Reward, RewardDetails, RewardSpec
from uptake.types import Answered, Preference, Row

# Columns that are written only where they are asked for.
LONG = ("logps", "reward_spans")

# Rows that are scored at once: what a kill can cost.
CHUNK = 16


@dataclass(frozen=True, slots=True)
class ResponseScore:
    """Score of a response by the columns it is written in: `ResponseScore(1.25)`; None for what a reward lacks."""

    reward: float
    by_category: Mapping[str, float] | None = None
    by_reward: Mapping[str, float] | None = None
    logps: Sequence[float] | None = None
    dropped_turns: int | None = None
    reward_spans: Sequence[Mapping[str, Any]] | None = None


# One score a response of a row; none for a row that could not be scored.
RowScores = list[ResponseScore]


@dataclass(frozen=True)
class ScoreSummary:
    """Summary of scores: responses, mean reward in all and by parts, and the accuracy where rows are preferences.

    Parts are categories of follow-ups, or the rewards of a sum.
    """

    rows: int
    responses: int
    mean_reward: float
    by_part: Mapping[str, float]
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
    """The rows of a data set for `score_file`, which writes them to `out`; raises as `stream_as`, and for a prompt."""
    allowed = "messages that end with the assistant, a completion, or chosen and rejected"
    return stream_as(_answered, source, out, allowed=allowed, limit=limit, columns=columns, drop_bad=drop_bad)


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
    check_details(reward, logps, tokens)
    out, extra = Path(out), [name for name, wanted in zip(LONG, (logps, tokens), strict=True) if wanted]
    tally, fingerprint, read, source = _Tally(rows.left_out), reward.fingerprint, reward.columns, reward.source
    with resumable_output(out, overwrite=overwrite) as journal:
        scored = resumable_stream(
            rows.rows,
            lambda row: _key(row, fingerprint, extra, read),
            lambda chunk: _score_rows(chunk, reward, extra, drop_bad),
            journal,
            TypeAdapter(RowScores),
            chunk=CHUNK,
            label="score",
            total=len(rows.rows),
            final=bool,
        )
        with Writer(out, overwrite=overwrite, resumes=journal.resumes) as writer:
            for row, scores in scored:
                if tally.add(row, scores):
                    writer.write({**to_record(row), **_columns(row, scores), **source})
            if not tally.rows:
                allowed = "rows with a response that fits the model"
                raise InputError("no row could be scored", path=rows.source, allowed=allowed)
    return tally.summary()


def _key(row: Row, fingerprint: str, extra: Sequence[str], used: Sequence[str]) -> bytes:
    """A row's key: the reward with its model and settings, what is asked, and all of the row that the reward reads."""
    (prompt,) = prompts([row])
    messages = [*map(message, prompt.turns), of_conversation(prompt.turns), *map(message, response_turns(row))]
    return digest("score", fingerprint, extra, messages, *used_columns(prompt, used))


def _score_rows(rows: Sequence[Row], reward: Reward, extra: Sequence[str], drop_bad: bool) -> Iterator[RowScores]:
    """A score for every response of every row; none at all for a row that cannot be scored in full."""
    turns = list(map(response_turns, rows))
    both = zip(prompts(rows), turns, strict=True)
    answered = [Answered(prompt, turn.content, turn.fields) for prompt, side in both for turn in side]
    scores = iter([_score(reward, details, extra) for details in _details(reward, answered, drop_bad)])
    for side in turns:
        found = [next(scores) for _ in side]
        yield [] if None in found else [score for score in found if score is not None]


def _details(reward: Reward, answered: Sequence[Answered], drop_bad: bool) -> Iterator[RewardDetails]:
    """What the reward says of every response; InputError, naming the row, for one that it cannot rate and not drop."""
    for response, details in zip(answered, reward.details(answered), strict=True):
        if not details.judgement.valid:
            reason = details.judgement.detail or str(details.judgement.reason)
            leave_out(bad_row(reason, response.prompt.where), [] if drop_bad else None)
        yield details


def _score(reward: Reward, details: RewardDetails, extra: Sequence[str]) -> ResponseScore | None:
    """The score of a response, with what was asked for beside it; None for one that could not be rated."""
    if not details.judgement.valid:
        return None
    return ResponseScore(
        details.judgement.score,
        **{} if reward.parts is None else {reward.parts: dict(details.judgement.parts)},
        logps=list(details.logps) if "logps" in extra else None,
        dropped_turns=details.dropped_turns,
        reward_spans=[spell_span(span) for span in details.spans] if "reward_spans" in extra else None,
    )


def _columns(row: Row, scores: RowScores) -> dict[str, Any]:
    """The columns that a row's scores add to it: one set, or one for chosen and one for rejected."""
    sides = ("chosen_", "rejected_") if isinstance(row, Preference) else ("",)
    return {
        f"{side}{name}": value
        for side, score in zip(sides, scores, strict=True)
        for name, value in asdict(score).items()
        if value is not None
    }


def check_details(reward: Reward | RewardSpec, logps: bool, tokens: bool) -> None:
    """Raise InputError where something is asked of a reward that it does not know."""
    if logps and "logps" not in reward.offers:
        raise InputError("this reward asks for no follow-ups", field="logps", allowed="a reward by follow-ups")
    if tokens and "tokens" not in reward.offers:
        allowed = "token_reward:PATH, or another reward of tokens"
        raise InputError("this reward rates no tokens", field="tokens", allowed=allowed)


def _floats() -> "array[float]":
    return array("d")


@final
class RunningMean:
    """Mean of numbers that go by, none of which is held; it is that of `statistics.fmean`, rounded once.

    Their exact sum is a few numbers that do not overlap (Shewchuk 1997).
    """

    def __init__(self) -> None:
        self.count = 0
        self._parts: list[float] = []

    def add(self, number: float) -> None:
        """Count one more."""
        parts = []
        for each in self._parts:
            larger, smaller = (number, each) if abs(number) >= abs(each) else (each, number)
            number = larger + smaller
            if rest := smaller - (number - larger):
                parts.append(rest)
        self._parts = [*parts, number]
        self.count += 1

    @property
    def value(self) -> float:
        """The mean so far, of at least one number."""
        return fsum(self._parts) / self.count


@dataclass
class _Tally:
    """The figures of a summary while rows go by: of pairs a few numbers are held, of other rows none."""

    dropped: int
    rows: int = 0
    shortened: int = 0
    rewards: RunningMean = field(default_factory=RunningMean)
    by_part: dict[str, RunningMean] = field(default_factory=lambda: defaultdict(RunningMean))
    # Rewards and lengths of chosen and rejected.
    pairs: "tuple[array[float], array[float], array[float], array[float]]" = field(
        default_factory=lambda: (_floats(), _floats(), _floats(), _floats())
    )

    def add(self, row: Row, scores: RowScores) -> bool:
        """Count a row; says whether it has scores."""
        if not scores:
            self.dropped += 1
            return False
        self.rows += 1
        for score in scores:
            self.rewards.add(score.reward)
            self.shortened += bool(score.dropped_turns)
            for name, value in (score.by_category or score.by_reward or {}).items():
                self.by_part[name].add(value)
        if isinstance(row, Preference):
            numbers = scores[0].reward, scores[1].reward, len(row.chosen), len(row.rejected)
            for column, number in zip(self.pairs, numbers, strict=True):
                column.append(number)
        return True

    def summary(self) -> ScoreSummary:
        return ScoreSummary(
            rows=self.rows,
            responses=self.rewards.count,
            mean_reward=self.rewards.value,
            by_part={name: mean.value for name, mean in self.by_part.items()},
            shortened=self.shortened,
            dropped=self.dropped,
            # How often the preferred side has the higher reward, lengths in characters.
            accuracy=pairwise_accuracy(*self.pairs) if self.pairs[0] else None,
        )
