"""Rewards of the responses in a log, by what users said right after them: as a model reads it, or as they rated it."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from uptake.data.chat_log import Bools, Indices, Log, means
from uptake.data.exchanges import Reacted
from uptake.data.resumable import Results, Store, digest, resumable_stream
from uptake.errors import InputError
from uptake.follow_up.rating_regression import rating_regression
from uptake.rewards.rate import reason_of
from uptake.support.keys import words
from uptake.types import Dropped, Judgement

if TYPE_CHECKING:
    from uptake.follow_up.reward import FollowUpReward

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

    def judgement(self, by: By) -> Judgement:
        """What one of the rewards says of the response."""
        if self.reason:
            return Judgement(0.0, reason=self.reason, detail=self.detail)
        return Judgement(self.rewards[by], parts=self.by_category.get(by, {}))


_KIND = TypeAdapter(ReactionReward)


def read_reactions(
    heard: Iterable[Reacted], reward: "FollowUpReward", store: Store, total: int
) -> Iterator[tuple[Reacted, ReactionReward]]:
    """Every one of the `total` responses with its rewards, from the store as far as it holds them."""
    return resumable_stream(
        heard,
        lambda each: _key(each, reward.fingerprint),
        lambda chunk: _read(chunk, reward),
        store,
        _KIND,
        chunk=CHUNK,
        label="read",
        total=total,
        # A detail names a line of the log, which may be another in the next call.
        final=lambda reading: not reading.reason,
    )


def _key(heard: Reacted, fingerprint: str) -> bytes:
    """A response's key: the reward, the conversation up to it, and what was said after it."""
    return digest("actual_follow_up", fingerprint, list(map(words, heard.dialogue)), heard.follow_ups)


def _read(heard: Sequence[Reacted], reward: "FollowUpReward") -> Iterator[ReactionReward]:
    """Both rewards of responses, or the reason why there are none; of several reactions the mean counts."""
    from uptake.follow_up.actual import ActualFollowUpReward  # noqa: PLC0415 - Torch takes seconds to load

    where, lost, unread = [each.prompt.where for each in heard], dict[int, InputError](), dict[int, InputError]()
    expected = reward.score([each.dialogue for each in heard], where=where, unscored=lost)
    spoken = [(index, text) for index, each in enumerate(heard) for text in each.follow_ups]
    actual = ActualFollowUpReward(reward).score(
        [heard[index].dialogue for index, _ in spoken],
        [text for _, text in spoken],
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


@dataclass
class LogRewards:
    """Rewards of a log's responses by kind, not-a-number where there is none, and the `reasons` why there is none.

    `details` tell what else is known of the first response of each reason. The whole reading of a response by a model
    stays in the `store`, under its key.
    """

    log: Log
    store: Store
    by_kind: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    reasons: dict[int, Dropped] = field(default_factory=dict)
    details: dict[Dropped, str] = field(default_factory=dict)
    keys: bytearray = field(default_factory=bytearray)

    @property
    def valid(self) -> Bools:
        """Which responses have rewards."""
        found = np.ones(len(self.log), dtype=np.bool_)
        found[list(self.reasons)] = False
        return found

    @property
    def counts(self) -> Counter[str]:
        """How many responses have none, by reason."""
        return Counter[str](self.reasons.values())

    def read(self, reward: "FollowUpReward") -> None:
        """Have a model read what users said."""
        columns = {name: array("d") for name in ("actual_follow_up", "follow_up")}
        read = read_reactions(self.log.responses(), reward, self.store, len(self.log))
        for number, (heard, reading) in enumerate(read):
            self.keys += _key(heard, reward.fingerprint)
            for name, column in columns.items():
                column.append(reading.rewards.get(name, nan))
            if reading.reason:
                self.reasons[number] = reading.reason
                if reading.detail:
                    self.details.setdefault(reading.reason, reading.detail)
        self.by_kind |= {name: np.frombuffer(column) for name, column in columns.items()}

    def fit_ratings(self) -> None:
        """Fit a reward to the log's ratings; of several reactions the mean counts."""
        log = self.log
        sizes = np.diff(log.starts)
        ratings, conversations = np.repeat(log.ratings, sizes), np.repeat(log.conversations, sizes)
        fitted = means(rating_regression(log.words, ratings, conversations), log.starts)
        self.by_kind["rating_regression"] = np.where(self.valid, fitted, nan)

    def each(self, wanted: Bools | None = None) -> Iterator[tuple[Reacted, ReactionReward]]:
        """The responses in their order, or the `wanted` ones, each with all its rewards."""
        numbers = np.arange(len(self.log)) if wanted is None else np.flatnonzero(wanted)
        fitted = self.by_kind.get("rating_regression")
        for number, heard, reading in zip(numbers, self.log.responses(wanted), self._readings(numbers), strict=True):
            if fitted is None or reading.reason:
                yield heard, reading
            else:
                rewards = {**reading.rewards, "rating_regression": float(fitted[number])}
                yield heard, replace(reading, rewards=rewards)

    def _readings(self, numbers: Indices) -> Iterable[ReactionReward]:
        if not self.keys:
            return (ReactionReward() for _ in numbers)
        keys = np.frombuffer(self.keys, "S16")
        unread = {self._spelled(number): ReactionReward(reason=reason) for number, reason in self.reasons.items()}
        return Results(keys[numbers], self.store, _KIND, unread)

    def _spelled(self, number: int) -> str:
        return self.keys[16 * number : 16 * number + 16].hex()
