"""`uptake edit`: what is written for every kind of editor and judge, why the rest is not, and that nothing is lost."""

import gzip
import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import command_line, in_process, prompt_records, read_jsonl, saved, sentence, tiny_llama, write_jsonl
from tiny_cli import Cli
from tiny_creatures import creature
from tiny_server import Answer, JudgeServer, failure, said

from uptake.annotators.base import Annotator
from uptake.annotators.oracle import OracleAnnotator
from uptake.data import ChatFormat, read
from uptake.data.read import RowSet
from uptake.data.spans import tokenize
from uptake.edits.edit import Draft, Outcome, Proposal
from uptake.edits.model import ModelEditor
from uptake.edits.prompt import AGAIN, EditPrompt, presets, proposal
from uptake.edits.rules import Rules
from uptake.edits.server import ServerEditor
from uptake.errors import InputError
from uptake.evaluate.edits import edit_stats
from uptake.support.keys import prompt_key
from uptake.tasks.edit import EditSummary, edit_file, read_drafts
from uptake.town import Town
from uptake.types import Dropped, Edited, Preference, Prompt, Turn, Verdict

BRIEF = "Correct: {response}\nAsked: {prompt}\n<edited></edited>"


def prompt(text: str) -> Prompt:
    turns = (Turn("user", text),)
    return Prompt(turns, prompt_key(turns))


@dataclass
class Says:
    """An editor that says of every response what it was told to say, and counts the questions."""

    texts: Callable[[Draft], str]
    name: str = "says@1"
    fingerprint: str = "says"
    asked: list[str] = field(default_factory=list)

    def __call__(self, drafts: Sequence[Draft]) -> Sequence[Proposal]:
        self.asked += [draft.response for draft in drafts]
        return [Proposal(self.texts(draft), tokens=10, cost=0.5) for draft in drafts]


@dataclass
class Prefers(Annotator):
    """An annotator with one opinion of every edit: how likely it is better when shown first, and when shown second."""

    by_order: tuple[float, float]
    valid: bool = True
    fingerprint: str = "prefers"

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        p = sum(self.by_order) / 2
        return [Verdict(p, self.by_order, reason=None if self.valid else Dropped.NO_ANSWER) for _ in pairs]


def drafts(source: Path, **options: Any) -> RowSet[Draft]:
    return read_drafts(source, "out.jsonl", **options)


def edit(folder: Path, response: str, edited: str, **options: Any) -> tuple[EditSummary, dict[str, Any]]:
    """What becomes of one response and its edit: the summary and the one row, written or rejected."""
    write_jsonl(folder / "in.jsonl", [{"prompt": "q?", "chosen": "Good.", "rejected": response, "finished": True}])
    # A second row that is always taken, so that there is something to write.
    with (folder / "in.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "other?", "completion": "The sun is cold today."}) + "\n")
    texts = {response: edited, "The sun is cold today.": "The sun is warm today."}
    summary = edit_file(
        drafts(folder / "in.jsonl"), Says(lambda draft: texts[draft.response]), folder / "out.jsonl", **options
    )
    rejects = folder / "out.rejects.jsonl"
    found = [*read_jsonl(folder / "out.jsonl"), *(read_jsonl(rejects) if rejects.exists() else [])]
    (row,) = [row for row in found if row["prompt"][0]["content"] == "q?"]
    return summary, row


def test_an_edit(tmp_path: Path) -> None:
    summary, row = edit(tmp_path, "The cat sat.", "The dog sat down.", annotator=Prefers((0.9, 0.6)))
    assert row == {
        "prompt": [{"role": "user", "content": "q?"}],
        "completion": [{"role": "assistant", "content": "The cat sat."}],
        "edited": "The dog sat down.",
        "group": row["group"],
        "status": "accepted",
        "annotator": "says@1",
        "edit_ratio": pytest.approx(1 / 3),
        "edit_p_by_order": [0.9, 0.6],
    }
    assert (summary.written, summary.stats.statuses) == (2, {"accepted": 2})
    first, second = read(tmp_path / "out.jsonl")
    assert isinstance(first, Edited)
    assert isinstance(second, Edited)
    assert (first.response, first.edited, first.spans, first.demoted) == (
        "The cat sat.",
        "The dog sat down.",
        None,
        False,
    )
    assert first.group != second.group
    assert not list(tmp_path.glob("*journal*"))


def test_an_unchanged_response_counts_little_and_has_no_fault(tmp_path: Path) -> None:
    """Also where only quotes, blanks and the end of the text are others."""
    for edited in ("The “cat” sat\u00a0there.\r\n", 'The "cat" sat there.', 'The "cat" sat there.\n'):
        summary, row = edit(
            tmp_path, "The “cat” sat\u00a0there.\r\n", edited, overwrite=True, annotator=Prefers((0, 0))
        )
        assert (row["status"], row["weight"], row["spans"], row["edited_spans"]) == ("no_edit", 0.1, [], [])
        found = read(tmp_path / "out.jsonl") if row["status"] == "no_edit" else []
        assert isinstance(found[0], Edited)
        assert (found[0].edited, found[0].spans, found[0].edited_spans) == (found[0].response, (), ())
        assert summary.stats.reasons == {"no_edit": 1, "not_better": 1}


@pytest.mark.parametrize(
    ("edited", "options", "status", "reason"),
    [
        ("", {}, "rejected", "empty"),
        ("\u200b \n", {}, "rejected", "empty"),
        ("The cat.", {}, "accepted", None),
        ("Yes", {}, "rejected", "length"),
        ("A dog stood.", {}, "demoted", "ratio"),
        ("A dog sat.", {"rules": Rules(max_edit_ratio=0.4)}, "accepted", None),
        ("A dog sat.", {"rules": Rules(max_edit_ratio=0.39)}, "demoted", "ratio"),
        ("The dog sat.", {"annotator": Prefers((0.9, 0.5))}, "rejected", "not_better"),
        ("The dog sat.", {"annotator": Prefers((0.4, 0.9))}, "rejected", "not_better"),
        ("The dog sat.", {"annotator": Prefers((0.5, 0.5), valid=False)}, "rejected", "not_judged"),
        ("A dog stood.", {"annotator": Prefers((0.9, 0.4))}, "rejected", "not_better"),
        ("A dog stood.", {"annotator": Prefers((0.9, 0.6))}, "demoted", "ratio"),
    ],
)
def test_reasons(edited: str, options: dict[str, Any], status: str, reason: str | None, tmp_path: Path) -> None:
    """A ratio at its limit, a judge against it in one order, and what is kept of an edit that is not taken."""
    options.setdefault("annotator", Prefers((0.9, 0.9)))
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "q?", "completion": "The cat sat."}])
    ask = partial(
        edit_file, drafts(tmp_path / "in.jsonl"), Says(lambda draft: edited), tmp_path / "out.jsonl", **options
    )
    if status == "rejected":
        with pytest.raises(InputError, match=f"no edit can be written: {reason} 1"):
            ask()
    else:
        ask()
    name = "out.rejects.jsonl" if status == "rejected" else "out.jsonl"
    (row,) = read_jsonl(tmp_path / name)
    assert (row["status"], row.get("reason")) == (status, reason)
    assert row.get("demoted", False) == (status == "demoted")
    if status == "rejected":
        assert "edited" not in row
        assert row["proposal"] == edited


def test_moved_passages_are_demoted(tmp_path: Path) -> None:
    one, other = "First we wash all of the green vegetables.", "Then someone has to boil a big pot of water."
    _, row = edit(tmp_path, f"{one} {other}", f"{other} {one}", rules=Rules(max_edit_ratio=1.0))
    assert (row["status"], row["reason"], row["demoted"]) == ("demoted", "moved", True)


def test_a_response_that_was_cut_off(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "q?", "completion": "The cat sat on", "finished": False, "id": 7}])
    edit_file(drafts(tmp_path / "in.jsonl"), Says(lambda draft: "The dog sat on"), tmp_path / "out.jsonl")
    (row,) = read_jsonl(tmp_path / "out.jsonl")
    assert (row["finished"], row["edit_ratio"], row["id"]) == (False, 0.25, 7)
    (found,) = read(tmp_path / "out.jsonl")
    assert isinstance(found, Edited)
    assert not found.finished


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.csv", "out.parquet"])
def test_every_format_comes_back(name: str, tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "in.jsonl", [{"prompt": f"{n}?", "completion": f"The cat number {n} sat."} for n in range(3)]
    )
    texts = ["The dog number 0 sat.", "The cat number 1 sat.", ""]
    edits = Says(lambda draft: texts[int(draft.prompt.turns[0].content[0])])
    edit_file(drafts(tmp_path / "in.jsonl"), edits, tmp_path / name)
    first, second = read(tmp_path / name)
    assert isinstance(first, Edited)
    assert isinstance(second, Edited)
    assert (first.edited, first.spans, first.weight) == ("The dog number 0 sat.", None, 1.0)
    assert (second.edited, second.spans, second.weight) == ("The cat number 1 sat.", (), 0.1)
    assert read_jsonl(tmp_path / "out.rejects.jsonl")[0]["reason"] == "empty"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "q?"}, "in.jsonl:2: this row has no response to edit (allowed: chosen and rejected"),
        ({"prompt": "q?", "completion": "a b", "edited": "a c"}, "in.jsonl:2: this row has no response to edit"),
        ({"prompt": "q?", "completion": "a", "finished": "yes"}, "in.jsonl:2, field 'finished': found 'yes'"),
    ],
)
def test_a_bad_row(record: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "q?", "completion": "The cat sat."}, record])
    with pytest.raises(InputError) as caught:
        drafts(tmp_path / "in.jsonl")
    assert message in str(caught.value)
    summary = edit_file(
        drafts(tmp_path / "in.jsonl", drop_bad=True), Says(lambda draft: "The dog sat."), tmp_path / "out.jsonl"
    )
    assert (summary.written, summary.dropped) == (1, 1)


def test_equal_questions_are_asked_once(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "q?", "completion": "The cat sat."}] * 3)
    editor = Says(lambda draft: "The dog sat.")
    edit_file(drafts(tmp_path / "in.jsonl"), editor, tmp_path / "out.jsonl", annotator=Prefers((0.9, 0.9)))
    assert editor.asked == ["The cat sat."]
    rows = read_jsonl(tmp_path / "out.jsonl")
    assert rows == [rows[0]] * 3


def test_figures() -> None:
    """By hand: an accepted edit of `abcd`, one that a judge refused, one that is too far, one without tags."""
    rules = Rules()

    def outcome(edited: str, by_order: tuple[float, float] | None = None) -> Outcome:
        draft = Draft(prompt("q?"), "a b c d")
        verdict = by_order and Verdict(sum(by_order) / 2, by_order, tokens=5, cost=0.25)
        return Outcome(draft, Proposal(edited, tokens=10, cost=1.0), rules(draft, edited), verdict or None)

    stats = edit_stats(
        [
            outcome("a x d", (0.9, 0.7)),  # U S D U U, of 5
            outcome("a b c d e", (0.9, 0.2)),  # U U U U A U, of 6
            outcome("w x y z"),  # S S S S U
            Outcome(Draft(prompt("q?"), "a"), Proposal(reason="parse", answer="a", tokens=10, cost=1.0)),
        ]
    )
    assert (stats.accepted.rate, stats.accepted.n) == (0.25, 4)
    assert stats.statuses == {"accepted": 1, "rejected": 2, "demoted": 1}
    assert stats.reasons == {"not_better": 1, "ratio": 1, "parse": 1}
    assert stats.ratios == (0, 1, 0, 0, 1, 0, 0, 0, 1, 0)
    assert stats.operations == {"S": 0.5, "D": 0.5, "A": 0.0}
    assert stats.length == 4 / 5
    assert stats.ambiguous is not None
    assert stats.ambiguous.rate == 1.0  # "b c" to "x" may drop either
    assert stats.judge is not None
    assert stats.judge.agreement is not None
    assert stats.judge.agreement.rate == 0.5
    assert (stats.tokens, stats.cost) == (50, 4.5)


# What an editing model says.


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("<edited>At eight.</edited>", "At eight."),
        ("Well.\n<edited>\nAt\n\neight.\n</edited>\nDone.", "At\n\neight."),
        ("<edited></edited>", ""),
        ("<edited> \n</edited>", " "),
        ("At eight.", None),
        ("", None),
        ("<edited>At eight.", None),
        ("At eight.</edited>", None),
        ("</edited>At eight.<edited>", None),
        ("<edited>a</edited><edited>b</edited>", None),
        ("<edited>a<edited>b</edited>", None),
        ("<edited>a</edited>b</edited>", None),
        ("<Edited>a</Edited>", None),
    ],
)
def test_an_answer_is_read_strictly(answer: str, text: str | None) -> None:
    """What has not exactly one pair of tags is never compared with the response."""
    found = proposal(answer, 7, 0.5)
    assert (found.text, found.reason, found.answer) == ((text, "", "") if text is not None else ("", "parse", answer))
    assert (found.tokens, found.cost) == (7, 0.5)


def test_briefs(tmp_path: Path) -> None:
    assert presets() == ["minimal", "with-better"]
    for name in presets():
        text = EditPrompt.load(name)(Draft(prompt("When {response}?"), "At {prompt} <b>.", better="At nine {x}."))
        assert "Conversation:\nWhen {response}?\n" in text
        assert text.endswith("Response to correct:\nAt {prompt} <b>.")
        assert ("At nine {x}." in text) == (name == "with-better")
    Path(tmp_path / "own.txt").write_text(BRIEF)
    assert EditPrompt.load(tmp_path / "own.txt")(Draft(prompt("q"), "r")) == "Correct: r\nAsked: q\n<edited></edited>"
    with pytest.raises(InputError, match=r"the prompt shows the better response, and there is none"):
        EditPrompt.load("with-better")(Draft(prompt("q"), "r"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{response} <edited></edited>", "no {prompt} in the text"),
        ("{prompt} <edited></edited>", "no {response} in the text"),
        ("{prompt} {response} <edited>", "no </edited> in the text"),
        (b"\xff", "not UTF-8 text"),
        (None, "no such prompt: No such file or directory (allowed: minimal, with-better, or the path"),
    ],
)
def test_a_bad_brief(text: str | bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        EditPrompt.load(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_model_in_process_says_what_it_would_say_anyway() -> None:
    """Against greedy generation by Transformers itself, one question at a time; no answer depends on the others."""
    lm = tiny_llama(seed=3, max_position_embeddings=64)
    editor = ModelEditor.from_pretrained(lm, EditPrompt("{prompt} {response} <edited></edited>"), max_new_tokens=12)
    rng = random.Random(0)
    drafts = [Draft(prompt(sentence(rng)), sentence(rng)) for _ in range(5)]
    found = editor(drafts)
    chat = ChatFormat.of(lm)
    for draft, one in zip(drafts, found, strict=True):
        ids = chat.prompt_ids((Turn("user", editor.prompt(draft)),))
        whole = lm.base.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=12, pad_token_id=0)[0, len(ids) :]
        assert one.answer == lm.tokenizer.decode(whole, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        word = draft.response.split()[0]
        again = chat.prompt_ids((Turn("user", AGAIN + draft.response),)) + tokenize(lm.tokenizer, [word])[0]
        more = lm.base.generate(torch.tensor([again]), do_sample=False, max_new_tokens=12, pad_token_id=0)
        assert one.tokens == len(ids) + len(whole) + more.shape[1]
        assert one.reason == "parse"
        assert int(more[0, -1]) not in chat.end_ids
    assert editor(drafts[::-1]) == found[::-1]
    assert editor([Draft(prompt("when ?"), "bread " * 40)]) == [Proposal(reason="too_long")]


@pytest.mark.parametrize(
    ("after_the_word", "text", "reason"),
    [
        ({"t": {"y": 0.9}, "y": {"e": 0.9}, "e": {"s": 0.9}, "s": {"<s>": 0.9}}, "\ncatyes", ""),
        ({"t": {"y": 0.9}, "y": {"e": 0.9}, "e": {"y": 0.9}}, "", "parse"),  # it never ends
        ({"t": {"<s>": 0.9}}, "\ncat", ""),  # it ends at once
    ],
)
def test_a_model_that_forgets_the_tag_is_begun_for(after_the_word: Any, text: str, reason: str) -> None:
    """It says "no" to any question; after the response's first word, the end of its turn is that of the edit."""
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}={% endif %}"
    lm = creature({"=": {"n": 0.9}, "n": {"o": 0.9}, "o": {"<s>": 0.9}, **after_the_word}, template)
    editor = ModelEditor.from_pretrained(lm, EditPrompt("{prompt} {response} <edited></edited>"), max_new_tokens=8)
    (one,) = editor([Draft(prompt("when?"), "\ncat sat")])
    assert (one.text, one.reason, one.answer) == (text, reason, "no" if reason else "")


def test_a_server_that_forgets_the_tag_is_begun_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once; its answer may go on after the tag or repeat it, and both questions are paid for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "prompt.txt").write_text(BRIEF)
    answers = {"a": "At eight.</edited>", "b": "<edited>At nine.</edited>", "c": "At ten."}

    def plan(number: int, request: dict[str, Any]) -> Answer:
        asked, *begun = request["messages"]
        if begun:
            assert begun == [{"role": "assistant", "content": "<edited>"}]
            assert (request["continue_final_message"], request["add_generation_prompt"]) == (True, False)
        return said(answers[asked["content"].removeprefix("Correct: ")[0]] if begun else "At eight.</edited>")

    with JudgeServer(plan) as server:
        settings: Any = {"prompt": str(tmp_path / "prompt.txt"), "cache": str(tmp_path / "editor.sqlite")}
        editor = ServerEditor(url=server.url, model="m", retries=0, **settings)
        found = editor([Draft(prompt("when?"), response) for response in "abc"])
        assert len(server.requests) == 6
    assert [(one.text, one.reason) for one in found] == [("At eight.", ""), ("At nine.", ""), ("", "parse")]
    assert [one.answer for one in found] == ["", "", "At eight.</edited>"]
    assert [one.tokens for one in found] == [202] * 3


# By the command line.


@pytest.fixture
def uptake(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Path("prompt.txt").write_text(BRIEF)
    return Cli(tmp_path, capsys, monkeypatch)


def mended(number: int, request: dict[str, Any]) -> Answer | None:
    """The editor behind the server: "bad" becomes "good"; other questions go to the judge."""
    text = request["messages"][0]["content"]
    if not text.startswith("Correct: "):
        return None
    response = text.removeprefix("Correct: ").partition("\nAsked: ")[0]
    return said(f"<edited>{response.replace('bad', 'good')}</edited>")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(mended) as running:
        yield running


def ask(server: JudgeServer, *more: object) -> list[str]:
    settings = [f"url={server.url}", "model=m", "retries=2"]
    both = ["--editor", "server", "--judge", "server", "--editor-set", "prompt=prompt.txt"]
    sets = [f"--{side}-set={one}" for side in ("editor", "judge") for one in settings]
    return ["edit", "in.jsonl", "--out", "out.jsonl", *both, *sets, *map(str, more)]


def bad_rows(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"{n}?", "completion": f"The number {n} is bad today."} for n in range(count)]


def judged(uptake: Cli, server: JudgeServer, *more: object) -> str:
    Path("judge.txt").write_text("{prompt}\nA: {first}\nB: {second}\nBetter: ")
    return uptake(*ask(server, "--judge-set", "instructions=judge.txt", *more))


def test_a_server_edits_and_judges(uptake: Cli, server: JudgeServer) -> None:
    write_jsonl(Path("in.jsonl"), bad_rows(40))
    out = judged(uptake, server, "--editor-set", "output_price=1000000")
    assert "accepted 100.0%" in out
    assert "40 rows -> out.jsonl" in out
    assert "changes: S 100%, D 0%, A 0%; |e|/|y| 1.00; ambiguous alignments 0.0%" in out
    assert "12120 tokens" in out  # an editor's and two judge's answers to each, of 101
    assert "cost 40.0000" in out
    rows = read_jsonl(Path("out.jsonl"))
    assert [row["edited"] for row in rows] == [f"The number {n} is good today." for n in range(40)]
    edits = [one for one in server.requests if "top_logprobs" not in one]
    assert [one["temperature"] for one in edits] == [0] * 40
    # Nothing is paid for again.
    judged(uptake, server, "--overwrite")
    assert len(server.paid) == 120


def test_a_server_that_errs(uptake: Cli) -> None:
    """A broken line is tried again; no tag, half an answer, nonsense and no answer are rejects, with reasons."""

    def plan(number: int, request: dict[str, Any]) -> Answer | None:
        text = request["messages"][0]["content"]
        if "number 1 " in text:
            return said("The number 1 is good today.")
        if "number 2 " in text:
            return said("<edited>The number 2 is")
        if "number 3 " in text:
            return Answer(b'{"choices": 5}')
        if "number 4 " in text:
            return failure(400)
        honest = mended(number, request)
        assert honest is not None
        return Answer(honest.body, cut=True) if "number 5 " in text and number < 6 else honest

    with JudgeServer(plan) as server:
        write_jsonl(Path("in.jsonl"), bad_rows(7))
        settings = [f"--editor-set={one}" for one in (f"url={server.url}", "model=m", "retries=2", "prompt=prompt.txt")]
        more = [*settings, "--editor-set=concurrency=1", "--judge", "none"]
        uptake("edit", "in.jsonl", "--editor", "server", "--out", "out.jsonl", *more)
        assert [row["edited"][11] for row in read_jsonl(Path("out.jsonl"))] == ["0", "5", "6"]
        rejects = read_jsonl(Path("out.rejects.jsonl"))
        assert [row["reason"] for row in rejects] == ["parse", "parse", "parse", "no_answer"]
        assert [row.get("answer") for row in rejects] == ["The number 1 is good today.", "<edited>The number 2 is"] + [
            None
        ] * 2


@pytest.mark.parametrize("killed_at", [4, 20])
def test_a_killed_call_pays_nothing_twice(killed_at: int, uptake: Cli, server: JudgeServer) -> None:
    """SIGKILL just before some request goes out, to the editor or to the judge."""
    write_jsonl(Path("in.jsonl"), bad_rows(8))
    Path("judge.txt").write_text("{prompt}\nA: {first}\nB: {second}\nBetter: ")
    sets = ["--judge-set=instructions=judge.txt", "--judge-set=concurrency=1", "--editor-set=concurrency=1"]
    arguments = ask(server, *sets)
    assert in_process(command_line, arguments, ("socket.connect", "", killed_at)) == -signal.SIGKILL
    assert 0 < len(server.paid) < 24
    assert not Path("out.jsonl").exists()
    uptake(*arguments)
    assert len(server.paid) == 24
    assert Counter(server.paid).most_common(1)[0][1] == 1
    assert len(read_jsonl(Path("out.jsonl"))) == 8


def test_a_call_killed_at_its_end_goes_on_from_the_journal(uptake: Cli) -> None:
    """A planted edit in the journal shows up in the output: what it holds is not asked for again."""
    town, rng = Town(), random.Random(0)
    questions = town.questions(12, seed=1, split="train")
    write_jsonl(
        Path("in.jsonl"),
        [{"prompt": one.text, "completion": town.answer(one, town.faults(one)[0], rng)} for one in questions],
    )
    arguments = ["edit", "in.jsonl", "--editor", "oracle", "--judge", "none", "--out", "out.jsonl"]
    assert in_process(command_line, arguments, ("os.rename", "out.jsonl", 1)) == -signal.SIGKILL
    journal = Path("out.jsonl.journal.jsonl")
    lines = read_jsonl(journal)
    assert len(lines) == 13
    planted = lines[4]["result"]["text"] + " goodbye!"
    lines[4]["result"]["text"] = planted
    write_jsonl(journal, [lines[0], *lines[4:]])
    uptake(*arguments)
    assert read_jsonl(Path("out.jsonl"))[3]["edited"] == planted
    assert not journal.exists()


def test_the_oracle_edits_the_town(uptake: Cli) -> None:
    """Every edit is the town's own, and an oracle that swears by first places takes none."""
    town, rng = Town(), random.Random(0)
    questions = town.questions(20, seed=2, split="train")
    rows = [
        {
            "prompt": one.text,
            "chosen": town.answer(one, None, rng),
            "rejected": town.answer(one, rng.choice(town.faults(one)), rng),
        }
        for one in questions
    ]
    write_jsonl(Path("in.jsonl"), rows)
    out = uptake("edit", "in.jsonl", "--editor", "oracle", "--judge", "oracle", "--out", "out.jsonl")
    assert "the judge agrees with itself in both orders in 100.0%" in out
    by_question = {row["prompt"]: row["rejected"] for row in rows}
    found = read_jsonl(Path("out.jsonl"))
    assert len(found) > 10
    for row in found:
        (asked,), (answer,) = row["prompt"], row["completion"]
        assert answer["content"] == by_question[asked["content"]]
        turns = (Turn("user", asked["content"]), Turn("assistant", answer["content"]))
        assert row["edited"] == town.minimal_edit(turns)
    biased = OracleAnnotator(temperature=1.0, position_bias=10.0)
    place = "this judge goes by the place of a response, not by its text: both orders agree in 0%"
    with pytest.raises(InputError, match=rf"no edit can be written: .*not_better \d+.*; {place}"):
        edit_file(
            drafts(Path("in.jsonl")), Says(lambda draft: draft.response + " goodbye!"), "no.jsonl", annotator=biased
        )
    assert {row["reason"] for row in read_jsonl(Path("no.rejects.jsonl"))} >= {"not_better"}


def test_a_model_edits(uptake: Cli, tmp_path: Path) -> None:
    """Random weights write no tags: a reject each, with what was said, and one clear message."""
    folder = saved(tiny_llama(max_position_embeddings=1024), tmp_path / "m")
    write_jsonl(Path("in.jsonl"), [{**row, "completion": "at eight ."} for row in prompt_records(3)])
    arguments = ["edit", "in.jsonl", "--editor", "model", "--model", folder, "--judge", "none"]
    code, _, error = uptake.run(*arguments, "--editor-set", "max_new_tokens=8", "--out", "out.jsonl")
    assert code == 2
    assert "no edit can be written: parse 3; the first answer: " in error
    assert "see out.rejects.jsonl (allowed: at least one edit)" in error
    rejects = read_jsonl(Path("out.rejects.jsonl"))
    assert [row["reason"] for row in rejects] == ["parse"] * 3
    assert all(row["answer"] for row in rejects)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--editor", "oracle"], "field '--judge': no judge (allowed: who must prefer the edit, or none"),
        (
            ["--editor", "town", "--judge", "none"],
            "field 'editor': no editor 'town' (allowed: model, server, oracle, person)",
        ),
        (
            ["--editor", "oracle", "--editor-set", "seed=3", "--judge", "none"],
            "field 'editor': oracle has no setting 'seed' (allowed: town)",
        ),
        (["--editor", "person", "--editor-set", "rules=3"], "field 'editor': person has no setting 'rules'"),
        (
            ["--editor", "person", "--editor-set", "port=web"],
            "field 'editor': 'web' as 'port' of person (allowed: a valid integer)",
        ),
        (["--editor", "server", "--judge", "none"], "field 'editor': server needs a setting 'url'"),
        (["--editor", "model", "--judge", "none"], "field '--model': this needs a model called 'editor'"),
        (
            ["--editor", "oracle", "--model", "editor=x", "--judge", "none"],
            "field '--model': nothing here uses a model called 'editor'",
        ),
        (
            ["--editor", "oracle", "--judge", "none", "--judge-set", "a=1"],
            "field '--judge-set': not used without --judge",
        ),
        (["--editor", "oracle", "--judge", "cat"], "field 'judge': no judge 'cat'"),
        (
            ["--editor", "oracle", "--judge", "none", "--max-length", 0.5],
            "field 'max_length': 0.5 (allowed: 1 or more)",
        ),
        (
            ["--editor", "oracle", "--judge", "none", "--no-edit-weight", 0],
            "field 'no_edit_weight': 0.0 (allowed: more",
        ),
        (["--editor", "oracle", "--judge", "none", "--tokenizer", "no"], "field '--tokenizer': no: no tokenizer"),
        (["--editor", "oracle", "--judge", "none", "--out", "out.txt"], "out.txt: unknown file format '.txt'"),
    ],
)
def test_one_message_for_one_mistake(arguments: list[object], message: str, uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), bad_rows(1))
    target = [] if "--out" in arguments else ["--out", "out.jsonl"]
    assert message in uptake.fails("edit", "in.jsonl", *arguments, *target)


def test_a_file_that_exists_is_not_replaced(uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), bad_rows(1))
    Path("out.jsonl").write_text("precious")
    arguments = ["edit", "in.jsonl", "--editor", "oracle", "--judge", "none", "--out", "out.jsonl"]
    assert "the output file exists" in uptake.fails(*arguments)


def test_rows_of_preferences_show_the_better_response(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"prompt": "q?", "chosen": "Good.", "rejected": "The cat sat."}])
    (row,) = read(tmp_path / "in.jsonl")
    assert isinstance(row, Preference)
    seen: list[str | None] = []

    def note(draft: Draft) -> str:
        seen.append(draft.better)
        return "The dog sat."

    edit_file(drafts(tmp_path / "in.jsonl"), Says(note), tmp_path / "out.jsonl.gz")
    assert seen == ["Good."]
    with gzip.open(tmp_path / "out.jsonl.gz", "rt") as file:
        assert json.loads(file.read())["completion"] == [{"role": "assistant", "content": "The cat sat."}]
