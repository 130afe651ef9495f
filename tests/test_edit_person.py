"""A person as editor: the page's requests against the real server, and what stands in the file at the end."""

import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from test_annotate import Page, prompt, serving
from tiny import command_line, read_jsonl, started, write_jsonl, written

from uptake.edits.edit import Checked, Draft, Proposal
from uptake.edits.person import PersonEditor, marks
from uptake.edits.rules import Rules
from uptake.errors import InputError

DRAFTS = [Draft(prompt(f"q {place}?"), f"The cat number {place} sat.", better="The dog.") for place in range(3)]


@contextmanager
def sitting(
    editor: PersonEditor, caplog: pytest.LogCaptureFixture, drafts: list[Draft] = DRAFTS
) -> Iterator[tuple[Page, "Future[list[Proposal]]"]]:
    """A person's page, and the proposals that the editor will return."""
    with serving(lambda: list(editor(drafts)), caplog) as (address, future):
        yield Page(address), future


def save(page: Page, text: str) -> dict[str, Any]:
    return page.ask("say", {"key": page.open()["key"], "answer": {"text": text}})


def skip(page: Page) -> dict[str, Any]:
    return page.ask("say", {"key": page.open()["key"], "answer": "skip"})


def test_edits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    editor = PersonEditor(str(tmp_path / "a.sqlite"))
    with sitting(editor, caplog) as (page, proposals):
        seen = page.open()
        assert (seen["response"], seen["better"], seen["finished"]) == ("The cat number 0 sat.", "The dog.", True)
        assert seen["turns"] == [{"role": "user", "content": "q 0?"}]
        assert save(page, "The dog number 0 sat.")["done"] == 1
        skip(page)
        assert save(page, "The cat number 2 sat.") == {"done": 3, "all": 3}
        found = proposals.result(10)
    assert [one.text for one in found] == ["The dog number 0 sat.", "", "The cat number 2 sat."]
    assert [one.reason for one in found] == ["", "skipped", ""]
    assert list(editor(DRAFTS)) == found  # what is answered is not asked again


def test_the_rules_as_one_types(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sitting(PersonEditor(str(tmp_path / "a.sqlite"), rules=Rules(0.4)), caplog, DRAFTS[:1]) as (page, proposals):
        key = page.open()["key"]

        def check(text: str) -> dict[str, Any]:
            return page.ask("check", {"key": key, "answer": {"text": text}})

        assert check("The cat number 0 sat.")["reason"] == "no_edit"
        seen = check("The dog number 0 sat down.")
        assert seen["marks"] == [
            *(["=", "The"], ["-", " cat"], ["+", " dog"]),
            *(["=", " number 0 sat"], ["+", " down"], ["=", "."]),
        ]
        assert (seen["reason"], seen["refused"]) == ("", False)
        assert seen["ratio"] == pytest.approx(2 / 8)
        assert seen["length"] == pytest.approx(8 / 7)
        assert seen["limits"] == [0.4, 0.5, 2.0]
        assert [check(text)["reason"] for text in ("", "A dog with number 0 sat down.", "No.")] == [
            "empty",
            "ratio",
            "length",
        ]
        assert page.refused("say", {"key": key, "answer": {"text": " "}}) == 400
        assert page.refused("say", {"key": key, "answer": {"text": "No."}}) == 400
        assert page.refused("check", {"key": key, "answer": "text"}) == 400
        assert page.refused("check", {"key": "another", "answer": {"text": "a"}}) == 400
        save(page, "The dog number 0 sat.")
        assert proposals.result(10) == [Proposal("The dog number 0 sat.")]


def test_undo_and_two_tabs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with sitting(PersonEditor(str(tmp_path / "a.sqlite")), caplog, DRAFTS[:2]) as (page, proposals):
        key = page.open()["key"]
        save(page, "The dog number 0 sat.")
        assert page.refused("say", {"key": key, "answer": {"text": "The cow number 0 sat."}}) == 409
        assert page.ask("undo", {})["done"] == 0
        save(page, "The hen number 0 sat.")
        skip(page)
        assert proposals.result(10)[0].text == "The hen number 0 sat."


def test_other_sites_are_refused_and_text_is_never_markup(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    evil = [Draft(prompt("q"), "<script>alert(1)</script> cat")]
    with sitting(PersonEditor(str(tmp_path / "a.sqlite")), caplog, evil) as (page, proposals):
        told = {"key": page.open()["key"], "answer": {"text": "dog"}}
        assert page.refused("check", told, Origin="http://evil.example") == 403
        assert page.refused("say", told, Host="evil.example") == 403
        with urllib.request.urlopen(page.address) as answer:
            text, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
        assert "what you changed" in text
        assert "innerHTML" not in text
        assert "default-src 'none'" in policy
        assert page.open()["response"] == evil[0].response
        skip(page)
        proposals.result(10)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("a b", "a b", [("=", "a b")]),
        ("a b", "a", [("=", "a"), ("-", " b")]),
        ("cat 👨\u200d👩\u200d👧", "cat 👍🏽", [("=", "cat"), ("-", " 👨\u200d👩\u200d👧"), ("+", " 👍🏽")]),
        ("我喜欢猫。", "我喜欢狗。", [("=", "我喜欢"), ("-", "猫"), ("+", "狗"), ("=", "。")]),
        ("שלום עולם", "שלום לך עולם", [("=", "שלום"), ("+", " לך"), ("=", " עולם")]),
        ("", "a", [("+", "a")]),
    ],
)
def test_marks(old: str, new: str, expected: list[tuple[str, str]]) -> None:
    assert list(marks(old, Checked(new))) == expected


def test_a_port_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"field 'port': 70000 \(allowed: 0 to 65535"):
        PersonEditor(port=70_000)


def command(folder: Path) -> tuple[BaseProcess, Page]:
    """`uptake edit` in a process of its own, and the page it serves."""
    said = folder / "error.txt"
    said.unlink(missing_ok=True)
    arguments = ["edit", str(folder / "pairs.jsonl"), "--editor", "person", "--out", str(folder / "out.jsonl")]
    process = started(written, folder, command_line, arguments)
    while not said.exists() or "person on this machine" not in said.read_text():
        assert process.is_alive()
        time.sleep(0.01)
    return process, Page(next(word for word in said.read_text().split() if word.startswith("http")))


def test_killed_in_the_middle(tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "pairs.jsonl",
        [{"prompt": f"q {place}", "chosen": "Well.", "rejected": f"The cat number {place} sat."} for place in range(3)],
    )
    process, page = command(tmp_path)
    save(page, "The dog number 0 sat.")
    process.kill()
    process.join()
    process, page = command(tmp_path)
    assert page.open()["done"] == 1
    save(page, "The cat number 1 sat.")
    skip(page)
    process.join(30)
    assert process.exitcode == 0
    edited, same = read_jsonl(tmp_path / "out.jsonl")
    assert (edited["edited"], edited["annotator"], edited["status"]) == ("The dog number 0 sat.", "person", "accepted")
    assert (same["edited"], same["weight"], same["status"]) == ("The cat number 1 sat.", 0.1, "no_edit")
    (skipped,) = read_jsonl(tmp_path / "out.rejects.jsonl")
    assert skipped["reason"] == "skipped"
