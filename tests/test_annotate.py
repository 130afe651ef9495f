"""A person as annotator: the real page's requests against the real server, and what stands in the file at the end."""

import json
import logging
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest
from tiny import command_line, read_jsonl, started, write_jsonl, written

from uptake.annotators.person import PersonAnnotator, ShownPair
from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.types import Prompt, Turn, Verdict


def prompt(text: str) -> Prompt:
    turns = (Turn("user", text),)
    return Prompt(turns, prompt_key(turns))


Answers = TypeVar("Answers")

PROMPTS = [prompt(f"question {index}?") for index in range(4)]
PAIRS = [(f"good {index}", f"bad {index}") for index in range(4)]


class Page:
    """What the page's script asks of the server."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, path: str, told: Any = None, **headers: str) -> dict[str, Any]:
        data = None if told is None else json.dumps(told).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def refused(self, path: str, told: Any = None, **headers: str) -> int:
        with pytest.raises(HTTPError) as error:
            self.ask(path, told, **headers)
        error.value.close()
        return error.value.code

    def open(self) -> dict[str, Any]:
        return self.ask("open")

    def prefer(self, word: str) -> dict[str, Any]:
        """Give the verdict to whichever of the open answers has the word in it."""
        pair = self.open()
        said = "1" if word in pair["answers"][0] else "2"
        return self.ask("say", {"key": pair["key"], "answer": said})


@contextmanager
def serving(work: Callable[[], Answers], caplog: pytest.LogCaptureFixture) -> Iterator[tuple[str, "Future[Answers]"]]:
    """The address of a page, and what the work that waits for it will return; a test that fails waits no longer."""
    caplog.clear()
    future: Future[Answers] = Future()
    with caplog.at_level(logging.WARNING):
        Thread(target=lambda: future.set_result(work()), daemon=True).start()
        while not caplog.messages:
            time.sleep(0.01)
        yield next(word for word in caplog.messages[0].split() if word.startswith("http")), future


@contextmanager
def sitting(
    person: PersonAnnotator, caplog: pytest.LogCaptureFixture, pairs: list[tuple[str, str]] = PAIRS
) -> Iterator[tuple[Page, "Future[list[Verdict]]"]]:
    """A person's page, and the verdicts that the annotator will return."""
    with serving(lambda: list(person.compare(PROMPTS[: len(pairs)], pairs)), caplog) as (address, future):
        yield Page(address), future


def test_verdicts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sitting(PersonAnnotator(str(tmp_path / "a.sqlite")), caplog) as (page, verdicts):
        assert page.prefer("good")["done"] == 1
        page.prefer("bad")
        page.ask("say", {"key": page.open()["key"], "answer": "tie"})
        last = page.ask("say", {"key": page.open()["key"], "answer": "skip"})
        assert last == {"done": 4, "all": 4}
        found = verdicts.result(10)
    assert [verdict.p for verdict in found] == [1.0, 0.0, 0.5, 0.5]
    assert [verdict.valid for verdict in found] == [True, True, True, False]
    assert found[3].reason == "skipped"


def test_undo(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sitting(PersonAnnotator(str(tmp_path / "a.sqlite")), caplog) as (page, verdicts):
        page.prefer("bad")
        page.prefer("bad")
        assert page.ask("undo", {})["done"] == 1
        assert page.ask("undo", {})["done"] == 0
        assert page.ask("undo", {})["done"] == 0
        for _ in PAIRS:
            page.prefer("good")
        assert [verdict.p for verdict in verdicts.result(10)] == [1.0] * 4


def test_two_tabs_do_not_overwrite_each_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sitting(PersonAnnotator(str(tmp_path / "a.sqlite")), caplog) as (page, verdicts):
        seen = page.open()
        page.prefer("good")
        assert page.refused("say", {"key": seen["key"], "answer": "tie"}) == 409
        for _ in range(3):
            page.prefer("good")
        assert [verdict.p for verdict in verdicts.result(10)] == [1.0] * 4


def test_what_is_answered_is_not_asked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor where the two responses come in the other order."""
    person = PersonAnnotator(str(tmp_path / "a.sqlite"))
    with sitting(person, caplog) as (page, verdicts):
        for _ in PAIRS:
            page.prefer("good")
        verdicts.result(10)
    assert [verdict.p for verdict in person.compare(PROMPTS, PAIRS)] == [1.0] * 4
    assert [verdict.p for verdict in person.compare(PROMPTS, [pair[::-1] for pair in PAIRS])] == [0.0] * 4


def test_either_response_may_stand_first() -> None:
    swapped = [
        ShownPair.of(PROMPTS[0].turns, (f"good {index}", f"bad {index}"), seed=0).swapped for index in range(200)
    ]
    # Five standard deviations of 200 fair coins.
    assert 65 < sum(swapped) < 135
    other = [ShownPair.of(PROMPTS[0].turns, (f"good {index}", f"bad {index}"), seed=1).swapped for index in range(200)]
    assert swapped != other


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 403), ({"Origin": "null"}, 403)],
)
def test_other_sites_are_refused(
    headers: dict[str, str], status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sitting(PersonAnnotator(str(tmp_path / "a.sqlite")), caplog, PAIRS[:1]) as (page, verdicts):
        key = page.open()["key"]
        assert page.refused("say", {"key": key, "answer": "1"}, **headers) == status
        assert page.refused("open", **headers) == status
        assert page.refused("say", {"key": key, "answer": "both"}) == 400
        assert page.refused("say", [1]) == 400
        assert page.refused("etc/passwd") == 404
        assert page.open()["done"] == 0
        page.prefer("good")
        assert verdicts.result(10)[0].p == 1.0


def test_text_is_never_markup(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Data comes as JSON, the page puts it in as text, and a policy forbids what is not in the page itself."""
    evil = [("<script>alert(1)</script>", "<img src=x onerror=alert(1)>")]
    with sitting(PersonAnnotator(str(tmp_path / "a.sqlite")), caplog, evil) as (page, verdicts):
        with urllib.request.urlopen(page.address) as answer:
            text, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
        assert "innerHTML" not in text
        assert "default-src 'none'" in policy
        assert sorted(page.open()["answers"]) == sorted(evil[0])
        page.prefer("script")
        verdicts.result(10)


def test_a_port_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sitting(PersonAnnotator(str(tmp_path / "a.sqlite")), caplog, PAIRS[:1]) as (page, verdicts):
        port = urlsplit(page.address).port
        assert port
        with pytest.raises(InputError, match=rf"port {port} cannot be had"):
            PersonAnnotator(str(tmp_path / "b.sqlite"), port).compare(PROMPTS[:1], PAIRS[:1])
        page.prefer("good")
        verdicts.result(10)


def command(folder: Path) -> tuple[BaseProcess, Page]:
    """`uptake annotate` in a process of its own, and the page it serves."""
    said = folder / "error.txt"
    said.unlink(missing_ok=True)
    arguments = ["annotate", str(folder / "pairs.jsonl"), "--out", str(folder / "out.jsonl")]
    process = started(written, folder, command_line, arguments)
    while not said.exists() or "\n" not in said.read_text():
        assert process.is_alive()
        time.sleep(0.01)
    return process, Page(next(word for word in said.read_text().split() if word.startswith("http")))


def test_killed_in_the_middle(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {index}", "chosen": f"good {index}", "rejected": f"bad {index}"} for index in range(3)]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    process, page = command(tmp_path)
    page.prefer("bad")
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process, page = command(tmp_path)
    assert page.open()["done"] == 1
    page.prefer("good")
    page.ask("say", {"key": page.open()["key"], "answer": "skip"})
    process.join(30)
    assert process.exitcode == 0, (tmp_path / "error.txt").read_text()
    out = (tmp_path / "out.txt").read_text()
    assert "the second response is preferred in 1" in out
    assert "skipped: 1" in out
    one, two, skipped = read_jsonl(tmp_path / "out.jsonl")
    assert one["chosen"][0]["content"] == "bad 0"
    assert one["swapped"]
    assert one["p"] == 1.0
    assert two["chosen"][0]["content"] == "good 1"
    assert (skipped["valid"], skipped["reason"]) == (False, "skipped")
