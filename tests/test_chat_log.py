"""Logs of which numbers are held: the responses are those of merging all exchanges in memory."""

import json
import random
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from tiny import write_jsonl

from uptake.data import RowStream, read
from uptake.data.chat_log import Log, means, read_log
from uptake.data.exchanges import exchanges, merged
from uptake.data.text_file import TextFile
from uptake.errors import InputError

CALL = {"type": "function", "function": {"name": "hours", "arguments": {}}}


def log_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Conversations of few words, so that prompts, responses and reactions come up again; some call tools."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        messages: list[dict[str, Any]] = []
        for number in range(rng.choice([2, 3, 5])):
            words = [("when ?", "where ?"), ("at eight .", "it .", "no .")][number % 2]
            messages.append({"role": ("user", "assistant")[number % 2], "content": rng.choice(words)})
            if number % 2 and rng.random() < 0.3:
                messages[-1] |= {"content": "", "tool_calls": [{**CALL, "id": rng.choice("ab")}]}
        rows.append(
            {"messages": messages, "stars": rng.choice([None, 1, 2, [rng.choice([None, 0.1, 5])] * len(messages)])}
        )
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_the_responses_of_a_log_are_its_merged_exchanges(seed: int, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "log.jsonl", log_rows(60, seed))
    found, lost = exchanges(read(path), "stars")
    expected = merged(found)
    log = read_log(path, ratings="stars")
    assert list(log.exchanges()) == found
    assert list(log.responses()) == expected
    assert (log.rows, len(log), log.dropped) == (60, len(expected), lost)
    assert len(expected) < len(found)
    words = [log.words[index] for index in range(len(log.words))]
    assert [words[log.starts[n] : log.starts[n + 1]] for n in range(len(log))] == [
        list(each.follow_ups) for each in expected
    ]
    assert log.lengths.tolist() == [len(each.response) for each in expected]
    assert log.conversations.tolist() == [each.conversation for each in expected]
    assert [None if np.isnan(each) else each for each in log.ratings] == [each.rating for each in expected]
    keys = [each.prompt.key for each in expected]
    assert log.prompts.tolist() == [list(dict.fromkeys(keys)).index(key) for key in keys]
    assert list(log.follow_ups) == [each.follow_up for each in found]
    wanted = np.arange(len(log)) % 3 == 1
    assert list(log.responses(wanted)) == [each for each, yes in zip(expected, wanted, strict=True) if yes]
    assert not list(log.responses(np.zeros(len(log), dtype=np.bool_)))


def test_without_ratings_nothing_is_rated(tmp_path: Path) -> None:
    log = read_log(write_jsonl(tmp_path / "log.jsonl", log_rows(20)))
    assert not log.rated
    assert np.isnan(log.ratings).all()
    assert {each.rating for each in log.responses()} == {None}


def test_rows_that_cannot_be_read_are_counted_once(tmp_path: Path) -> None:
    rows = [*log_rows(20), {"messages": [{"role": "bot", "content": "x"}]}]
    path = write_jsonl(tmp_path / "log.jsonl", rows)
    log = read_log(path, drop_bad=True)
    assert (log.rows, log.dropped["rows that cannot be read"]) == (20, 1)
    assert len(list(log.responses())) == len(log)
    with pytest.raises(InputError, match=r"log\.jsonl:21, field 'messages\[0\]\.role'"):
        read_log(path)


def test_a_log_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "log.jsonl", log_rows(20))
    log = read_log(path)
    write_jsonl(path, log_rows(20, seed=1))
    with pytest.raises(InputError, match="the rows are others than when they were first read"):
        list(log.responses())


def test_what_is_redacted_is_so_in_every_reading_and_counted_once(tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer")
    from uptake.data.redact import Redact  # noqa: PLC0415

    asked = {"role": "user", "content": "Write to ann@example.com"}
    rows = [{"messages": [asked, {"role": "assistant", "content": "Yes."}, asked]}]
    log = Log(RowStream(write_jsonl(tmp_path / "log.jsonl", rows)), "log.jsonl", redact=Redact.ready())
    for _ in range(2):
        (response,) = log.responses()
        assert [turn.content for turn in response.prompt.turns] == ["Write to <EMAIL_ADDRESS>"]
        assert response.follow_ups == ("Write to <EMAIL_ADDRESS>",)
    assert log.redacted == {"EMAIL_ADDRESS": 2}


def test_means_of_stretches_are_rounded_once() -> None:
    """Added up one by one, ten tenths are less than one."""
    values = np.array([0.1] * 10 + [7.0, 2.0, 5.0])
    found = means(values, np.array([0, 10, 10, 11, 13]))
    assert found[[0, 2, 3]].tolist() == [fmean([0.1] * 10), 7.0, 3.5]
    assert sum([0.1] * 10) / 10 != found[0]
    assert np.isnan(found[1])


def test_texts_in_a_file_are_read_by_number() -> None:
    given = ["Thanks!", "", "Grüße, 東京", json.loads('"half \\ud83d"'), "a\nb\r\n"]
    texts = TextFile()
    for number, text in enumerate(given):
        texts.append(text)
        assert texts[number] == text
        assert texts[0] == given[0]
    assert (list(texts), len(texts)) == (given, 5)
    some = texts.at(np.array([3, 0, 0]))
    assert ([some[index] for index in range(len(some))], len(some)) == ([given[3], given[0], given[0]], 3)
