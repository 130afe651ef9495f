"""Rows of other tools, each with the row that it must become, by hand; and the documentation, which lists them all."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny_cli import Cli

from uptake.cli import COMMANDS
from uptake.cli.options import app
from uptake.data import read, to_record
from uptake.data.layouts import EXPORTS, LAYOUTS
from uptake.errors import InputError

ASKED = {"role": "user", "content": "When?"}
SAID = {"role": "assistant", "content": "At eight."}
WORSE = {"role": "assistant", "content": "It sells bread."}
TURNS = [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "At eight."}]
PAIR = {"prompt": [ASKED], "chosen": [SAID], "rejected": [WORSE]}
ANSWERED = {"prompt": [ASKED], "completion": [SAID]}


def rows_of(tmp_path: Path, *found: Any, **how: Any) -> list[dict[str, Any]]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in found))
    return [to_record(row) for row in read(path, **how)]


def task(*annotations: Any, **data: Any) -> dict[str, Any]:
    return {"id": 7, "data": data, "annotations": list(annotations)}


def annotation(by: int, *results: Any, **more: Any) -> dict[str, Any]:
    return {"completed_by": by, "result": list(results), "was_cancelled": False, **more}


def result(name: str, kind: str, to: str = "completion", **value: Any) -> dict[str, Any]:
    return {"from_name": name, "to_name": to, "type": kind, "value": value}


TWO = {"prompt": "When?", "answer1": "It sells bread.", "answer2": "At eight."}
SHOWN = {"response1": "It sells bread.", "response2": "At eight."}
FIELDS = {"prompt": "When?", **SHOWN}


def ranking(*ranks: int) -> list[dict[str, Any]]:
    return [{"value": f"response{index}", "rank": rank} for index, rank in enumerate(ranks, start=1)]


CASES: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "ShareGPT": (
        {"conversations": TURNS, "system": "Be brief.", "id": "x"},
        [{"prompt": [{"role": "system", "content": "Be brief."}, ASKED], "completion": [SAID], "id": "x"}],
    ),
    "ShareGPT of other speakers": (
        {"conversations": [TURNS[0], {"from": "chatgpt", "value": "At eight."}]},
        [ANSWERED],
    ),
    "LLaMA-Factory pair": (
        {"conversations": TURNS[:1], "chosen": TURNS[1], "rejected": {"from": "gpt", "value": "It sells bread."}},
        [PAIR],
    ),
    "LLaMA-Factory label": ({"conversations": TURNS, "kto_tag": False}, [{**ANSWERED, "label": False}]),
    "LLaMA-Factory call": (
        {
            "conversations": [
                TURNS[0],
                {"from": "function_call", "value": '{"name": "hours", "arguments": {"day": 1}}'},
                {"from": "observation", "value": "8"},
                TURNS[1],
            ],
            "tools": '[{"name": "hours"}]',
        },
        [
            {
                "prompt": [
                    ASKED,
                    {"role": "assistant", "content": "", "tool_calls": [{"name": "hours", "arguments": {"day": 1}}]},
                    {"role": "tool", "content": "8"},
                ],
                "completion": [SAID],
                "tools": [{"name": "hours"}],
            }
        ],
    ),
    "LMSYS": (
        {"conversation_id": "1", "model": "m", "conversation": [ASKED, SAID], "turn": 1},
        [{**ANSWERED, "conversation_id": "1", "model": "m", "turn": 1}],
    ),
    "WildChat": (
        {"conversation_hash": "1", "conversation": [{**ASKED, "toxic": False, "state": None}, {**SAID, "toxic": True}]},
        [
            {
                "prompt": [{**ASKED, "toxic": False}],
                "completion": [{**SAID, "toxic": True}],
                "conversation_hash": "1",
            }
        ],
    ),
    "Arena": (
        {"conversation_a": [ASKED, WORSE], "conversation_b": [ASKED, SAID], "winner": "model_b", "judge": "j"},
        [{**PAIR, "winner": "model_b", "judge": "j"}],
    ),
    "Arena 55k": (
        {
            "prompt": '["When?"]',
            "response_a": '["At eight."]',
            "response_b": '["It sells bread."]',
            "winner_model_a": 1,
            "winner_model_b": 0,
            "winner_tie": 0,
        },
        [{**PAIR, "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}],
    ),
    "OpenAI preferences": (
        {
            "input": {"messages": [ASKED], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [SAID],
            "non_preferred_output": [WORSE],
        },
        [{**PAIR, "tools": [], "parallel_tool_calls": True}],
    ),
    "OpenAI batch": (
        {"custom_id": "1", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [ASKED]}},
        [{"prompt": [ASKED], "custom_id": "1", "url": "/v1/chat/completions", "model": "m"}],
    ),
    "OpenAI batch of responses": (
        {
            "custom_id": "1",
            "body": {
                "instructions": "Be brief.",
                "input": [{"role": "user", "content": [{"type": "input_text", "text": "When?"}]}],
            },
        },
        [{"prompt": [{"role": "system", "content": "Be brief."}, ASKED], "custom_id": "1"}],
    ),
    "Alpaca": (
        {"instruction": "When?", "input": "", "output": "At eight.", "text": "Below is an instruction"},
        [ANSWERED],
    ),
    "Alpaca with input and history": (
        {"instruction": "Say it.", "input": "x", "output": "At eight.", "history": [["When?", "At eight."]]},
        [{"prompt": [ASKED, SAID, {"role": "user", "content": "Say it.\nx"}], "completion": [SAID]}],
    ),
    "Alpaca pair": ({"instruction": "When?", "chosen": "At eight.", "rejected": "It sells bread."}, [PAIR]),
    "pair beside an instruction": (
        {"instruction": "When?", "output": "8", "chosen_response": "At eight.", "rejected_response": WORSE["content"]},
        [{**PAIR, "output": "8"}],
    ),
    "Dolly": (
        {"instruction": "When?", "context": "Shops.", "response": "At eight.", "category": "qa"},
        [{"prompt": [{"role": "user", "content": "When?\nShops."}], "completion": [SAID], "category": "qa"}],
    ),
    "Label Studio pair": (
        task(annotation(1, result("comparison", "pairwise", "answer1,answer2", selected="right")), **TWO),
        [{**PAIR, "id": 7, "answer1": "It sells bread.", "answer2": "At eight.", "annotator": 1}],
    ),
    "Label Studio answers": (
        task(
            annotation(1, result("label", "choices", choices=["true"]), result("stars", "rating", rating=4)),
            annotation(2, result("label", "choices", choices=["false"]), result("why", "textarea", text=["No."])),
            annotation(3, was_cancelled=True),
            prompt="When?",
            completion="At eight.",
        ),
        [
            {**ANSWERED, "label": True, "id": 7, "stars": 4, "annotator": 1},
            {**ANSWERED, "label": False, "id": 7, "why": "No.", "annotator": 2},
        ],
    ),
    "Label Studio without answers": (task(prompt="When?"), [{"prompt": [ASKED], "id": 7}]),
    "Argilla": (
        {
            "id": "7",
            "fields": FIELDS,
            "metadata": {"shop": "x"},
            "suggestions": {},
            "responses": {
                "preference": [{"value": ranking(2, 1), "user_id": "a"}, {"value": ranking(1, 2), "user_id": "b"}],
                "why": [{"value": "Short.", "user_id": "a"}],
            },
        },
        [
            {**PAIR, "id": "7", "shop": "x", "suggestions": {}, "annotator": "a", "why": "Short.", **SHOWN},
            {
                "prompt": [ASKED],
                "chosen": [WORSE],
                "rejected": [SAID],
                **{"id": "7", "shop": "x", "suggestions": {}, "annotator": "b", **SHOWN},
            },
        ],
    ),
    "Argilla table": (
        {
            "prompt": "When?",
            "completion": "At eight.",
            "label.responses": ["true", "false", "false"],
            "label.responses.users": ["a", "b", "c"],
            "label.responses.status": ["submitted", "submitted", "discarded"],
            "label.suggestion": "true",
        },
        [
            {**ANSWERED, "label": True, "label.suggestion": "true", "annotator": "a"},
            {**ANSWERED, "label": False, "label.suggestion": "true", "annotator": "b"},
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_row_of_another_tool_becomes_ours(tmp_path: Path, case: str) -> None:
    record, expected = CASES[case]
    assert rows_of(tmp_path, record) == expected


WON = {"winner_model_a": 1, "winner_tie": 0}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"custom_id": "1", "response": {"body": {"choices": []}}, "error": None}, "does not hold its question"),
        ({"custom_id": "1", "body": {"model": "m"}}, "'body': no messages or input or prompt"),
        ({"input": "x", "preferred_output": [SAID], "non_preferred_output": [WORSE]}, "'input': no messages in it"),
        ({"conversation_a": [ASKED, SAID], "conversation_b": [ASKED, WORSE], "winner": "tie"}, "'winner': neither"),
        ({"prompt": '["a"]', "response_a": "b", "response_b": '["c"]', "winner_tie": 0}, "'response_a': found 'b'"),
        ({"prompt": '["a"]', "response_a": '["b"]', "response_b": '["c"]', "winner_tie": 1}, "neither of the two"),
        ({"prompt": '["a", "d"]', "response_a": '["b"]', "response_b": '["c"]', **WON},
         "'response_a': 1 texts after 2 prompts"),
        ({"prompt": '["a"]', "response_a": '["b"]', "response_b": '["c", "d"]', **WON},
         "'response_b': 2 texts after 1 prompts"),
        ({"instruction": 5, "output": "x"}, "'instruction'"),
        ({"instruction": "a", "history": "x"}, "'instruction'"),
        ({"conversations": 5}, "'messages': found a int"),
        ({"conversations": [{"from": "moon", "value": "a"}]}, "role 'moon'"),
        ({"conversations": [TURNS[0], {"from": "function_call", "value": "no JSON"}]}, "tool_calls"),
        ({"data": [], "annotations": []}, "no task of Label Studio"),
        (task(5, prompt="a"), "an annotation without results"),
        (task(annotation(1, result("c", "pairwise", "x,y", selected="left")), prompt="a", a1="b", a2="c"),
         "which two are compared"),
        (task(annotation(1, result("c", "pairwise", selected=["left"])), **TWO), "'c': neither of the two"),
        ({"fields": FIELDS, "responses": []}, "no record of Argilla"),
        ({"fields": FIELDS, "responses": {"preference": [{"value": ranking(1, 1)}]}}, "'preference': neither"),
        ({"prompt": "a", "label.responses": "yes"}, "'label.responses': found"),
    ],
)  # fmt: skip
def test_a_broken_row_of_another_tool_is_named(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        rows_of(tmp_path, record)
    assert message in str(caught.value)
    assert "rows.jsonl:1" in str(caught.value)


@pytest.mark.parametrize(
    "columns",
    [
        {"conversation": [WORSE], "conversations": 5, "instruction": "x", "data": {}, "annotations": []},
        {"custom_id": "1", "response": "At nine.", "fields": 1, "responses": ["a", "b"]},
    ],
)
def test_a_row_of_ours_may_have_any_such_columns(tmp_path: Path, columns: dict[str, Any]) -> None:
    assert rows_of(tmp_path, {**ANSWERED, **columns}) == [{**ANSWERED, **columns}]


def test_named_columns_come_before_any_layout(tmp_path: Path) -> None:
    talk = {"conversations": [ASKED], "dialog": [ASKED, SAID]}
    assert rows_of(tmp_path, talk, columns={"messages": "dialog"}) == [{**ANSWERED, "conversations": [ASKED]}]
    export = task(annotation(1, result("good", "choices", choices=["true"])), question="When?", reply="At eight.")
    names = {"prompt": "question", "completion": "reply", "label": "good"}
    assert rows_of(tmp_path, export, columns=names) == [{**ANSWERED, "label": True, "id": 7, "annotator": 1}]


def test_a_column_that_some_row_lacks_is_absent_there_and_one_that_all_lack_is_an_error(tmp_path: Path) -> None:
    two = (
        {"q": "When?", "completion": "At eight.", "good": None, "label": False},
        {"q": "When?", "completion": "At eight.", "good": 1.0},
    )
    found = rows_of(tmp_path, *two, columns={"prompt": "q", "label": "good"})
    assert found == [ANSWERED, {**ANSWERED, "label": True}]
    with pytest.raises(InputError, match=r"rows.jsonl, field 'columns': none of the first 2 rows has a column 'liked'"):
        rows_of(tmp_path, *two, columns={"prompt": "q", "label": "liked"})
    with pytest.raises(
        InputError, match=r"rows.jsonl:1, field 'columns': no column 'p' \(allowed: q, completion, good, label"
    ):
        rows_of(tmp_path, *two, columns={"prompt": "p"})
    with pytest.raises(InputError, match="no column 'text2'"):
        rows_of(tmp_path, *two, columns={"text2": "q"})


def test_every_command_that_reads_rows_takes_columns() -> None:
    for name in COMMANDS:
        import_module(f"uptake.cli.{name}")
    commands: Any = typer.main.get_command(app)
    takes = {
        name
        for name, command in commands.commands.items()
        if any("--columns" in option.opts for option in command.params)
    }
    assert takes == {
        *("annotate", "calibrate", "can-judge", "check", "corpus", "discover", "edit", "eval", "init-model", "judge"),
        *("mine", "mine-logs", "score", "show-tokens", "train"),
    }


def test_columns_on_the_command_line(uptake: Cli) -> None:
    row = {"q": "When?", "a": "At eight.", "prompt": "another"}
    Path("in.json").write_text(json.dumps(row) + "\n")
    score = ("score", "in.json", "--reward", "length", "--out", "out.jsonl")
    for given in (["--columns", "prompt=q,completion=a"], ["--columns", "prompt=q", "--columns", "completion=a"]):
        uptake(*score, *given, "--overwrite")
        (scored,) = map(json.loads, Path("out.jsonl").read_text().splitlines())
        assert scored == {**ANSWERED, "reward": 9.0, "rated_by": "Length()"}
    assert "none of the first 1 rows has a column 'b'" in uptake.fails(
        *score[:-1], "x.jsonl", "--columns", "completion=b"
    )
    assert "once a column" in uptake.fails(*score, "--columns", "prompt=q,prompt=a", "--overwrite")
    assert "OURS=THEIRS" in uptake.fails(*score, "--columns", "prompt", "--overwrite")
    assert "no column 'reward'" in uptake.fails(*score, "--columns", "reward=q", "--overwrite")


def test_the_documentation_lists_every_layout() -> None:
    page = (Path(__file__).parent.parent / "docs" / "data-formats.md").read_text()
    listed = page.partition("## Rows of other tools")[2].partition("\n## ")[0]
    rows = [line for line in listed.splitlines() if line.startswith("| ") and not line.startswith(("| tool", "|---"))]
    assert rows == [
        f"| {each.name} | {', '.join(f'`{name}`' for name in each.columns)} | {each.becomes} |"
        for each in (*EXPORTS, *LAYOUTS)
    ]
