"""What rows hold is made right or refused where it is read; values by hand."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import pair_records, read_jsonl, write_jsonl
from tiny_cli import Cli

from uptake.data import read, to_record, to_row
from uptake.data.turns import conversation
from uptake.data.values import finite, number
from uptake.errors import InputError
from uptake.support.notes import clear_notes, notes
from uptake.support.texts import json_of, yaml_of
from uptake.tasks.score import read_responses
from uptake.types import Answered, Preference, Turn

ANSWER = {"prompt": "when ?", "completion": "at eight ."}
NAN = float("nan")


def nested(levels: int) -> Any:
    value: Any = "a"
    for _ in range(levels):
        value = [value]
    return value


def test_not_a_number_is_no_value_wherever_it_stands() -> None:
    clear_notes()
    row = to_row({**ANSWER, "label": NAN, "seen": NAN, "others": [1.0, NAN], "more": {"a": NAN}})
    assert isinstance(row, Answered)  # without its label it is not rated
    assert to_record(row)["others"] == [1.0, None]
    assert row.prompt.extra == {"others": [1.0, None], "more": {"a": None}}
    assert notes() == ["2 cells are NaN, which counts as no value"]


def test_an_export_of_pandas_is_scored(uptake: Cli) -> None:
    """It spells a missing number as NaN, which is no JSON; once, all rows were scored, and then none was written."""
    Path("log.jsonl").write_text('{"prompt": "when ?", "completion": "at eight .", "rating": NaN}\n')
    out = uptake("score", "log.jsonl", "--reward", "length", "--out", "out.jsonl")
    assert "rating" not in read_jsonl(Path("out.jsonl"))[0]
    assert out.rstrip().endswith("1 cells are NaN, which counts as no value")


def test_what_is_read_is_as_json_has_it(tmp_path: Path) -> None:
    when = datetime(2023, 4, 9, 0, 2, 53)
    message = {"role": "user", "content": "when ?", "at": when, "cost": Decimal("0.50"), "tries": Decimal(2)}
    row = to_row({"messages": [message, {"role": "assistant", "content": "at eight ."}], "at": when})
    assert isinstance(row, Answered)
    assert row.prompt.turns == (Turn("user", "when ?", {"at": "2023-04-09T00:02:53", "cost": 0.5, "tries": 2}),)
    assert row.prompt.extra == {"at": when}  # nobody reads it: a table keeps its type


def test_arrays_are_lists() -> None:
    row = to_row({"messages": np.array([{"role": "user", "content": "when ?"}]), "label": np.bool_(True)})
    assert row.turns == (Turn("user", "when ?"),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": b"when ?"}, "field 'prompt': found a bytes (allowed: what JSON can spell)"),
        ({"completion": [{"role": "assistant", "content": "a", "x": {1}}]}, "field 'completion': found a set"),
        ({"prompt": "\ud800"}, "field 'prompt': half of a surrogate pair, U+D800 (allowed: whole characters)"),
        (
            {"prompt": [{"role": "user", "content": "a", "\udc00": 1}]},
            "field 'prompt': half of a surrogate pair, U+DC00",
        ),
        ({"anything": nested(101)}, "field 'anything': nested too deeply (allowed: at most 100 objects"),
        ({"prompt": [{"role": [], "content": "a"}]}, "field 'prompt[0].role': role [] (allowed: system"),
        ({"spans": [{"start": 0, "end": 1, "label": {}}]}, "field 'spans[0].label': found {} (allowed: bad"),
        ({"spans": [{"start": 0, "end": 1, "score": 10**400}]}, "field 'spans[0].score': found 1000"),
        ({"completion": [{"role": "assistant", "content": "a", "x": float("inf")}]}, "field 'completion': found inf"),
        ({"spans": [], "weight": "nan"}, "field 'weight': found 'nan' (allowed: a number above 0)"),
        ({"spans": [], "weight": 10**400}, "field 'weight': found 1000"),
    ],
)
def test_values_that_no_row_may_hold(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        to_row({**ANSWER, **changes})
    assert str(error.value).startswith(message)


def test_one_level_less_is_read() -> None:
    assert to_row({**ANSWER, "anything": nested(100)}).prompt.extra == {"anything": nested(100)}  # type: ignore[union-attr]


@pytest.mark.parametrize("scores", [[], ["a", 1], [None, 0], [{}, 0], [0, 1], [1, 1], [True, 0]])
def test_scores_of_better_and_worse_fall(scores: list[Any]) -> None:
    texts = [f"\n\nHuman: a\n\nAssistant: {answer}" for answer in "bc"]
    with pytest.raises(InputError, match="2 texts with score"):
        to_row({"text": texts, "score": scores})
    assert isinstance(to_row({"text": texts, "score": [1, 0.5]}), Preference)


@pytest.mark.parametrize("ids", [1, "abc", [1.5], [True], [-1], [None], {"a": 1}])
def test_ids_that_are_none_are_a_column_like_any_other(ids: Any) -> None:
    sampled = {"tokenizer": "x", "prompt": [1], "chosen": ids, "rejected": [2]}
    row = to_row({"prompt": "a", "chosen": "b", "rejected": "c", "token_ids": sampled, "margin": 10**400})
    assert isinstance(row, Preference)
    assert (row.token_ids, row.margin) == (None, None)
    assert row.prompt.extra == {"token_ids": sampled, "margin": 10**400}


def test_numbers() -> None:
    assert [finite(each) for each in (1, 0.5, True, "1", None, 10**400, float("inf"), NAN)] == [1, 0.5, *[None] * 6]
    assert [number(each) for each in (1, " 0.5 ", True, "inf", "nan", "a", [], 10**400)] == [1, 0.5, 1, *[None] * 5]


def test_messages_that_python_spells_hold_no_more_than_json_does() -> None:
    spelled = "[{'role': 'user', 'content': 'a', 1: (2, 3)}]"
    (turn,) = conversation(spelled, None, "messages")
    assert turn.fields == {"1": [2, 3]}
    for odd in ("{1, 2}", "b'a'", "1j", "...", f"{'[' * 150}{']' * 150}"):
        with pytest.raises(InputError, match="spells a list of messages, and cannot be read"):
            conversation(f"[{{'role': 'user', 'content': 'a', 'x': {odd}}}]", None, "messages")


def test_a_mark_follows_an_empty_line() -> None:
    turns = conversation("Human: a Assistant: b\nHuman: c\n \n\nAssistant: d", None, "text")
    assert [turn.content for turn in turns] == ["a Assistant: b\nHuman: c", "d"]


def test_long_runs_of_blanks_are_read_once() -> None:
    """A regular expression took a quarter of a minute for these: each blank line began a search to the end."""
    text = "\n\nHuman: a" + "\n" * 300_000 + "b\n\nAssistant: c"
    assert [len(turn.content) for turn in conversation(text, None, "text")] == [300_002, 1]
    assert to_row({"prompt": "a" + " " * 300_000 + "b"}).turns[0].content.count(" ") == 300_000  # type: ignore[union-attr]


def test_numbers_of_thousands_of_digits(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "a", "x": ' + "9" * 5_000 + "}\n")
    with pytest.raises(InputError, match=r"rows\.jsonl:2: broken JSON: Exceeds the limit"):
        read(path)
    path = tmp_path / "rows.csv"
    path.write_text('prompt\n"[{""a"": Infinity}]"\n')
    assert read(path)[0].turns[0].content == '[{"a": Infinity}]'  # type: ignore[union-attr]
    path.write_text('prompt\n"[{""a"": ' + "9" * 5_000 + '}]"\n')
    assert read(path)[0].turns[0].content.endswith("9}]")  # type: ignore[union-attr]


BAD_CELLS: dict[str, Callable[[], pa.Array]] = {
    "a date of the year 60,000": lambda: pa.array([0, 1_830_000_000_000_000_000], pa.timestamp("us")),
    "a day that Python has not": lambda: pa.array([0, 2**30], pa.date32()),
    "a text of other bytes": lambda: pa.StringArray.from_buffers(
        2, pa.py_buffer(np.array([0, 1, 2], np.int32).tobytes()), pa.py_buffer(b"a\xff")
    ),
}


@pytest.mark.parametrize("kind", BAD_CELLS)
def test_a_cell_of_parquet_that_python_cannot_hold_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "odd": BAD_CELLS[kind]()}), path)
    with pytest.raises(InputError, match=r"rows\.parquet:2, field 'odd': cannot be read: "):
        read(path)


def test_every_row_is_looked_at_before_any_work(tmp_path: Path) -> None:
    """The last of many rows, and the messages too: a table holds one type a column, whatever the tool's arguments."""
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "open", "arguments": {"at": 8}}]}
    rows = [{"prompt": "when ?", "completion": [call]} for _ in range(40)]
    rows.append(
        {"prompt": "when ?", "completion": [{**call, "tool_calls": [{"name": "open", "arguments": {"at": "x"}}]}]}
    )
    source = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=r"rows\.jsonl:41, field 'completion'"):
        read_responses(source, tmp_path / "out.parquet")
    assert len(read_responses(source, tmp_path / "out.jsonl").rows) == 41
    write_jsonl(source, [ANSWER, {**ANSWER, "x": "\ud800"}])
    with pytest.raises(InputError, match=r"rows\.jsonl:2, field 'x'"):
        read_responses(source, tmp_path / "out.csv")
    assert len(read_responses(source, tmp_path / "out.csv", drop_bad=True).rows) == 1
    assert len(read_responses(source, tmp_path / "out.jsonl").rows) == 2


def test_columns_of_a_table_that_json_cannot_spell(tmp_path: Path, uptake: Cli) -> None:
    when = [datetime(2023, 4, 9, 0, 2, 53), datetime(2023, 4, 10, tzinfo=UTC).replace(tzinfo=None)]
    columns = {"when": when, "day": [date(2023, 4, 9)] * 2, "cost": [Decimal("1.50")] * 2, "score": [1.0, NAN]}
    pq.write_table(pa.table({"prompt": ["a", "b"], "completion": ["Yes.", "No."], **columns}), "log.parquet")
    uptake("score", "log.parquet", "--reward", "length", "--out", "out.jsonl")
    first, second = read_jsonl(Path("out.jsonl"))
    assert (first["when"], first["day"], first["cost"]) == ("2023-04-09T00:02:53", "2023-04-09", "1.50")
    assert (first["score"], "score" in second) == (1.0, False)
    pq.write_table(pa.table({"prompt": ["a"], "completion": ["Yes."], "picture": [b"\x89"]}), "log.parquet")
    message = uptake.fails("score", "log.parquet", "--model", "nowhere", "--out", "other.jsonl")
    assert message.startswith("log.parquet:1, field 'picture': found \"b'\\\\x89'\": JSON has no form for a bytes")


GOOD, BAD = {"prompt": "when ?", "chosen": "at eight .", "rejected": "it ."}, {"prompt": {}}
COMMANDS = {
    "score": "score rows.jsonl --reward length --out out.jsonl",
    "judge": "judge rows.jsonl --judge length --out out.jsonl",
    "train": "train dpo --policy MODEL --data rows.jsonl --out run --set batch_size=2",
    "check": "check dpo --policy MODEL --data rows.jsonl",
    "mine": "mine rows.jsonl --policy MODEL --out out.jsonl --reward length --set n=3 --set max_new_tokens=6",
    "eval": "eval rows.jsonl --policy MODEL --against MODEL --reward length --out out --max-new-tokens 4",
    "show-tokens": "show-tokens edits.jsonl",
    "init-model": "init-model rows.jsonl --out start --vocabulary 300 --width 64 --layers 1 --window 64",
    "can-judge": "can-judge rows.jsonl --model MODEL --followups followups.yaml --limit 3",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_rows_are_left_out_and_counted_on_the_last_line(command: str, uptake: Cli, model: Path) -> None:
    write_jsonl(Path("rows.jsonl"), [*pair_records(6), BAD])
    spans = {**ANSWER, "spans": [{"start": 0, "end": 2, "label": "bad"}]}
    write_jsonl(Path("edits.jsonl"), [spans, BAD, ANSWER])
    words = COMMANDS[command].replace("MODEL", str(model)).split()
    named = next(word for word in words if word.endswith("s.jsonl"))
    where = f"{named}:{2 if named == 'edits.jsonl' else 7}, field 'prompt': found a dict"
    if command != "can-judge":  # which always leaves them out
        code, _, error = uptake.run(*words)
        assert (code, f"error: {where}" in error) == (2, True)
        words.append("--drop-bad")
    last = uptake(*words).splitlines()[-1]
    left_out = 2 if command == "show-tokens" else 1
    assert last.startswith(f"{left_out} rows were left out: they cannot be used; the first: {where}")


def test_a_run_goes_on_without_the_rows_that_it_left_out(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("rows.jsonl"), [BAD, *pair_records(4)])
    uptake(
        "train", "dpo", "--policy", model, "--data", "rows.jsonl", "--out", "run", "--drop-bad", "--set=batch_size=2"
    )
    assert "drop_bad: true" in Path("run/recipe.yaml").read_text()
    uptake("train", "--config", "run/recipe.yaml", "--out", "run", "--resume")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2024-13-45", None),
        ("0x_", "invalid literal"),
        ("!!int a", "invalid literal"),
        ("!!bool x", "'x'"),
        ("!!timestamp x", "AttributeError|NoneType"),
        ("[" * 2_000, "recursion"),
        ("[" * 120 + "]" * 120, "nested too deeply"),
        ('"\\ud800"', "half of a surrogate pair"),
        ("&a [*a]", "nested too deeply"),
        ("{a: 1, a: 2}", "keys written twice: a"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("9" * 5_000, "digits"),
    ],
)
def test_yaml_has_one_error(text: str, message: str | None) -> None:
    if message is None:
        assert yaml_of(text) == text  # a date is the text that it is
        return
    with pytest.raises(ValueError, match=message):
        yaml_of(text)


def test_what_yaml_repeats_without_end_is_too_much() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ValueError, match="more than 1000000 values"):
        yaml_of("\n".join(lines))


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '"\\ud800"', "[" * 5_000, "9" * 5_000, "[" * 120 + "]" * 120, "{"]
)
def test_json_has_one_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        json_of(text)
