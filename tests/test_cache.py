"""The cache of answers: what was put is there, whoever else writes and however a process ends."""

import json
import logging
import os
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from tiny import in_process

from uptake.data.cache import Cache
from uptake.errors import UptakeError
from uptake.support.keys import content_key
from uptake.types import Turn

BATCH = 40


def batch(writer: int, number: int) -> dict[str, list[int]]:
    return {content_key(writer, number, each): [writer, number] for each in range(BATCH)}


def put_batches(path: Path, writer: int, count: int) -> None:
    cache = Cache(path)
    for number in range(count):
        cache.put(batch(writer, number))
        cache.put({"shared": writer})


def put_and_die(path: Path, count: int) -> None:
    put_batches(path, 0, count)
    os.kill(os.getpid(), signal.SIGKILL)


def put_until_killed(path: Path, log: Path) -> None:
    """Batch after batch; the log has a byte for each that was put."""
    cache, said = Cache(path), os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
    for number in range(10**9):
        cache.put(batch(0, number))
        os.write(said, b".")


def test_values_come_back(tmp_path: Path) -> None:
    values = {"a": {"p": 0.1, "text": "Grüße \N{SNOWMAN}"}, "b": [1, None, True], "c": 0.1 + 0.2, "d": "\ud83d"}
    Cache(tmp_path / "deep" / "er" / "cache.sqlite").put(values)
    cache = Cache(tmp_path / "deep" / "er" / "cache.sqlite")
    assert cache.get(["a", "b", "c", "d", "e", "a"]) == values
    cache.put({"a": 2})
    assert cache.get(["a", "b"]) == {"a": 2, "b": [1, None, True]}
    assert cache.get([]) == {}


def test_more_keys_than_a_statement_may_hold(tmp_path: Path) -> None:
    cache, values = Cache(tmp_path / "cache.sqlite"), {f"k{number}": number for number in range(2003)}
    cache.put(values)
    assert cache.get(values) == values


def test_all_of_a_put_or_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache.sqlite")
    with pytest.raises(TypeError):
        cache.put({"a": 1, "b": object()})
    assert cache.get(["a", "b"]) == {}


def test_keys_differ_wherever_their_parts_do() -> None:
    parts: list[tuple[object, ...]] = [
        *(("ab", "c"), ("a", "bc"), ("abc",), (["ab", "c"],), (), ("",), ("", ""), (None,), (0,), (0.0,), ("0",)),
        *((False,), ({"a": 1},), ({"a": "1"},), (["a", 1],), ("\ud83d",), ("\\ud83d",), ("\ud83e",)),
        *((Turn("user", "a"),), (Turn("assistant", "a"),), ("Turn('user', 'a')",)),
    ]
    keys = [content_key(*each) for each in parts]
    assert len(set(keys)) == len(parts)
    assert keys == [content_key(*each) for each in parts]
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})


def test_two_processes_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    with ThreadPoolExecutor(2) as threads:
        codes = list(threads.map(lambda writer: in_process(put_batches, path, writer, 60), (1, 2)))
    assert codes == [0, 0]
    expected = {key: value for writer in (1, 2) for number in range(60) for key, value in batch(writer, number).items()}
    assert Cache(path).get(expected) == expected
    assert Cache(path).get(["shared"])["shared"] in (1, 2)


def test_threads_share_a_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache.sqlite")

    def work(writer: int) -> bool:
        for number in range(20):
            cache.put(batch(writer, number))
        return all(cache.get(batch(writer, number)) == batch(writer, number) for number in range(20))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(4)))


def test_what_was_put_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    assert in_process(put_and_die, path, 7) == -signal.SIGKILL
    expected = {key: value for number in range(7) for key, value in batch(0, number).items()}
    cache = Cache(path)
    assert cache.get(expected) == expected
    cache.put({"later": 1})
    assert cache.get(["later"]) == {"later": 1}


def test_a_kill_between_leaves_whole_batches(tmp_path: Path) -> None:
    path, log = tmp_path / "cache.sqlite", tmp_path / "log"
    assert in_process(put_until_killed, path, log) == -signal.SIGKILL
    said, cache = log.stat().st_size, Cache(path)
    found = [len(cache.get(batch(0, number))) for number in range(said + 2)]
    assert said > 0
    assert found[:said] == [BATCH] * said
    assert found[said] in (0, BATCH)
    assert found[said + 1] == 0


@pytest.mark.parametrize("content", [b"not a database, though long enough to be one" * 40, None])
def test_a_file_that_is_no_cache(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "cache.sqlite"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UptakeError, match=r"cache\.sqlite: not a cache of answers, or not writable"):
        Cache(path)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UptakeError, match="cannot be written"):
        Cache(tmp_path / "file" / "cache.sqlite")


def test_an_answer_that_cannot_be_kept_says_so(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache.sqlite")
    with sqlite3.connect(tmp_path / "cache.sqlite") as other:
        other.execute("DROP TABLE answers")
    other.close()
    with pytest.raises(UptakeError, match="an answer could not be kept"):
        cache.put({"a": 1})


def test_values_are_json(tmp_path: Path) -> None:
    """Other programs can read the file."""
    Cache(tmp_path / "cache.sqlite").put({"a": {"p": 0.5}})
    base = sqlite3.connect(tmp_path / "cache.sqlite")
    assert [(key, json.loads(value)) for key, value in base.execute("SELECT * FROM answers")] == [("a", {"p": 0.5})]
    base.close()


def test_values_that_cannot_be_read_count_as_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "cache.sqlite"
    Cache(path).put({"good": [1.5], "other shape": {"p": 1}, "no json": 1})
    with sqlite3.connect(path) as base:
        base.execute("UPDATE answers SET value = '{\"p\"' WHERE key = 'no json'")
    base.close()
    with caplog.at_level(logging.WARNING):
        found = Cache(path).get(["good", "other shape", "no json", "absent"], TypeAdapter(list[float]))
    assert found == {"good": [1.5]}
    assert caplog.messages == [f"{path}: 2 answers cannot be read and are asked for again"]


def test_a_damaged_page_is_one_clear_error(tmp_path: Path) -> None:
    path, values = tmp_path / "cache.sqlite", {content_key(number): "x" * 200 for number in range(500)}
    cache = Cache(path)
    cache.put(values)
    cache._base.close()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * len(content[8192:])
    path.write_bytes(content)
    with pytest.raises(UptakeError, match=r"cache\.sqlite: (answers cannot be read|not a cache)"):
        Cache(path).get(values)
