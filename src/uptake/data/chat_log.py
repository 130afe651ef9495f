"""Logs of conversations, too long to be held: their responses, and what users said right after each."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import final

import numpy as np
from numpy.typing import NDArray

from uptake.data.exchanges import Exchange, Reacted, each_exchange
from uptake.data.read import RowStream
from uptake.data.redact import Redact
from uptake.data.resumable import digest
from uptake.data.text_file import TextFile, Texts
from uptake.errors import InputError
from uptake.types import Row

Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]


@final
class Log:
    """Log of conversations with everything that is held of it: `Log(RowStream("chats.jsonl"), "chats.jsonl")`.

    A response that comes up again after the same prompt is one response, and equal words after it count once, as in
    `merged`. No text is held: `exchanges` and `responses` read the source again, since words to a response may come up
    anywhere in it, and what users said is in a `TextFile`. Of a response the arrays `lengths` (in characters),
    `ratings` (their mean, not-a-number without any), `conversations` (the number of the first) and `prompts` (equal
    ones have equal numbers) are held, in the order in which each first comes up. `dropped` counts what was left out by
    reason, `redacted` what was replaced by kind. Raises InputError as `each_exchange` does.
    """

    def __init__(
        self, rows: RowStream, source: str | Path, ratings: str | None = None, redact: Redact | None = None
    ) -> None:
        self.source, self.rows, self.rated = source, len(rows), ratings is not None
        self._rows, self._column = rows, ratings
        self.dropped, self.follow_ups = Counter[str](), TextFile()
        found = _Exchanges()
        for each in each_exchange(rows if redact is None else map(redact.row, rows), self.dropped, ratings):
            found.add(each)
            self.follow_ups.append(each.follow_up)
        self.redacted: Mapping[str, int] = dict(redact.found) if redact else {}
        # What is replaced when rows are read again was counted now.
        self._redact = redact and replace(redact, found=Counter())
        of, self._first = _numbered(found.keys)
        _, new = np.unique(np.frombuffer(found.words, "S16"), return_index=True)
        self._new = new[np.lexsort((new, of[new]))]
        self._starts = np.searchsorted(of[self._new], np.arange(len(self._first) + 1))
        self.lengths, self.conversations = (
            np.frombuffer(column, np.int64)[self._first] for column in (found.lengths, found.conversations)
        )
        self.prompts, _ = _numbered(np.frombuffer(found.prompts, "S8")[self._first].tobytes(), 8)
        given = np.frombuffer(found.ratings, np.float64)
        rated = np.flatnonzero(~np.isnan(given))
        rated = rated[np.argsort(of[rated], kind="stable")]
        self.ratings = means(given[rated], np.searchsorted(of[rated], np.arange(len(self._first) + 1)))

    def __len__(self) -> int:
        """The number of responses."""
        return len(self._first)

    @property
    def words(self) -> Texts:
        """All that was said after the first response, then after the second, and so on, no two of one alike."""
        return self.follow_ups.at(self._new)

    @property
    def starts(self) -> Indices:
        """Where in `words` those of each response begin, and the end of all."""
        return self._starts

    def exchanges(self) -> Iterator[Exchange]:
        """The exchanges in the order of the log, repeated ones too, read from the source."""
        rows: Iterable[Row] = self._rows if self._redact is None else map(self._redact.row, self._rows)
        return each_exchange(rows, Counter(), self._column)

    def responses(self, wanted: Bools | None = None) -> Iterator[Reacted]:
        """The responses in their order, or the `wanted` ones, read from the source."""
        numbers = np.arange(len(self)) if wanted is None else np.flatnonzero(wanted)
        left = iter(zip(numbers.tolist(), self._first[numbers].tolist(), strict=True))
        number, first = next(left, (0, None))
        for index, each in enumerate(self.exchanges()):
            if index == first:
                yield self._reacted(number, each)
                number, first = next(left, (0, None))

    def _reacted(self, number: int, first: Exchange) -> Reacted:
        start, stop = self._starts[number : number + 2].tolist()
        words, rating = self.words, float(self.ratings[number])
        follow_ups = tuple(words[index] for index in range(start, stop))
        known = None if np.isnan(rating) else rating
        return Reacted(first.prompt, first.response, follow_ups, first.conversation, known, first.fields)


def read_log(
    source: str | Path,
    *,
    ratings: str | None = None,
    redact: Redact | None = None,
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    drop_bad: bool = False,
) -> Log:
    """The log of a data set in any format of `read`, personal data removed where that is asked for.

    `ratings` names a column as in `each_exchange`; `drop_bad` leaves out and counts rows that cannot be read. Raises
    InputError as `RowStream` and `Log` do.
    """
    bad: list[InputError] = []
    log = Log(RowStream(source, limit, columns, skipped=bad if drop_bad else None), source, ratings, redact)
    if bad:
        log.dropped["rows that cannot be read"] = len(bad)
    return log


class _Exchanges:
    """What is held of exchanges while they are read: digests of response and words, and numbers."""

    def __init__(self) -> None:
        self.keys, self.words, self.prompts = bytearray(), bytearray(), bytearray()
        self.lengths, self.conversations, self.ratings = array("q"), array("q"), array("d")

    def add(self, each: Exchange) -> None:
        key = digest(each.prompt.key, each.response, repr(each.fields))
        self.keys += key
        self.words += digest(key.hex(), each.follow_up)
        self.prompts += bytes.fromhex(each.prompt.key)
        self.lengths.append(len(each.response))
        self.conversations.append(each.conversation)
        self.ratings.append(float("nan") if each.rating is None else each.rating)


def _numbered(keys: bytes | bytearray, size: int = 16) -> tuple[Indices, Indices]:
    """The number of every key, equal ones alike, in the order in which each first comes up, and where it does."""
    _, first, numbers = np.unique(np.frombuffer(keys, f"S{size}"), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[numbers], first[order]


def means(values: NDArray[np.float64], starts: Indices) -> NDArray[np.float64]:
    """The mean of every stretch of values, from its start to the next, rounded once; of none not-a-number."""
    sizes, found = np.diff(starts), np.full(len(starts) - 1, np.nan)
    single = sizes == 1
    found[single] = values[starts[:-1][single]]
    for index in np.flatnonzero(sizes > 1):
        found[index] = fmean(values[starts[index] : starts[index + 1]].tolist())
    return found
