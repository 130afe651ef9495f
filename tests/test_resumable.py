"""The resumable map: what is done is found by content, whatever was killed, reordered, doubled or added before."""

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from test_two_processes import until
from tiny import in_process, started

from uptake.data import Writer, replacing, resumable
from uptake.data.cache import Cache
from uptake.data.lock import locked
from uptake.data.resumable import (
    HEADER,
    ResultJournal,
    Store,
    digest,
    journal_path,
    resumable_map,
    resumable_output,
    resumable_stream,
)
from uptake.errors import InputError, UptakeError

KIND = TypeAdapter(list[float])
CHUNK = 3


class Stopped(Exception):
    """What ends a call in the middle."""


class Length:
    """What a text comes to, counted, and stopped after so many chunks."""

    def __init__(self, chunks: int = 10**9) -> None:
        self.chunks = chunks
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        if not self.chunks:
            raise Stopped
        self.chunks -= 1
        assert len(texts) <= CHUNK
        self.asked += texts
        return [result(text) for text in texts]


def result(text: str) -> list[float]:
    return [len(text) / 7, float(sum(map(ord, text)))]


def mapped(texts: Sequence[str], work: Length, store: Store) -> list[list[float]]:
    keys = (digest("length", text) for text in texts)
    return list(resumable_map(texts, keys, work, store, KIND, chunk=CHUNK, label="map"))


def streamed(texts: Iterable[str], work: Length, store: Store) -> list[list[float]]:
    options: dict[str, Any] = {"chunk": CHUNK, "label": "stream", "total": 1}
    pairs = list(resumable_stream(texts, lambda text: digest("length", text), work, store, KIND, **options))
    assert [text for text, _ in pairs] == list(texts)
    return [each for _, each in pairs]


def whole_batches(journal: bytes) -> set[str]:
    """The keys of the results that a journal surely holds, read by another road."""
    lines = journal.split(b"\n")[:-1]
    if not lines or lines[0] + b"\n" != HEADER:
        return set()
    found: set[str] = set()
    batch: set[str] = set()
    for line in map(json.loads, lines[1:]):
        batch.add(line["row"])
        if line["left"] == 0:
            found |= batch
            batch = set()
    return found


texts = st.lists(st.text("ab\0é", max_size=4), max_size=14)


@pytest.mark.parametrize("run", [mapped, streamed])
@given(calls=st.lists(st.tuples(texts, st.integers(0, 4), st.floats(0, 1)), max_size=5), last=texts)
def test_any_history_ends_as_a_clean_run(
    tmp_path_factory: pytest.TempPathFactory,
    run: Callable[[Sequence[str], Length, Store], list[list[float]]],
    calls: list[tuple[list[str], int, float]],
    last: list[str],
) -> None:
    """Calls with other rows, each stopped after some chunks, and then the journal cut off at any byte."""
    path = tmp_path_factory.mktemp("map") / "journal.jsonl"
    for rows, chunks, cut in (*calls, (last, 10**9, 1.0)):
        held = whole_batches(path.read_bytes()) if path.exists() else set()
        work = Length(chunks)
        try:
            with ResultJournal(path) as journal:
                assert run(rows, work, journal) == [result(text) for text in rows]
        except Stopped:
            pass
        else:
            # Exactly what was not held is computed, each text once.
            assert Counter(work.asked) == Counter({text for text in rows if digest("length", text).hex() not in held})
        assert not any(digest("length", text).hex() in held for text in work.asked)
        if path.exists():
            os.truncate(path, int(cut * path.stat().st_size))


@given(rows=texts, drops=st.sets(st.integers(0, 13)))
def test_a_result_that_is_not_final_is_given_out_and_asked_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], drops: set[int]
) -> None:
    path = tmp_path_factory.mktemp("map") / "journal.jsonl"
    passing = [result(rows[place]) for place in drops if place < len(rows)]
    keys, asked = [digest("length", text) for text in rows], []
    for _ in "ab":
        work = Length()
        with ResultJournal(path) as journal:
            found = resumable_map(
                rows, keys, work, journal, KIND, chunk=CHUNK, label="map", final=lambda each: each not in passing
            )
            assert list(found) == list(found) == [result(text) for text in rows]
        asked.append(set(work.asked))
    assert asked == [set(rows), {text for text in rows if result(text) in passing}]


@pytest.mark.parametrize("streams", [False, True])
def test_chunks_are_cut_the_same_way_after_a_kill(tmp_path: Path, streams: bool) -> None:
    """A number that depends on its batch by a rounding is the same: what is left of a chunk is asked as it was."""
    rows, path, batches = list("abcdefgh"), tmp_path / "journal.jsonl", list[str]()

    def work(some: Sequence[str]) -> list[list[float]]:
        batches.append("".join(some))
        return [result(text) for text in some]

    keys = [digest(text) for text in rows]
    for _ in "ab":
        with ResultJournal(path) as journal:
            if streams:
                list(resumable_stream(rows, digest, work, journal, KIND, chunk=CHUNK, label="stream", total=8))
            else:
                list(resumable_map(rows, keys, work, journal, KIND, chunk=CHUNK, label="map"))
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:6])[:-1])  # the second of three batches is torn
    assert batches == ["abc", "def", "gh", "def", "gh"]


def test_a_stream_reads_no_further_than_the_chunk_at_hand(tmp_path: Path) -> None:
    rows, work = iter("abcdefgh"), Length()
    with ResultJournal(tmp_path / "journal.jsonl") as journal:
        found = resumable_stream(rows, digest, work, journal, KIND, chunk=CHUNK, label="stream", total=8)
        assert next(found) == ("a", result("a"))
        assert (work.asked, next(rows)) == (["a", "b", "c"], "d")


def test_results_that_are_not_final_are_given_out_by_a_stream_and_asked_again(tmp_path: Path) -> None:
    for _ in "ab":
        work = Length()
        with ResultJournal(tmp_path / "journal.jsonl") as journal:
            options: dict[str, Any] = {"chunk": CHUNK, "label": "stream", "total": 2}
            found = resumable_stream("ab", digest, work, journal, KIND, **options, final=lambda each: each[1] != 97)
            assert list(found) == [("a", result("a")), ("b", result("b"))]
    assert work.asked == ["a"]


def test_a_cache_is_a_store_too(tmp_path: Path) -> None:
    work, again = Length(), Length()
    assert mapped(["a", "b", "a"], work, Cache(tmp_path / "a.sqlite")) == [result("a"), result("b"), result("a")]
    assert mapped(["b", "c"], again, Cache(tmp_path / "a.sqlite")) == [result("b"), result("c")]
    assert (work.asked, again.asked) == (["a", "b"], ["c"])


def test_many_keys(tmp_path: Path) -> None:
    """More than are held beside the sorted ones, and among them keys that end in zeros; the last value counts."""
    rows = [number.to_bytes(4, "little") + bytes(12) for number in range(30_000)]
    with ResultJournal(tmp_path / "journal.jsonl") as journal:
        journal.put({key.hex(): [0.0] for key in rows})
        journal.put({key.hex(): [float(place)] for place, key in enumerate(rows)})
    with ResultJournal(tmp_path / "journal.jsonl") as journal:
        found = journal.get((key.hex() for key in rows), KIND)
        assert list(found.values()) == [[float(place)] for place in range(30_000)]
        assert journal.get([bytes(15).hex() + "01"], KIND) == {}


def test_keys_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    """Their places are not: the one that is lost is computed again, and no row gets the result of another."""
    one, other = (bytes(15) + bytes([end]) for end in (1, 2))
    with ResultJournal(tmp_path / "journal.jsonl") as journal:
        for _ in "ab":
            for key, value in ((one, [1.0]), (other, [2.0])):
                journal.put({key.hex(): value})
                assert journal.get([one.hex(), other.hex()], KIND) == {key.hex(): value}


@given(puts=st.lists(st.integers(0, 120), max_size=300))
def test_places_are_those_of_a_dictionary(puts: list[int]) -> None:
    """With runs of a few places, so that many are merged, and some no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resumable, "_NEW", 3)
        patch.setattr(resumable, "_RUN", 20)
        places, expected = resumable._Places(), dict[bytes, int]()
        for position, number in enumerate(puts):
            key = number.to_bytes(2, "big") + bytes(14)
            places.add(key, position)
            expected[key] = position
        keys = [number.to_bytes(2, "big") + bytes(14) for number in range(122)]
        assert [places.find(key) for key in keys] == [expected.get(key) for key in keys]
        sizes = [len(run) for run, _ in places._runs]
        assert all(np.all(run[:-1] < run[1:]) for run, _ in places._runs)
        assert len(sizes) <= 4 + sum(size >= 20 for size in sizes)


# --- files that are no journal, or another ----------------------------------------------------------------------------


def test_lines_that_cannot_be_read_are_counted_and_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.jsonl"
    with ResultJournal(path) as journal:
        mapped(list("abcdef"), Length(), journal)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"[", b"{")  # broken JSON
    lines[2] = lines[2].replace(b"[", b'["x", ')  # another shape
    lines[4] = b"{}\n"
    path.write_bytes(b"".join(lines))
    work = Length()
    with caplog.at_level(logging.WARNING), ResultJournal(path) as journal:
        assert mapped(list("abcdef"), work, journal) == [result(text) for text in "abcdef"]
    assert work.asked == ["a", "b", "d"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: 3 results could not be read, and were computed anew"
    ]


def test_a_journal_of_another_version_is_done_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(HEADER.replace(b"1", b"0") + b'{"a": 1}\n{"b": 2}\n')
    with caplog.at_level(logging.WARNING), ResultJournal(path) as journal:
        mapped(["a"], Length(), journal)
    assert "2 results could not be read" in caplog.text
    assert path.read_bytes().startswith(HEADER + b'{"row": ')


@pytest.mark.parametrize("content", [b"precious", b"precious\n", b'{"identity": "a", "scores": []}\n', b"{}\n"])
def test_a_file_that_is_no_journal_stays_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"journal\.jsonl: this file is no journal"):
        ResultJournal(path)
    assert path.read_bytes() == content


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "journal.jsonl"
    victim.write_bytes(HEADER[:5])
    path.symlink_to(victim)
    with pytest.raises(UptakeError, match="this is a link"):
        ResultJournal(path)
    (tmp_path / f".out.jsonl.{os.getpid()}.tmp").symlink_to(victim)
    with Writer(tmp_path / "out.jsonl") as writer:
        writer.write({"a": 1})
    assert victim.read_bytes() == HEADER[:5]


def test_another_writer_gives_no_row_the_result_of_another(tmp_path: Path) -> None:
    """Where locks do not hold, as on some network disks: an error, and no wrong number."""
    path = tmp_path / "journal.jsonl"
    with ResultJournal(path) as one:
        mapped(["a"], Length(), one)
        with ResultJournal(path) as other:
            mapped(["bb"], Length(), other)
        with pytest.raises(UptakeError, match="something else has written"):
            mapped(["c"], Length(), one)


# --- an output with its journal ---------------------------------------------------------------------------------------


def write(out: Path, rows: Sequence[str], work: Length, *, overwrite: bool = False, fail: bool = False) -> None:
    with resumable_output(out, overwrite=overwrite) as journal:
        found = mapped(rows, work, journal)
        with Writer(out, overwrite=overwrite, resumes=journal.resumes) as writer:
            for each in found:
                writer.write({"result": each})
        if fail:
            raise Stopped


def test_a_call_that_was_killed_before_it_could_tidy_up(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(Stopped):
        write(out, "abcd", Length(), fail=True)
    content = out.read_bytes()
    assert journal_path(out).exists()
    work = Length()
    write(out, "abcd", work)
    assert (work.asked, out.read_bytes(), os.listdir(tmp_path)) == ([], content, ["out.jsonl"])
    with pytest.raises(InputError, match="the output file exists"):
        write(out, "abcd", work)


@pytest.mark.parametrize("rows", ["abcde", "abdc", "abc"])
def test_an_output_of_other_rows_is_not_replaced(rows: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(Stopped):
        write(out, "abcd", Length(), fail=True)
    content = out.read_bytes()
    with pytest.raises(InputError, match="the output file exists"):
        write(out, rows, Length())
    assert out.read_bytes() == content
    write(out, rows, Length(), overwrite=True)
    assert len(out.read_bytes().splitlines()) == len(rows)
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_an_error_before_any_result_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        write(tmp_path / "out.jsonl", "abcd", Length(0))
    assert os.listdir(tmp_path) == []


# --- the lock ---------------------------------------------------------------------------------------------------------


def try_lock(path: Path) -> None:
    with locked(path, inside=path.is_dir()):
        pass


def die_locked(path: Path) -> None:
    with locked(path):
        (path.parent / f".{path.name}.{os.getpid()}.tmp").touch()
        os.kill(os.getpid(), 9)


@pytest.mark.parametrize("name", ["out.jsonl", "folder"])
def test_one_process_at_a_time(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    before = sorted(os.listdir(tmp_path))
    with locked(path, inside=path.is_dir()):
        assert in_process(quiet, try_lock, path) == 1
        with pytest.raises(UptakeError, match=f"{name}: another process is at work on this"):
            try_lock(path)
    assert in_process(try_lock, path) == 0
    assert sorted(os.listdir(tmp_path)) == before
    assert name != "folder" or os.listdir(path) == []


def test_a_death_frees_the_lock_and_its_leftovers_go(tmp_path: Path) -> None:
    out, other = tmp_path / "out.jsonl", tmp_path / ".out.jsonl.gz.1.tmp"
    other.touch()  # of an output of another name, which may be at work
    assert in_process(die_locked, out) == -9
    assert len(os.listdir(tmp_path)) == 3
    try_lock(out)
    assert os.listdir(tmp_path) == [other.name]


def hold_file(path: Path, ready: Path) -> None:
    with replacing(path) as temporary:
        temporary.touch()
        ready.mkdir()
        time.sleep(60)


def test_files_of_the_living_stay(tmp_path: Path) -> None:
    """A page may be written into the folder of a run that begins meanwhile."""
    folder, ready = tmp_path / "run", tmp_path / "ready"
    folder.mkdir()
    process = started(hold_file, folder / "page.html", ready)
    until(ready.exists)
    living, dead = folder / f".page.html.{process.pid}.tmp", folder / ".page.html.999999999.tmp"
    dead.touch()
    with locked(folder, inside=True):
        found = living.exists(), dead.exists()
    process.kill()
    process.join()
    assert found == (True, False)
    with locked(folder, inside=True):
        assert not living.exists()


def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".out.jsonl.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UptakeError, match="cannot be written"):
        try_lock(tmp_path / "out.jsonl")
    assert (tmp_path / "victim").read_text() == "precious"


def quiet(function: Any, *arguments: Any) -> None:
    """Call a function; an error is an exit code, and no traceback on the terminal."""
    try:
        function(*arguments)
    except UptakeError:
        raise SystemExit(1) from None
