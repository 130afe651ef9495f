"""Mine real conversations: rate responses by what users said right after them, and by what they might have said."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from uptake.data import Writer, read, to_record
from uptake.data.exchanges import Exchange, Reacted, exchanges, merged
from uptake.data.language import check_language
from uptake.data.redact import Redact
from uptake.data.resumable import Store, digest, resumable_map, resumable_output
from uptake.data.spans import tokenize
from uptake.data.turns import as_text
from uptake.errors import InputError
from uptake.evaluate.bootstrap import Estimate
from uptake.evaluate.correlation import FEWEST_ROWS, correlations
from uptake.follow_up.actual import ActualFollowUpReward
from uptake.follow_up.rating_regression import rating_regression
from uptake.follow_up.reward import FollowUpReward
from uptake.rewards.rate import reason_of
from uptake.signal import BestWorst, MinedPair
from uptake.signal.thresholds import Thresholds
from uptake.train.run_folder import write_json
from uptake.types import Answered, Dropped, Group, Judgement, Preference, Rated, Rollout

Keep = Literal["rated", "scored", "pairs"]
By = Literal["actual_follow_up", "follow_up", "rating_regression"]

# Responses that are read at once: what a kill can cost.
CHUNK = 16


@dataclass(frozen=True, slots=True)
class ReactionReward:
    """Rewards of one response: `ReactionReward({"actual_follow_up": 1.2}, each=(1.2,))`, or the `reason` why none.

    `by_category` has the parts of each reward, `each` the reward of every single reaction, None for one not read.
    """

    rewards: Mapping[str, float] = field(default_factory=dict)
    by_category: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    each: Sequence[float | None] = ()
    reason: Dropped | None = None
    detail: str = ""


@dataclass(frozen=True)
class MineLogs:
    """Mining of a log: good and bad responses by two thresholds, all with their scores, or pairs of one prompt.

    `by` says which reward decides. Raises InputError for a setting that is not known.
    """

    keep: Keep = "rated"
    by: By = "actual_follow_up"
    thresholds: Thresholds = Thresholds(0.25, 0.75, "quantile")
    pairs: BestWorst = BestWorst()

    def __post_init__(self) -> None:
        for name, known in (("keep", Keep), ("by", By)):
            if getattr(self, name) not in get_args(known):
                raise InputError(repr(getattr(self, name)), field=name, allowed=", ".join(get_args(known)))
        if self.keep == "scored" and (self.pairs.length_residual or self.thresholds.length_residual):
            raise InputError("scores are kept as they are", field="length_residual", allowed="keep rated or pairs")

    def __call__(
        self, heard: Sequence[Reacted], judged: Sequence[Judgement], rollouts: Sequence[Rollout]
    ) -> tuple[list["MinedRow"], Mapping[str, int]]:
        """What is kept of the responses, each with its judgement and its rollout, and what was dropped by reason."""
        index_of = {(each.prompt.key, each.response): index for index, each in enumerate(rollouts)}

        def at(*chosen: Rollout) -> tuple[int, ...]:
            return tuple(index_of[each.prompt.key, each.response] for each in chosen)

        if self.keep == "pairs":
            mined = self.pairs.mine(*_by_prompt(rollouts, judged))
            pairs = [
                MinedRow(_preference(one), at(one.chosen, one.rejected), one.pair.margin) for one in mined.examples
            ]
            return pairs, mined.summary["dropped"]
        if self.keep == "rated":
            labeled = self.thresholds.label([(rollout,) for rollout in rollouts], [(each,) for each in judged])
            rated = [(_rated(*one), at(one[0])) for one in labeled.examples]
            return [MinedRow(row, places, judged[places[0]].score) for row, places in rated], labeled.summary["dropped"]
        usable = [index for index, each in enumerate(judged) if each.valid]
        rows = [MinedRow(_answered(heard[index]), (index,), judged[index].score) for index in usable]
        return rows, Counter(each.reason for each in judged if each.reason)


@dataclass(frozen=True, slots=True)
class MinedRow:
    """A row to write, the places of its responses in the log, and its reward, or the margin of a pair."""

    row: Answered | Rated | Preference
    places: tuple[int, ...]
    score: float


@dataclass(frozen=True)
class LogSummary:
    """Summary of a log: counts, what was dropped and why, and how the rewards go with each other and with ratings.

    `reasons` count the responses that could not be read, `details` tell what else is known of the first of each.
    `correlations` are Spearman's, with intervals by conversation; an undefined one has its reason.
    """

    conversations: int
    exchanges: int
    repeated: int
    responses: int
    written: int
    good: int
    dropped: Mapping[str, int]
    reasons: Mapping[Dropped, int]
    details: Mapping[Dropped, str]
    redacted: Mapping[str, int]
    correlations: Mapping[str, Estimate]


def mine_logs(
    log: "Log",
    reward: FollowUpReward | None,
    out: str | Path,
    *,
    how: MineLogs = MineLogs(),
    any_language: bool = False,
    overwrite: bool = False,
) -> LogSummary:
    """Rate every response in a log that the user answers, and write what `how` keeps to `out`.

    The figures go beside it, to `<out>.summary.json`. Scores are journaled while the work goes on, so a call that was
    killed goes on where it stopped. The ratings of the log are compared with the rewards, and decide only where `how`
    goes by "rating_regression"; there the reward of a model may be None. Raises InputError where users write in another
    language than the follow-ups (unless `any_language`), where nothing is left to write, and for an `out` that exists,
    unless `overwrite`.
    """
    out = Path(out)
    if how.by == "rating_regression" and not log.rated:
        allowed = "rating_regression with ratings; actual_follow_up; follow_up"
        raise InputError("no column of ratings to learn from", field="by", allowed=allowed)
    if how.by != "rating_regression" and reward is None:
        raise InputError(f"{how.by} is read by a model", field="model", allowed="a model, or by rating_regression")
    if reward is not None and not any_language:
        check_language((each.follow_up for each in log.exchanges), reward.followups.language, str(log.source))
    heard, beside = merged(log.exchanges), out.with_name(f"{out.name}.summary.json")
    with resumable_output(out, beside, overwrite=overwrite) as journal:
        readings = [ReactionReward() for _ in heard] if reward is None else read_reactions(heard, reward, journal)
        if how.by == "rating_regression":
            readings = with_rating_regression(heard, readings)
        judged = [_judgement(reading, how.by) for reading in readings]
        rows, dropped = how(heard, judged, _rollouts(heard, reward))
        if not rows:
            raise _nothing_left(log.source, judged, {**log.dropped, **dropped})
        summary = _summary(log, heard, readings, rows, dropped)
        with Writer(out, overwrite=overwrite, resumes=journal.resumes) as writer:
            for each in rows:
                writer.write(_spelled(each, [(heard[index], readings[index]) for index in each.places], how.by))
            write_json(beside, asdict(summary), overwrite=not journal.is_finished)
    return summary


def _summary(
    log: "Log",
    heard: Sequence[Reacted],
    readings: Sequence[ReactionReward],
    rows: Sequence[MinedRow],
    dropped: Mapping[str, int],
) -> LogSummary:
    return LogSummary(
        conversations=log.conversations,
        exchanges=len(log.exchanges),
        repeated=len(log.exchanges) - sum(len(each.follow_ups) for each in heard),
        responses=len(heard),
        written=len(rows),
        good=sum(isinstance(each.row, Rated) and each.row.good for each in rows),
        dropped={**log.dropped, **dropped},
        reasons=dict(Counter(each.reason for each in readings if each.reason)),
        details={each.reason: each.detail for each in reversed(readings) if each.reason and each.detail},
        redacted=dict(log.redacted),
        correlations=_correlations(heard, readings),
    )


@dataclass(frozen=True)
class Log:
    """The exchanges of a data set, from so many conversations, with or without ratings.

    `dropped` counts what was left out by reason, `redacted` what was replaced by kind.
    """

    source: str | Path
    exchanges: Sequence[Exchange]
    conversations: int
    rated: bool
    dropped: Counter[str]
    redacted: Mapping[str, int]


def read_log(
    source: str | Path,
    *,
    ratings: str | None = None,
    redact: Redact | None = None,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    drop_bad: bool = False,
) -> Log:
    """The exchanges of a data set in any format of `read`, personal data removed where that is asked for.

    `ratings` names a column as in `exchanges`. Raises InputError where no user turn follows a response.
    """
    bad: list[InputError] = []
    rows = read(source, limit=limit, columns=columns, skipped=bad if drop_bad else None)
    found, dropped = exchanges(rows if redact is None else list(map(redact.row, rows)), ratings)
    if bad:
        dropped["rows that cannot be read"] = len(bad)
    return Log(source, found, len(rows), ratings is not None, dropped, dict(redact.found) if redact else {})


def read_reactions(heard: Sequence[Reacted], reward: FollowUpReward, store: Store) -> list[ReactionReward]:
    """The rewards of every response, from the store as far as it holds them."""
    found = resumable_map(
        heard,
        _keys(heard, reward.fingerprint),
        lambda chunk: _read(chunk, reward),
        store,
        TypeAdapter(ReactionReward),
        chunk=CHUNK,
        label="read",
        # A detail names a line of the log, which may be another in the next call.
        final=lambda reading: not reading.reason,
    )
    return list(found)


def _keys(heard: Sequence[Reacted], fingerprint: str) -> Iterator[bytes]:
    """The key of every response: the reward, the conversation up to it, and what was said after it."""
    for each in heard:
        yield digest(
            "actual_follow_up", fingerprint, [(turn.role, turn.content) for turn in each.dialogue], each.follow_ups
        )


def _read(heard: Sequence[Reacted], reward: FollowUpReward) -> Iterator[ReactionReward]:
    """Both rewards of responses, or the reason why there are none; of several reactions the mean counts."""
    where, lost, unread = [each.prompt.where for each in heard], dict[int, InputError](), dict[int, InputError]()
    expected = reward.score([each.dialogue for each in heard], where=where, unscored=lost)
    spoken = [(index, words) for index, each in enumerate(heard) for words in each.follow_ups]
    actual = ActualFollowUpReward(reward).score(
        [heard[index].dialogue for index, _ in spoken],
        [words for _, words in spoken],
        where=[where[index] for index, _ in spoken],
        unscored=unread,
    )
    for index in range(len(heard)):
        answers = [row for row, (owner, _) in enumerate(spoken) if owner == index]
        usable = [row for row in answers if row not in unread]
        if index in lost or not usable:
            error = lost[index] if index in lost else unread[answers[0]]
            yield ReactionReward(reason=reason_of(error), detail=str(error))
            continue
        parts = {name: fmean(float(column[row]) for row in usable) for name, column in actual.by_category.items()}
        yield ReactionReward(
            {
                "actual_follow_up": fmean(float(actual.rewards[row]) for row in usable),
                "follow_up": float(expected.rewards[index]),
            },
            {
                "actual_follow_up": parts,
                "follow_up": {name: float(column[index]) for name, column in expected.by_category.items()},
            },
            [None if row in unread else float(actual.rewards[row]) for row in answers],
        )


def with_rating_regression(heard: Sequence[Reacted], readings: Sequence[ReactionReward]) -> list[ReactionReward]:
    """The readings with the reward that is fitted to the log's ratings; of several reactions the mean counts."""
    spoken = [(index, words) for index, each in enumerate(heard) for words in each.follow_ups]
    given, talks = ([getattr(heard[index], name) for index, _ in spoken] for name in ("rating", "conversation"))
    values: list[list[float]] = [[] for _ in heard]
    for (index, _), value in zip(spoken, rating_regression([words for _, words in spoken], given, talks), strict=True):
        values[index].append(value)
    return [
        one if one.reason else replace(one, rewards={**one.rewards, "rating_regression": fmean(fitted)})
        for one, fitted in zip(readings, values, strict=True)
    ]


def _judgement(reading: ReactionReward, by: By) -> Judgement:
    if reading.reason:
        return Judgement(0.0, reason=reading.reason, detail=reading.detail)
    return Judgement(reading.rewards[by], parts=reading.by_category.get(by, {}))


def _rollouts(heard: Sequence[Reacted], reward: FollowUpReward | None) -> list[Rollout]:
    """The responses as rollouts; their ids are there to be counted: tokens of a model, else characters."""
    texts = [as_text(each.dialogue[-1]) for each in heard]
    ids = [tuple(map(ord, text)) for text in texts] if reward is None else tokenize(reward.chat.tokenizer, texts)
    before = Counter[str]()
    rollouts = []
    for each, response_ids in zip(heard, ids, strict=True):
        sample = before[each.prompt.key]
        before[each.prompt.key] += 1
        rollouts.append(
            Rollout(
                each.prompt,
                (),
                response_ids,
                each.response,
                finished=True,
                sample=sample,
                source="dataset",
                fields=each.fields,
            )
        )
    return rollouts


def _by_prompt(
    rollouts: Sequence[Rollout], judged: Sequence[Judgement]
) -> tuple[list[Group], list[tuple[Judgement, ...]]]:
    """Responses and their judgements in groups, in the order in which prompts first come up."""
    groups: dict[str, list[tuple[Rollout, Judgement]]] = {}
    for rollout, judgement in zip(rollouts, judged, strict=True):
        groups.setdefault(rollout.prompt.key, []).append((rollout, judgement))
    both = [tuple(zip(*group, strict=True)) for group in groups.values()]
    return [group for group, _ in both], [judgements for _, judgements in both]


def _preference(mined: MinedPair) -> Preference:
    chosen, rejected = mined.chosen, mined.rejected
    texts = chosen.response, rejected.response
    return Preference(chosen.prompt, *texts, chosen.fields, rejected.fields, mined.pair.margin)


def _rated(rollout: Rollout, good: bool) -> Rated:
    return Rated(rollout.prompt, rollout.response, good, rollout.fields)


def _answered(heard: Reacted) -> Answered:
    return Answered(heard.prompt, heard.response, heard.fields)


def _spelled(mined: MinedRow, of: Sequence[tuple[Reacted, ReactionReward]], by: By) -> dict[str, Any]:
    """A row with what was said after its responses, and their rewards: of one, or of chosen and rejected."""
    sides = ("chosen_", "rejected_") if len(of) == 2 else ("",)
    spelled: dict[str, Any] = {} if len(of) == 2 else {"reward": mined.score}
    for side, (heard, reading) in zip(sides, of, strict=True):
        spelled[f"{side}actual_follow_up"] = list(heard.follow_ups)
        spelled |= {f"{side}reward_{kind}": reading.rewards[kind] for kind in get_args(By) if kind in reading.rewards}
        spelled[f"{side}by_category"] = reading.by_category.get(by, {})
    return {**to_record(mined.row), **spelled}


def _nothing_left(source: str | Path, judged: Sequence[Judgement], dropped: Mapping[str, int]) -> InputError:
    scores = {each.score for each in judged if each.valid}
    counts = ", ".join(f"{reason}: {count}" for reason, count in dropped.items() if count)
    counts += "".join(
        f"; {detail}" for detail in {each.reason: each.detail for each in judged[::-1] if each.detail}.values()
    )
    equal = f"all rewards are {scores.pop():.4f}, so none is good or bad; " if len(scores) == 1 and judged[1:] else ""
    return InputError(
        f"{equal}nothing is left to write ({counts})", path=source, allowed="other thresholds, or more log"
    )


def _correlations(heard: Sequence[Reacted], readings: Sequence[ReactionReward]) -> dict[str, Estimate]:
    """Spearman's rho of the rewards with each other, with length in characters, and with any ratings."""
    rows = [(each, reading) for each, reading in zip(heard, readings, strict=True) if not reading.reason]
    rated = [(each, reading) for each, reading in rows if each.rating is not None]
    kinds = [kind for kind in get_args(By) if rows and kind in rows[0][1].rewards]
    value: dict[str, Callable[[Reacted, ReactionReward], float]] = {
        **{kind: partial(_reward, kind) for kind in kinds},
        "length": lambda each, _: float(len(each.response)),
        "rating": lambda each, _: float(each.rating or 0),
    }
    compared = [*combinations(kinds, 2), *((kind, "length") for kind in kinds)]
    compared += [(kind, "rating") for kind in (*kinds, "length") if rated]
    found = {}
    for one, other in compared:
        of = rated if other == "rating" else rows
        x, y = ([value[name](*row) for row in of] for name in (one, other))
        few = Estimate(None, None, None, len(of), f"fewer than {FEWEST_ROWS} responses")
        talks = [each.conversation for each, _ in of]
        found[f"{one}, {other}"] = correlations(x, y, talks).spearman if len(of) >= FEWEST_ROWS else few
    return found


def _reward(kind: str, _: Reacted, reading: ReactionReward) -> float:
    return reading.rewards[kind]
