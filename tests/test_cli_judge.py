"""`uptake judge`: what it writes, what it prints, and that a killed call goes on without paying twice."""

import csv
import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import (
    WORDS,
    command_line,
    in_process,
    pair_records,
    read_jsonl,
    saved,
    tiny_llama,
    tiny_tokenizer,
    write_jsonl,
)
from tiny_cli import Cli
from tiny_server import INSTRUCTIONS, JudgeServer, failure, preference, said

from uptake.annotators.llm import LLMJudge
from uptake.annotators.question import Instructions
from uptake.data import preferences, read, to_record
from uptake.types import Preference, Prompt

BRIEF = "when {prompt} 1 {first} 2 {second}\nbread ="


@pytest.fixture
def uptake(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Path("brief.txt").write_text(BRIEF)
    Path("oracle.txt").write_text(INSTRUCTIONS)
    return Cli(tmp_path, capsys, monkeypatch)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lm = tiny_llama(tokenizer=tiny_tokenizer((*WORDS, "1", "2", "=")), max_position_embeddings=128)
    return saved(lm, tmp_path_factory.mktemp("models") / "judge")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as running:
        yield running


def pairs(count: int) -> list[dict[str, Any]]:
    """The oracle prefers the chosen one of even rows and the rejected one of odd rows."""
    sides = ("good", "so so"), ("bad", "good good")
    return [
        {"prompt": f"{number} ?", "chosen": sides[number % 2][0], "rejected": sides[number % 2][1]}
        for number in range(count)
    ]


def ask(server: JudgeServer, **settings: object) -> list[object]:
    every = {"url": server.url, "model": "m", "instructions": "oracle.txt", "retries": 0, **settings}
    return ["--judge", "server", *judge_sets(**every)]


def judge_sets(**settings: object) -> list[str]:
    return [f"--judge-set={name}={value}" for name, value in settings.items()]


def with_brief(model: Path) -> list[str]:
    """A call whose last argument is the output."""
    instructions = judge_sets(min_share=0, instructions="brief.txt")
    return ["judge", "in.jsonl", "--model", str(model), *instructions, "--out", "out.jsonl"]


def test_a_model_judges(uptake: Cli, model: Path) -> None:
    """Every row against the judge itself, in the order that it prefers."""
    records = pair_records(20, seed=3)
    write_jsonl(Path("in.jsonl"), [{**record, "id": number} for number, record in enumerate(records)])
    out = uptake(
        "judge",
        "in.jsonl",
        "--model",
        model,
        *judge_sets(min_share=0, instructions="brief.txt"),
        "--out",
        "out.jsonl",
    )
    judge = LLMJudge.from_pretrained(model, "brief.txt", min_share=0)
    labelled = read_jsonl(Path("out.jsonl"))
    assert [row["id"] for row in labelled] == list(range(20))
    for given, row in zip(read("in.jsonl"), labelled, strict=True):
        assert isinstance(given, Preference)
        (verdict,) = judge.compare([given.prompt], [(given.chosen, given.rejected)])
        better = [given.chosen, given.rejected] if verdict.p >= 0.5 else [given.rejected, given.chosen]
        assert [row[side][0]["content"] for side in ("chosen", "rejected")] == better
        assert (row["valid"], row["swapped"]) == (True, verdict.p < 0.5)
        assert row["p"] == pytest.approx(max(verdict.p, 1 - verdict.p), abs=1e-5)
        assert sum(row["p_by_order"]) / 2 == pytest.approx(row["p"], abs=1e-12)
        first, second = verdict.by_order
        assert row["p_by_order"] == pytest.approx(
            (first, second) if verdict.p >= 0.5 else (1 - second, 1 - first), abs=1e-5
        )
    swapped = sum(row["swapped"] for row in labelled)
    assert 0 < swapped < 20
    assert f"20 rows -> out.jsonl; the second response is preferred in {swapped}" in out
    figures = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in out.splitlines() if "│" in line}
    assert figures["as chosen in the file"] == f"{1 - swapped / 20:.1%}"
    assert figures["invalid"] == "0.0%"
    longer = [
        (len(each["chosen"]) > len(each["rejected"])) + (len(each["chosen"]) == len(each["rejected"])) / 2
        for each in records
    ]
    assert figures["the longer is as chosen"] == f"{sum(longer) / 20:.1%}"
    agree = sum((row["p_by_order"][0] > 0.5) == (row["p_by_order"][1] > 0.5) for row in labelled) / 20
    assert figures["both orders agree"] == f"{agree:.1%}"
    place = f"this judge goes by the place of a response, not by its text: both orders agree in {agree:.0%} of 20 pairs"
    assert (place in out) == (agree < 0.5)
    assert not Path("out.jsonl.journal.jsonl").exists()


def test_a_labelled_file_judged_again_is_not_swapped(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), pair_records(8))
    options = ["--model", model, *judge_sets(min_share=0, instructions="brief.txt")]
    uptake("judge", "in.jsonl", *options, "--out", "once.jsonl")
    out = uptake("judge", "once.jsonl", *options, "--out", "twice.jsonl")
    assert "the second response is preferred in 0" in out
    once, twice = read_jsonl(Path("once.jsonl")), read_jsonl(Path("twice.jsonl"))
    assert [row["chosen"] for row in once] == [row["chosen"] for row in twice]
    assert [row["p"] for row in once] == pytest.approx([row["p"] for row in twice], abs=1e-6)


def test_columns_about_the_sides_change_places(uptake: Cli, server: JudgeServer) -> None:
    """Token ids above all: training takes them for the response."""
    about = {
        "token_ids": {"tokenizer": "t", "prompt": [1], "chosen": [2], "rejected": [3]},
        "chosen_reward": 1.5,
        "score_rejected": 0.5,
        "margin": 1.0,
        "margin_by_category": {"correctness": 2.0},
        "id": 7,
    }
    write_jsonl(Path("in.jsonl"), [{**row, **about} for row in pairs(2)])
    uptake("judge", "in.jsonl", *ask(server), "--out", "out.jsonl")
    kept, turned = read_jsonl(Path("out.jsonl"))
    assert {name: kept[name] for name in about} == about
    assert turned["chosen"][0]["content"] == "good good"
    assert turned["token_ids"] == {"tokenizer": "t", "prompt": [1], "rejected": [2], "chosen": [3]}
    assert (turned["rejected_reward"], turned["score_chosen"], turned["id"]) == (1.5, 0.5, 7)
    assert (turned["margin"], turned["margin_by_category"]) == (-1.0, {"correctness": -2.0})


def test_two_responses_without_a_label(uptake: Cli, server: JudgeServer) -> None:
    write_jsonl(Path("in.jsonl"), [{"prompt": "?", "responses": ["bad", "good"], "id": 1}])
    out = uptake("judge", "in.jsonl", *ask(server), "--out", "out.jsonl")
    (row,) = read_jsonl(Path("out.jsonl"))
    assert (row["chosen"][0]["content"], row["swapped"], row["id"]) == ("good", True, 1)
    assert "responses" not in row
    assert "as chosen in the file" not in out


def test_rows_without_a_verdict(uptake: Cli, server: JudgeServer, model: Path) -> None:
    """They keep both responses and get no label; judged again later, they alone are asked for."""
    server.plan = lambda number, request: failure(500) if "bad" in str(request) else None
    write_jsonl(Path("in.jsonl"), pairs(4))
    out = uptake("judge", "in.jsonl", *ask(server), "--out", "out.jsonl")
    rows = read_jsonl(Path("out.jsonl"))
    assert [row["valid"] for row in rows] == [True, False] * 2
    assert rows[1]["responses"] == ["bad", "good good"]
    assert (rows[1]["reason"], rows[1]["p"], "chosen" in rows[1]) == ("no answer", None, False)
    assert "invalid: no answer (2)" in out
    assert all(isinstance(row, Preference | Prompt) for row in read("out.jsonl"))
    code, _, error = uptake.run("train", "dpo", "--policy", model, "--data", "out.jsonl", "--out", "run")
    assert (code, "out.jsonl:2: this row has no response" in error) == (2, True)
    server.plan = lambda number, request: None
    asked = len(server.requests)
    uptake("judge", "out.jsonl", *ask(server, cache=Path("out.jsonl.judge.sqlite").absolute()), "--out", "again.jsonl")
    assert len(server.requests) == asked + 4
    again = read_jsonl(Path("again.jsonl"))
    assert [row["chosen"][0]["content"] for row in again] == ["good", "good good"] * 2
    assert not any({"responses", "reason"} & row.keys() for row in again)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rows_without_a_verdict_keep_their_tool_calls(ending: str, uptake: Cli, server: JudgeServer) -> None:
    """Judged later, they are what they were before."""
    calls = [[{"name": "look", "arguments": {"at": word}}] for word in ("good", "bad")]
    sides = [[{"role": "assistant", "content": "", "tool_calls": each}] for each in calls]
    first, second = dict(zip(("chosen", "rejected"), sides, strict=True)), {"chosen": "good", "rejected": "bread"}
    write_jsonl(Path("in.jsonl"), [{"prompt": "?", **first, "id": 1}, {"prompt": "?", **second, "id": 2}])
    server.plan = lambda number, request: failure(500) if "bad" in str(request) else None
    uptake("judge", "in.jsonl", *ask(server), "--out", f"out.{ending}")
    server.plan = lambda number, request: None
    uptake("judge", f"out.{ending}", *ask(server), "--out", "again.jsonl")
    uptake("judge", "in.jsonl", *ask(server), "--out", "all.jsonl")
    assert read_jsonl(Path("again.jsonl")) == read_jsonl(Path("all.jsonl"))
    assert [row.chosen_fields for row in preferences(read("again.jsonl"))] == [{"tool_calls": calls[0]}, {}]


def test_drop_bad_leaves_out_and_counts(uptake: Cli, server: JudgeServer) -> None:
    server.plan = lambda number, request: failure(500) if "bad" in str(request) else None
    broken = [{"prompt": "?"}, {"x": 1}, {"prompt": "?", "responses": ["good"]}]
    write_jsonl(Path("in.jsonl"), [*pairs(3), *broken])
    out = uptake("judge", "in.jsonl", *ask(server), "--out", "out.jsonl", "--drop-bad")
    assert "2 rows -> out.jsonl" in out
    assert "4 rows were left out" in out
    assert all(isinstance(row, Preference) for row in read("out.jsonl"))


def test_nothing_but_invalid_verdicts(uptake: Cli, server: JudgeServer) -> None:
    server.plan = lambda number, request: failure(500)
    write_jsonl(Path("in.jsonl"), pairs(2))
    code, _, error = uptake.run("judge", "in.jsonl", *ask(server), "--out", "out.jsonl")
    assert code == 2
    assert "in.jsonl: no pair could be judged; the first: no answer" in error
    assert not Path("out.jsonl").exists()
    assert not Path("out.jsonl.journal.jsonl").exists()


def test_what_a_server_costs(uptake: Cli, server: JudgeServer) -> None:
    write_jsonl(Path("in.jsonl"), pairs(10))
    prices = {"input_price": 3, "output_price": 50}
    out = uptake("judge", "in.jsonl", *ask(server, **prices), "--out", "out.csv", "--limit", 5)
    assert "1010 tokens, cost 0.0035" in out  # 5 pairs, 2 orders: 1000 tokens read at 3 a million, 10 written at 50
    with Path("out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    p = [
        preference(f"\nA: {first}\nB: {second}\nBetter: ")
        for first, second in (("good", "so so"), ("bad", "good good"))
    ]
    assert [float(row["p"]) for row in rows] == pytest.approx([p[0], 1 - p[1]] * 2 + [p[0]], abs=1e-12)


@pytest.mark.parametrize("killed_at", [4, 20])
def test_a_killed_call_pays_nothing_twice(killed_at: int, uptake: Cli, server: JudgeServer) -> None:
    """SIGKILL just before some request goes out: the next call asks for the rest, and each question is paid once."""
    write_jsonl(Path("in.jsonl"), pairs(12))
    arguments = ["judge", "in.jsonl", *map(str, ask(server, concurrency=1)), "--out", "out.jsonl"]
    assert in_process(command_line, arguments, ("socket.connect", "", killed_at)) == -signal.SIGKILL
    assert (len(server.paid), Path("out.jsonl").exists()) == (killed_at - 1, False)
    uptake(*arguments)
    assert len(server.paid) == 24
    assert Counter(server.paid).most_common(1)[0][1] == 1
    assert len(read_jsonl(Path("out.jsonl"))) == 12


def test_a_call_killed_at_its_end_goes_on_from_the_journal(uptake: Cli, model: Path) -> None:
    """A planted figure in the journal shows up in the output: what it holds is not judged again."""
    write_jsonl(Path("in.jsonl"), pair_records(70))
    arguments = with_brief(model)
    assert in_process(command_line, arguments, ("os.rename", "out.jsonl", 1)) == -signal.SIGKILL
    journal = Path("out.jsonl.journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    left = [number for size in (32, 32, 6) for number in reversed(range(size))]
    assert [line.get("left") for line in lines] == [None, *left]
    lines[4]["result"] |= {"p": 0.987, "by_order": [0.98, 0.994]}
    # Which row a line is of is not said by its place.
    write_jsonl(journal, [lines[0], lines[4], *lines[30:65], *lines[65:]])
    uptake(*arguments)
    found = read_jsonl(Path("out.jsonl"))
    assert (found[3]["p"], found[3]["p_by_order"]) == (0.987, [0.98, 0.994])
    uptake(*arguments[:-1], "whole.jsonl")
    whole = read_jsonl(Path("whole.jsonl"))
    assert [row["chosen"] for row in found[4:]] == [row["chosen"] for row in whole[4:]]
    assert len(found) == 70


def test_a_journal_of_other_verdicts_is_not_used(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), pair_records(3))
    arguments = with_brief(model)
    assert in_process(command_line, arguments, ("os.rename", "out.jsonl", 1)) == -signal.SIGKILL
    uptake(*arguments, "--judge-set", "order-average=logit")
    uptake(*arguments[:-1], "logit.jsonl", "--judge-set", "order-average=logit")
    assert Path("out.jsonl").read_bytes() == Path("logit.jsonl").read_bytes()


def test_a_wrong_key_is_one_clear_message(uptake: Cli, server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-5ecret")
    server.key = "another"
    write_jsonl(Path("in.jsonl"), pairs(2))
    code, out, error = uptake.run("judge", "in.jsonl", *ask(server, key_variable="JUDGE_KEY"), "--out", "out.jsonl")
    assert code == 2
    assert (
        f"{server.url} refuses the key (status 401) (allowed: a valid key in the environment variable JUDGE_KEY)"
        in error
    )
    server.key = "sk-5ecret"
    out += uptake("judge", "in.jsonl", *ask(server, key_variable="JUDGE_KEY"), "--out", "out.jsonl")
    assert "sk-5ecret" not in out + error
    assert not [name for name, content in uptake.files().items() if b"sk-5ecret" in content]


SERVED = ["--judge-set", "url=http://localhost:1/v1", "--judge-set", "model=m"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            [],
            "field '--model': this needs a model called 'judge' (allowed: --model judge=PATH, or --model PATH for all)",
        ),
        (["--judge", "server"], "field 'judge': server needs a setting 'url'"),
        (["--judge", "server:http://localhost:1/v1"], "field 'judge': server needs a setting 'model'"),
        (["--judge", "server", *SERVED, "--model", "m"], "field '--model': nothing here uses m"),
        (
            ["--judge", "server", *SERVED, "--judge-set", "min_share=0"],
            "field 'judge': server has no setting 'min_share'",
        ),
        (["--judge", "crowd"], "field 'judge': no judge 'crowd'"),
        (["--model", "m", "--judge-set", "instructions=nice"], "nice: no such instructions: No such file or directory"),
        (["--judge", "server", "--judge-set", "url=host", "--judge-set", "model=m"], "field 'url': 'host'"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], message: str, uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), pairs(1))
    assert uptake.fails("judge", "in.jsonl", "--out", "out.jsonl", *options).startswith(message)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "?"},
            "in.jsonl:2, field 'responses': this row has not two responses (allowed: chosen and rejected",
        ),
        ({"prompt": "?", "responses": ["a", " "]}, "in.jsonl:2, field 'responses': the response is blank"),
        ({"prompt": "?", "completion": "a"}, "in.jsonl:2, field 'responses': this row has not two responses"),
        ({"x": 1}, "in.jsonl:2: no known row shape"),
    ],
)
def test_rows_that_are_no_pairs(row: dict[str, Any], message: str, uptake: Cli, server: JudgeServer) -> None:
    write_jsonl(Path("in.jsonl"), [*pairs(1), row])
    assert uptake.fails("judge", "in.jsonl", *ask(server), "--out", "out.jsonl").startswith(message)
    assert server.requests == []


def test_python_users_get_the_same(uptake: Cli, server: JudgeServer, model: Path) -> None:
    """An invalid verdict in a table file leaves its cells empty, and every column has its name."""
    server.plan = lambda number, request: said("?") if "bad" in str(request) else None
    write_jsonl(Path("in.jsonl"), pairs(2))
    uptake("judge", "in.jsonl", *ask(server), "--out", "out.parquet")
    valid, invalid = read("out.parquet")
    assert isinstance(valid, Preference)
    assert isinstance(invalid, Prompt)
    why = {"reason": "neither 1 nor 2", "detail": "not 1 or 2 but '?'"}
    assert invalid.extra == {"responses": ["bad", "good good"], "valid": False, **why}
    assert to_record(valid)["p"] > 0.5
    assert Instructions.load("oracle.txt").cue == "Better: "
