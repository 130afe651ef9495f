"""The one resumable map: from a shard of rows to finished rows on disk.

What is done is found by content, never by place. The key of a row is a digest of all that its result depends on: its
texts, the settings, and the fingerprint of whatever computes it, which is one of its weights. So after a kill, with a
row more, in another order or with a column less, exactly the rows whose key is new are computed, and equal rows once.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, final

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter
from pydantic_core import from_json

from uptake.data.journal import Closing
from uptake.data.lock import locked
from uptake.data.write import AppendFile, json_line, may_write, output_exists
from uptake.errors import InputError, UptakeError
from uptake.support.keys import content_key
from uptake.support.progress import progress_bar
from uptake.support.stop import going_on

log = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Digests = npt.NDArray[np.bytes_]  # one of 16 bytes a row
Halves = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]

# The first line of a journal. What begins otherwise is somebody's file, and stays as it is.
HEADER = json_line({"uptake": "results by row", "version": 1})
_OTHER_VERSION = re.compile(rb'\{"uptake": "results by row", "version": \d+')
_LINE = re.compile(
    rb'\{"row": "(?P<key>[0-9a-f]{32})", "left": (?P<left>\d+), (?P<passing>"final": false, )?"result": '
)

# Results that are looked up at a time.
_READ = 1024

# Places that are held as they come, and those of a sorted run from which on it stays as it is.
_NEW, _RUN = 1 << 12, 1 << 16


def digest(*parts: Any) -> bytes:
    """The key of a row: 16 bytes that differ wherever the parts do; they are written as JSON."""
    return bytes.fromhex(content_key(*parts)[:32])


class Store(Protocol):
    """Store of results under their keys, spelled as hexadecimal digits."""

    def get(self, keys: Iterable[str], kind: TypeAdapter[ResultT]) -> dict[str, ResultT]:
        """The results that are there; one that is not of the `kind` counts as absent."""
        ...

    def put(self, values: Mapping[str, Any], *, final: bool = True) -> None:
        """Keep a batch of results, all of them or none; those that are not `final` for no later work."""
        ...


def resumable_map(
    items: Sequence[ItemT],
    keys: Iterable[bytes],
    compute: Callable[[Sequence[ItemT]], Iterable[ResultT]],
    store: Store,
    kind: TypeAdapter[ResultT],
    *,
    chunk: int,
    label: str,
    final: Callable[[ResultT], bool] = lambda result: True,
) -> "Results[ResultT]":
    """The result of every item, in order, from the store as far as it is there.

    `compute` is asked for the rest, at most `chunk` items at once, one of every key; a chunk is what a kill can cost.
    Chunks are cut the same way in every call, so that a number that depends on its batch by a rounding is the same
    after a kill. A result that is not `final` is given out, and computed again by the next call.
    """
    digests = np.frombuffer(b"".join(keys), "S16")
    _, first = np.unique(digests, return_index=True)
    first.sort()
    passing: dict[str, ResultT] = {}
    with progress_bar(label, len(first)) as bar:
        for start in range(0, len(first), chunk):
            places = first[start : start + chunk]
            some, batch = [items[index] for index in places], _spelled(digests[places])
            found = filled(batch, partial(_computed, compute, some), store, kind, final=final)
            passing |= {key: result for key, result in found.items() if not final(result)}
            bar.advance(len(batch))
    return Results(digests, store, kind, passing)


def resumable_stream(
    items: Iterable[ItemT],
    key: Callable[[ItemT], bytes],
    compute: Callable[[Sequence[ItemT]], Iterable[ResultT]],
    store: Store,
    kind: TypeAdapter[ResultT],
    *,
    chunk: int,
    label: str,
    total: int,
    final: Callable[[ResultT], bool] = lambda result: True,
) -> Iterator[tuple[ItemT, ResultT]]:
    """Every item with its result, as in `resumable_map`, one chunk after the other: no more than one is held.

    A chunk is `chunk` of the `total` items in their order, whatever of it is there already.
    """
    with progress_bar(label, total) as bar:
        rest = iter(items)
        while some := list(islice(rest, chunk)):
            batch = [key(item).hex() for item in some]
            found = filled(batch, partial(_computed, compute, some), store, kind, final=final)
            yield from zip(some, map(found.__getitem__, batch), strict=True)
            bar.advance(len(some))


def _computed(
    compute: Callable[[Sequence[ItemT]], Iterable[ResultT]], items: Sequence[ItemT], places: Sequence[int]
) -> Iterable[ResultT]:
    return compute([items[index] for index in places])


def filled(
    keys: Sequence[str],
    ask: Callable[[list[int]], Iterable[ResultT]],
    store: Store,
    kind: TypeAdapter[ResultT],
    *,
    final: Callable[[ResultT], bool],
) -> dict[str, ResultT]:
    """The result of every key; `ask` gets the places of those that are not in the store, each key once.

    Results are in the store before they are given out.
    """
    found = store.get(keys, kind)
    new = {key: index for index, key in reversed(list(enumerate(keys))) if key not in found}
    places = sorted(new.values())
    computed = dict(zip((keys[index] for index in places), ask(places) if places else (), strict=True))
    for lasting in (True, False):
        some = {key: result for key, result in computed.items() if final(result) == lasting}
        if some:
            store.put({key: kind.dump_python(result, mode="json") for key, result in some.items()}, final=lasting)
    return found | computed


@final
class Results(Generic[ResultT]):
    """The results of a map in the order of its rows, read from the store while one goes through them."""

    def __init__(self, keys: Digests, store: Store, kind: TypeAdapter[ResultT], passing: Mapping[str, ResultT]) -> None:
        self._keys, self._store, self._kind, self._passing = keys, store, kind, passing

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[ResultT]:
        for start in range(0, len(self._keys), _READ):
            keys = _spelled(self._keys[start : start + _READ])
            found = self._store.get((key for key in keys if key not in self._passing), self._kind)
            yield from (self._passing[key] if key in self._passing else found[key] for key in keys)


@contextmanager
def resumable_output(out: Path, *beside: Path, overwrite: bool) -> Iterator["ResultJournal"]:
    """The journal of an output, with the lock on both and on what is written `beside` it, while the block runs.

    A block that ends well has written the output, last of all, and the journal goes; after an error it stays, unless it
    is empty. A journal beside an output belongs to a call that was killed before it could tidy up, or that was to
    overwrite another output: only in the first case does this call end well without `overwrite`. Raises InputError for
    an output that exists, UptakeError where another process works on it.
    """
    path = journal_path(out)
    with locked(out, *beside):
        resumes = path.exists()
        may_write(out, overwrite=overwrite or resumes)
        with (
            ResultJournal(path, resumes=resumes, finished=out if out.exists() and not overwrite else None) as journal,
            going_on(lambda: f"{out}: the same command goes on from {len(journal)} results"),
        ):
            yield journal
        path.unlink(missing_ok=True)


def journal_path(out: Path) -> Path:
    """The journal of an output: beside it, while the work goes on."""
    return out.with_name(f"{out.name}.journal.jsonl")


@final
class ResultJournal(Closing):
    """A store in one file, for whoever holds its lock: a line a result, which says by its key of which row it is.

    Of results only where they begin is held, 16 bytes each. Batches are whole or absent: a torn one is removed when the
    file is opened. Lines that cannot be read and those of another version are absent, too; they are counted, and said
    once. Results that are not final are there only beside an output that is `finished`, which they are part of; there
    no result can be new. Raises InputError where one is, or the file is no journal, and UptakeError where it is a link
    or the disk refuses.
    """

    def __init__(self, path: Path, *, resumes: bool = False, finished: Path | None = None) -> None:
        self.path, self.resumes, self._finished = path, resumes, finished
        self._places, self._lost = _Places(), 0
        self._file = AppendFile(path)
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    @property
    def is_finished(self) -> bool:
        """Whether the output is there, and with it all that is written beside it."""
        return self._finished is not None

    def get(self, keys: Iterable[str], kind: TypeAdapter[ResultT]) -> dict[str, ResultT]:
        """The results that are there and of the `kind`."""
        found: dict[str, ResultT] = {}
        with self.path.open("rb") as file:
            for key in keys:
                if (position := self._places.find(bytes.fromhex(key))) is None:
                    if self._finished is not None:
                        raise output_exists(self._finished)
                    continue
                file.seek(position)
                try:
                    line = from_json(file.readline())
                    result = kind.validate_python(line["result"])
                except (ValueError, TypeError, LookupError):
                    self._lost += 1
                    continue
                if line["row"] == key:
                    found[key] = result
                elif not str(line["row"]).startswith(key[:16]):
                    raise UptakeError(f"{self.path}: something else has written to this journal; start the call anew")
        return found

    def put(self, values: Mapping[str, Any], *, final: bool = True) -> None:
        """Appends a batch, all of it or nothing."""
        if self._finished is not None:
            raise output_exists(self._finished)
        kind = {} if final else {"final": False}
        lines = [
            json_line({"row": key, "left": len(values) - number, **kind, "result": value})
            for number, (key, value) in enumerate(values.items(), start=1)
        ]
        position = self._file.size
        self._file.append(b"".join(lines))
        if not final:
            return
        for key, line in zip(values, lines, strict=True):
            self._places.add(bytes.fromhex(key), position)
            position += len(line)

    def close(self) -> None:
        """Ends the journal; one without any result goes."""
        self._file.close()
        if self._lost:
            log.warning("%s: %d results could not be read, and were computed anew", self.path, self._lost)
        if not len(self._places):
            self.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        with self.path.open("rb") as file:
            first = file.readline()
            if first == HEADER:
                self._file.cut(self._scan(file, len(first)))
                return
            if _OTHER_VERSION.match(first):
                self._lost = sum(1 for _ in file)
            elif not HEADER.startswith(first):
                allowed = "a journal of Uptake; move this file away"
                raise InputError("this file is no journal", path=self.path, allowed=allowed)
        self._file.cut(0)
        self._file.append(HEADER)

    def _scan(self, lines: Iterable[bytes], end: int) -> int:
        """Find the results of every whole batch; returns where the last one ends."""
        whole, batch = end, list[tuple[bytes, int]]()
        for line in lines:
            position, end = end, end + len(line)
            found = _LINE.match(line) if line.endswith(b"\n") else None
            self._lost += not found and line.endswith(b"\n")
            if found:
                if not found["passing"] or self._finished is not None:
                    batch.append((bytes.fromhex(found["key"].decode()), position))
                if not int(found["left"]):
                    for each in batch:
                        self._places.add(*each)
                    whole = end
                    batch.clear()
        return whole


@final
class _Places:
    """Where the result of a key begins: a few new ones, and sorted runs, which are merged up to a size and then stay.

    A key is held by its first half, so that a place takes 16 bytes, and no more while places are added. Where two keys
    begin alike, the last is found.
    """

    def __init__(self) -> None:
        self._runs = list[tuple[Halves, Positions]]()
        self._new: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._new) + sum(len(keys) for keys, _ in self._runs)

    def add(self, key: bytes, position: int) -> None:
        """Later places replace earlier ones."""
        self._new[_half(key)] = position
        if len(self._new) < _NEW:
            return
        keys = np.fromiter(self._new, np.uint64, len(self._new))
        run = _sorted(keys, np.fromiter(self._new.values(), np.int64, len(keys)))
        while self._runs and len(self._runs[-1][0]) <= len(run[0]) < _RUN:
            (keys, places), (newer, later) = self._runs.pop(), run
            run = _sorted(np.concatenate([keys, newer]), np.concatenate([places, later]))
        self._runs.append(run)
        self._new = {}

    def find(self, key: bytes) -> int | None:
        half = _half(key)
        if half in self._new:
            return self._new[half]
        number = np.uint64(half)
        for keys, places in reversed(self._runs):
            at = int(keys.searchsorted(number))
            if at < len(keys) and keys[at] == number:
                return int(places[at])
        return None


def _half(key: bytes) -> int:
    return int.from_bytes(key[:8], "big")


def _sorted(keys: Halves, places: Positions) -> tuple[Halves, Positions]:
    """Keys in order with their places; of equal ones the last, which is the first in an array turned round."""
    unique, last = np.unique(keys[::-1], return_index=True)
    return unique, places[::-1][last]


def _spelled(keys: Digests) -> list[str]:
    raw = keys.tobytes()
    return [raw[start : start + 16].hex() for start in range(0, len(raw), 16)]
