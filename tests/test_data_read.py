"""Every row shape in every file format, and what is said of rows and files that are wrong."""

import gzip
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from uptake.data import RowStream, answered, preferences, prompts, read, to_record, to_row
from uptake.data.read import fingerprint, stream_as
from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.types import Answered, Dialogue, PairIds, Preference, Prompt, Rated, Turn, Where

HERE = Where(Path("rows.jsonl"), 7)
ASKED = {"role": "user", "content": "When does it open?"}
SAID = {"role": "assistant", "content": "At eight."}
WORSE = {"role": "assistant", "content": "It sells bread."}
QUESTION = (Turn("user", "When does it open?"),)


def prompt_of(*turns: Turn, **extra: Any) -> Prompt:
    return Prompt(turns, prompt_key(turns), HERE, extra)


PROMPT = prompt_of(*QUESTION)
HUMAN = "\n\nHuman: When does it open?"


@pytest.mark.parametrize(
    ("record", "row"),
    [
        ({"messages": [ASKED]}, PROMPT),
        ({"messages": [ASKED, SAID]}, Answered(PROMPT, "At eight.")),
        ({"messages": [{"from": "human", "value": "When does it open?"}, {"from": "gpt", "value": "At eight."}]},
         Answered(PROMPT, "At eight.")),
        ({"messages": [WORSE, ASKED, SAID]},
         Answered(prompt_of(Turn("assistant", "It sells bread."), *QUESTION), "At eight.")),
        ({"prompt": "When does it open?"}, PROMPT),
        ({"prompt": [ASKED]}, PROMPT),
        ({"prompt": "When does it open? Assistant: "}, PROMPT),
        ({"prompt": f"{HUMAN}\n\nAssistant:"}, PROMPT),
        ({"prompt": "When does it open?", "completion": "At eight."}, Answered(PROMPT, "At eight.")),
        ({"prompt": [ASKED], "completion": [SAID]}, Answered(PROMPT, "At eight.")),
        ({"prompt": [ASKED], "completion": SAID}, Answered(PROMPT, "At eight.")),
        ({"prompt": "When does it open?", "completion": "At eight.", "label": True}, Rated(PROMPT, "At eight.", True)),
        ({"prompt": [ASKED], "completion": [WORSE], "label": 0}, Rated(PROMPT, "It sells bread.", False)),
        ({"prompt": "When does it open?", "chosen": "At eight.", "rejected": "It sells bread."},
         Preference(PROMPT, "At eight.", "It sells bread.")),
        ({"prompt": [ASKED], "chosen": [SAID], "rejected": [WORSE]},
         Preference(PROMPT, "At eight.", "It sells bread.")),
        ({"chosen": [ASKED, SAID], "rejected": [ASKED, WORSE]}, Preference(PROMPT, "At eight.", "It sells bread.")),
        ({"chosen": f"{HUMAN}\n\nAssistant: At eight.", "rejected": f"{HUMAN}\n\nAssistant: It sells bread."},
         Preference(PROMPT, "At eight.", "It sells bread.")),
        ({"chosen": [ASKED, SAID], "rejected": [ASKED, SAID]}, Preference(PROMPT, "At eight.", "At eight.")),
        ({"text": [f"{HUMAN}\n\nAssistant: At eight.", f"{HUMAN}\n\nAssistant: It sells bread."]},
         Preference(PROMPT, "At eight.", "It sells bread.")),
        ({"text": f"{HUMAN}\n\nAssistant: At eight."}, Answered(PROMPT, "At eight.")),
        ({"text": f"{HUMAN}\n\nAssistant: "}, PROMPT),
    ],
)  # fmt: skip
def test_every_shape_of_row(record: dict[str, Any], row: object) -> None:
    assert to_row(record, HERE) == row


SAMPLED = {"tokenizer": "t", "prompt": [1, 7], "chosen": [4, 2], "rejected": [5, 2]}


@pytest.mark.parametrize("both", [{"prompt": [ASKED]}, {}], ids=["prompt beside", "whole conversations"])
def test_margin_and_ids_of_a_mined_pair_are_fields(both: dict[str, Any]) -> None:
    before, columns = [] if both else [ASKED], {"margin": 2, "token_ids": SAMPLED, "id": 3}
    row = to_row({**both, "chosen": [*before, SAID], "rejected": [*before, WORSE], **columns}, HERE)
    ids = PairIds("t", (1, 7), (4, 2), (5, 2))
    assert row == Preference(PROMPT, "At eight.", "It sells bread.", margin=2, token_ids=ids)
    assert isinstance(row, Preference)
    assert row.prompt.extra == {"id": 3}
    written = to_record(row)
    assert {name: written[name] for name in columns} == columns
    assert to_row(written, HERE) == row


@pytest.mark.parametrize(
    "columns",
    [{"margin": "much"}, {"margin": True}, {"token_ids": [1, 2]}, {"token_ids": {"tokenizer": "t"}}],
)
def test_columns_of_these_names_that_hold_other_things_are_any_columns(columns: dict[str, Any]) -> None:
    row = to_row({"prompt": [ASKED], "chosen": [SAID], "rejected": [WORSE], **columns}, HERE)
    assert row == Preference(PROMPT, "At eight.", "It sells bread.")
    assert isinstance(row, Preference)
    assert row.prompt.extra == columns
    (name,) = columns
    assert to_record(row)[name] == columns[name]


def test_the_prompt_of_whole_conversations_is_what_they_share() -> None:
    system, again = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "And on Sunday?"}
    row = to_row({"chosen": [system, ASKED, WORSE, again, SAID], "rejected": [system, ASKED, WORSE, again, WORSE]})
    turns = (
        Turn("system", "Be brief."),
        *QUESTION,
        Turn("assistant", "It sells bread."),
        Turn("user", "And on Sunday?"),
    )
    assert row == Preference(Prompt(turns, prompt_key(turns)), "At eight.", "It sells bread.")


def test_a_prompt_beside_whole_conversations_must_be_in_them() -> None:
    record = {"prompt": "When does it open?", "chosen": [ASKED, SAID], "rejected": [ASKED, WORSE]}
    row = to_row(record, HERE)
    assert row == Preference(PROMPT, "At eight.", "It sells bread.")
    assert prompts([row])[0].extra == {}
    with pytest.raises(InputError, match=r"rows.jsonl:7, field 'prompt'"):
        to_row({**record, "prompt": "Who sells bread?"}, HERE)


BRIEF = {"role": "system", "content": "Be brief."}
LATER = {"role": "user", "content": "And on Sunday?"}
PAIR = ("chosen", "rejected")


@pytest.mark.parametrize(
    ("prompt", "common", "whole"),
    [
        ([BRIEF, ASKED], [ASKED], [BRIEF, ASKED]),
        ([ASKED, WORSE, LATER], [LATER], [ASKED, WORSE, LATER]),
        ([BRIEF, ASKED], [ASKED, WORSE, LATER], [BRIEF, ASKED, WORSE, LATER]),
        ([ASKED], [BRIEF, ASKED, WORSE, LATER], [BRIEF, ASKED, WORSE, LATER]),
        ([LATER], [ASKED, WORSE, LATER], [ASKED, WORSE, LATER]),
        ([{**BRIEF, "content": "Be kind."}, ASKED], [BRIEF, ASKED], None),
        ([LATER, WORSE, ASKED], [LATER, SAID, ASKED], None),
    ],
    ids=["system", "history", "system of more", "first", "last", "another system", "another history"],
)
@pytest.mark.parametrize("columns", ["conversations", "texts"])
def test_no_turn_of_a_prompt_beside_whole_conversations_is_lost(
    prompt: list[Any], common: list[Any], whole: list[Any] | None, columns: str
) -> None:
    sides = [[*common, SAID], [*common, WORSE]]
    record = {"prompt": prompt, **({"text": sides} if columns == "texts" else dict(zip(PAIR, sides, strict=True)))}
    if whole is None:
        with pytest.raises(InputError, match=r"rows.jsonl:7, field 'prompt': the prompt is not in the conversations"):
            to_row(record, HERE)
    else:
        assert to_row(record, HERE) == to_row({"chosen": [*whole, SAID], "rejected": [*whole, WORSE]}, HERE)


def test_other_columns_are_kept() -> None:
    row = to_row({"prompt": "Why?", "completion": "So.", "label": False, "source": "town", "spans": [{"start": 0}]})
    assert isinstance(row, Rated)
    assert row.prompt.extra == {"source": "town", "spans": [{"start": 0}]}
    assert prompts([to_row({"prompt": "Why?", "label": "safe"})])[0].extra == {"label": "safe"}


BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"question": "Why?"}, r"rows.jsonl:7: no known row shape, the columns are: question .*prompt, completion"),
    ({"completion": "So.", "id": 3}, r"rows.jsonl:7, field 'prompt': no such column, the columns are: completion, id"),
    ({"prompt": "Why?", "chosen": "So."}, r"field 'rejected': no such column, the columns are: prompt, chosen"),
    ({"messages": "Why?"}, r"field 'messages': found 'Why\?'"),
    ({"messages": 3}, r"field 'messages': found a int"),
    ({"messages": []}, r"field 'messages': turns out of order: no turns"),
    ({"messages": [SAID]}, r"turns out of order: assistant .*alternation"),
    ({"messages": [ASKED, ASKED]}, r"field 'messages': turns out of order: user, user"),
    ({"messages": [ASKED, SAID, {"role": "system", "content": ""}]}, r"turns out of order: user, assistant, system"),
    ({"messages": [{"role": "bot", "content": "3"}]}, r"field 'messages\[0\].role': role 'bot' .*assistant"),
    ({"messages": [{"role": "tool", "content": "3"}, ASKED]}, r"field 'messages': turns out of order: tool, user"),
    ({"messages": [ASKED, {**SAID, "content": None}]}, r"field 'messages\[1\].content': found a NoneType .*a string"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, r"field 'messages\[0\].content': found a list"),
    ({"messages": [{"sender": "user"}]}, r"field 'messages\[0\]': a message with sender .*role, content"),
    ({"messages": ["Why?"]}, r"field 'messages\[0\]': found a str"),
    ({"messages": [ASKED, {**SAID, "content": " \n"}]}, r"field 'messages': the response is blank"),
    ({"messages": [{**ASKED, "content": " "}]}, r"field 'messages': the user's last turn is blank"),
    ({"prompt": " "}, r"field 'prompt': the user's last turn is blank"),
    ({"prompt": [ASKED, SAID]}, r"field 'prompt': the prompt ends with an assistant turn"),
    ({"prompt": 5}, r"field 'prompt': found a int"),
    ({"prompt": "Why?", "completion": ""}, r"field 'completion': the response is blank"),
    ({"prompt": "Why?", "completion": [ASKED]}, r"field 'completion': found user .*exactly one assistant"),
    ({"prompt": "Why?", "completion": "So.", "label": "safe"}, r"field 'label': found 'safe' .*true or false"),
    ({"chosen": [ASKED, SAID, ASKED, SAID], "rejected": [ASKED, WORSE]}, r"'chosen': after 1 turns in common .*: "
     r"assistant, user, assistant .*exactly one assistant"),
    ({"chosen": [ASKED, SAID], "rejected": [ASKED, SAID, ASKED, SAID]}, r"'rejected': after 1 turns in common"),
    ({"chosen": [ASKED], "rejected": [ASKED]}, r"field 'chosen': after 0 turns in common with the other side: user"),
    ({"chosen": "Yes.", "rejected": "No."}, r"field 'chosen': found 'Yes.'"),
    ({"text": [HUMAN]}, r"field 'text': 1 texts"),
    ({"text": [f"{HUMAN}\n\nAssistant: A", f"{HUMAN}\n\nAssistant: B"], "score": [0.0, 1.0]}, r"score \[0.0, 1.0\]"),
    ({"text": "Once upon a time"}, r"field 'text': found 'Once upon a time' .*Human:"),
    ({"text": "Intro\n\nHuman: Why?"}, r"field 'text': found 'Intro"),
]  # fmt: skip


def test_half_a_surrogate_pair_is_no_text() -> None:
    """JSON spells it, as `json.loads` shows, and tokenizers raise on it; a backslash that somebody wrote is a text."""
    said = json.loads(r'{"prompt": "a", "completion": "x \ud83d y"}')
    with pytest.raises(InputError, match=r"field 'completion': half of a surrogate pair, U\+D83D \(allowed: whole"):
        to_row(said)
    with pytest.raises(InputError, match=r"field 'messages': half of a surrogate pair, U\+DE00"):
        to_row({"messages": [{"role": "user", "content": "\ude00"}]})
    assert prompts([to_row({"prompt": r"\ud83d"}), to_row({"prompt": "\U0001f600"})])[0].turns[0].content == r"\ud83d"


@pytest.mark.parametrize(("record", "message"), BAD_ROWS)
def test_a_wrong_row_is_named_with_file_line_field_and_what_is_allowed(record: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        to_row(record, HERE)
    assert (caught.value.path, caught.value.line) == (HERE.path, HERE.line)
    assert caught.value.allowed


RECORDS: list[dict[str, Any]] = [
    {"prompt": [ASKED], "chosen": [SAID], "rejected": [WORSE], "source": "town"},
    {
        "prompt": [{"role": "user", "content": 'Say "a,\nb"'}],
        "chosen": [SAID],
        "rejected": [WORSE],
        "source": "é\u2028",
    },
]


def write_jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS), encoding="utf-8")


def write_gz(path: Path) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in RECORDS).encode()))


def write_json(path: Path) -> None:
    path.write_text(json.dumps(RECORDS, indent=2))


def write_csv(path: Path) -> None:
    def cell(value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        return '"' + text.replace('"', '""') + '"'

    lines = [",".join(RECORDS[0]), *(",".join(map(cell, record.values())) for record in RECORDS)]
    path.write_text("\r\n".join(lines), encoding="utf-8", newline="")


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(RECORDS), path)


@pytest.mark.parametrize(
    ("name", "write", "places"),
    [
        ("rows.jsonl", write_jsonl, (1, 2)),
        ("rows.jsonl.gz", write_gz, (1, 2)),
        ("rows.json", write_json, (2, 23)),
        ("rows.csv", write_csv, (1, 2)),
        ("ROWS.PARQUET", write_parquet, (1, 2)),
    ],
)
def test_every_file_format(tmp_path: Path, name: str, write: Callable[[Path], None], places: tuple[int, int]) -> None:
    write(tmp_path / name)
    rows = read(tmp_path / name)
    assert [row.prompt.where for row in preferences(rows)] == [Where(tmp_path / name, line) for line in places]
    assert [row.prompt.extra for row in preferences(rows)] == [{"source": "town"}, {"source": "é\u2028"}]
    assert prompts(rows)[1].turns == (Turn("user", 'Say "a,\nb"'),)
    assert {(row.chosen, row.rejected) for row in preferences(rows)} == {("At eight.", "It sells bread.")}
    assert read(str(tmp_path / name), limit=1) == rows[:1]


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('\ufeff{"prompt": "a\u2028\u0085"}\r\n\n  \n{"prompt": "b"}'.encode())
    assert [prompt.where for prompt in prompts(read(path))] == [Where(path, 1), Where(path, 4)]


def test_a_csv_cell_may_hold_anything_but_a_list_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion,label\n[1],[{oops,True\n{},x,0\n")
    first, second = read(path)
    assert first == Rated(prompts([first])[0], "[{oops", True)
    assert second == Rated(prompts([second])[0], "x", False)
    path.write_text("prompt\n" + "long " * 40_000 + "\n")
    assert len(prompts(read(path))[0].turns[0].content) == 200_000


def test_a_null_in_parquet_is_an_absent_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["Why?", "Who?"], "completion": [None, "Ada."]}), path)
    kinds = [type(row) for row in read(path)]
    assert kinds == [Prompt, Answered]


def table(rows: pa.Table) -> bytes:
    pq.write_table(rows, file := BytesIO())
    return file.getvalue()


BAD_FILES: list[tuple[str, bytes, str]] = [
    ("a.jsonl", b'{"prompt": "a"}\n{"prompt": \n', r"a.jsonl:2: broken JSON"),
    ("a.jsonl", b'{"prompt": "a"}\n[1]\n', r"a.jsonl:2: found a list .*a JSON object"),
    ("a.jsonl", b'{"prompt": "a"}\n{"prompt": "\xff"}\n', r"a.jsonl:2: not UTF-8"),
    ("a.jsonl", b"\n", r"a.jsonl: no rows"),
    ("a.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n' * 9, mtime=0)[:-12], r"a.jsonl.gz:\d: the packed stream"),
    ("a.jsonl.gz", b'{"prompt": "a"}\n', r"a.jsonl.gz: this file cannot be read: Not a gzipped"),
    ("a.json", b'[{"prompt": "a"},\n\n{"prompt" "b"}]', r"a.json:3: broken JSON"),
    ("a.json", b'{"prompt":\n"a"}', r"a.json:1: broken JSON.*one object a line"),
    ("a.json", b'"a"', r"a.json:1: found a str .*a JSON object in each row"),
    ("a.json", b'[{"prompt": "a"},\n\n3]', r"a.json:3: found a int"),
    ("a.json", b'[\n"\xff"]', r"a.json:2: not UTF-8"),
    ("a.csv", b"prompt,completion\na,b\nc\n", r"a.csv:2: the row has more or fewer cells"),
    ("a.csv", b"prompt\na\nb,c\n", r"a.csv:2: the row has more or fewer cells"),
    ("a.csv", b'prompt\na\n"b"c\n', r"a.csv:2: broken CSV"),
    ("a.csv", b"prompt\n\xff\n", r"a.csv:1: broken CSV"),
    ("a.csv", b"prompt,completion,completion\nhi,first,second\n", r"a.csv: two columns of the name 'completion'"),
    ("a.tsv", b"prompt\tprompt\n", r"a.tsv: two columns of the name 'prompt'"),
    ("a.jsonl", b'{"prompt": "a"}\n{"prompt": "a", "prompt": "b"}\n', r"a.jsonl:2: .*keys written twice: prompt"),
    ("a.jsonl", b'{"messages": [{"role": "user", "content": "a", "role": "b"}]}', r"a.jsonl:1: .*twice: role"),
    ("a.json", b'[{"prompt": "a"},\n\n{"id": 1, "id": 1}]', r"a.json:3: .*keys written twice: id"),
    ("a.json", b'{"prompt": "a"}\n{"prompt": "a", "prompt": "b"}\n', r"a.json:2: .*keys written twice: prompt"),
    ("a.parquet", table(pa.table([["a"], ["b"]], ["prompt", "prompt"])), r"a.parquet: two columns of .*'prompt'"),
    ("a.parquet", b"PAR1", r"a.parquet: not a readable Parquet file"),
    ("a.txt", b"hello", r"a.txt: unknown file format '.txt' .*\.jsonl"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_wrong_file_is_named_with_the_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv"])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the longest length is read; of a longer one, no more than that."""
    monkeypatch.setattr("uptake.data.files.LONGEST_LINE", 1000)
    path = tmp_path / name
    first, begin, end = ("prompt\n", "", "\n") if name == "a.csv" else ("\n", '{"prompt": "', '"}\n')
    for extra in (0, 1):
        text = "x" * (1000 - len(begin + end) + extra)
        content = f"{first}{begin}{text}{end}".encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        if extra:
            with pytest.raises(InputError, match=rf"{name}:2: a line without end \(allowed: at most 0 MiB in a line\)"):
                read(path)
        else:
            assert prompts(read(path))[0].turns[0].content == text


def test_a_missing_file_says_what_a_source_can_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file .*org/name"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="no such file"):
        read("data/none.jsonl")


def test_columns_give_the_names_of_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"dialog": [ASKED, SAID], "messages": 3, "id": 9}))
    (row,) = answered(read(path, columns={"messages": "dialog"}))
    assert (row.prompt.turns, row.response, row.prompt.extra) == (QUESTION, "At eight.", {"id": 9})
    assert read(path, columns={"messages": "dialog"}, limit=1) == [row]
    with pytest.raises(InputError, match=r"rows.jsonl:1, field 'columns': no column 'talk' .*dialog, messages, id"):
        read(path, columns={"messages": "talk"})
    with pytest.raises(InputError, match=r"field 'columns': no column 'turns' .*messages"):
        read(path, columns={"turns": "dialog"})


def test_limit_counts_from_one(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match="limit 0"):
        read(tmp_path / "rows.jsonl", limit=0)


def test_wrong_rows_can_be_skipped_and_are_then_handed_over(tmp_path: Path) -> None:
    path, skipped = tmp_path / "rows.jsonl", list[InputError]()
    path.write_text('{"prompt": ""}\n{"prompt": "a"}\n{"prompt": "b"}\n')
    rows = prompts(read(path, limit=1, skipped=skipped))
    assert [row.turns[0].content for row in rows] == ["a"]
    assert [error.line for error in skipped] == [1]
    path.write_text('{"prompt": ""}\n')
    with pytest.raises(InputError, match=r"no rows; 1 skipped, the first for: .*rows.jsonl:1"):
        read(path, skipped=[])


# --- rows that are read when they are gone through -------------------------------------------------------------------


def test_a_stream_has_the_rows_of_the_file_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"prompt": "{word}"}}\n' for word in "abcd"))
    rows = RowStream(path)
    assert list(rows) == list(rows) == read(path)
    assert (len(rows), rows[1], rows[-1], rows[1:3]) == (4, read(path)[1], read(path)[3], read(path)[1:3])
    assert list(RowStream(path, limit=2)) == read(path, limit=2)
    assert rows.fingerprint == fingerprint(rows) == fingerprint(read(path)) != RowStream(path, limit=2).fingerprint


def test_a_stream_holds_rows_only_for_who_picks_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    rows = RowStream(path)
    assert next(iter(rows)) is not next(iter(rows))
    assert rows[0] is rows[0] is next(iter(rows))


def test_a_stream_finds_bad_rows_before_any_is_used(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": ""}\n')
    with pytest.raises(InputError, match=r"rows.jsonl:2, field 'prompt': .*blank"):
        RowStream(path)
    path.write_text("")
    with pytest.raises(InputError, match=r"rows.jsonl: no rows \(allowed: at least one row\)"):
        RowStream(path)
    with pytest.raises(InputError, match=r"field 'limit': limit 0"):
        RowStream(path, limit=0)


def test_a_stream_leaves_out_the_same_rows_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    records: list[dict[str, Any]] = [
        {"prompt": "a", "completion": "b"},
        {"prompt": 5},
        {"prompt": "c"},
        {"prompt": "d", "completion": "e"},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    rows = stream_as(lambda row: answered([row])[0], path, tmp_path / "out.jsonl", allowed="x", drop_bad=True)
    for _ in "ab":
        assert [row.response for row in answered(rows.rows)] == ["b", "e"]
    assert (len(rows.rows), rows.left_out, type(rows.rows)) == (2, 2, RowStream)
    table = stream_as(lambda row: answered([row])[0], path, tmp_path / "out.parquet", allowed="x", drop_bad=True)
    assert (list(table.rows), table.left_out, type(table.rows)) == (list(rows.rows), 2, list)
    with pytest.raises(InputError, match=r"rows.jsonl:2, field 'prompt': found a int"):
        stream_as(lambda row: row, path, tmp_path / "out.jsonl", allowed="x")
    for ending in ("jsonl", "parquet"):
        with pytest.raises(InputError, match=r"no row can be used; the first was left out for: .*only pairs"):
            stream_as(lambda row: preferences([row])[0], path, f"out.{ending}", allowed="only pairs", drop_bad=True)
    path.write_text(json.dumps(records[0]) + "\n" + json.dumps({**records[0], "x": float("inf")}) + "\n")
    with pytest.raises(InputError, match=r"rows.jsonl:2, field 'x': found '?inf"):
        stream_as(lambda row: row, path, tmp_path / "out.jsonl", allowed="x")


def test_a_file_that_changes_under_a_stream_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    rows = RowStream(path)
    path.write_text('{"prompt": "a"}\n{"prompt": "c"}\n')
    with pytest.raises(InputError, match=r"rows.jsonl: the rows are others than when they were first read"):
        list(rows)


@pytest.mark.parametrize("limit", [None, 1])
def test_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    """The library finds "org/name" below the working directory before it asks the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    Path("org/name").mkdir(parents=True)
    write_jsonl(Path("org/name/train.jsonl"))
    write_jsonl(Path("org/name/test.jsonl"))
    rows = preferences(read("hf://datasets/org/name", limit=limit))
    assert [row.prompt.where for row in rows] == [Where(Path("org/name"), line) for line in (1, 2)][:limit]
    assert rows[0].chosen == "At eight."
    assert len(read("hf://datasets/org/name:test", limit=limit)) == len(rows)
    with pytest.raises(InputError, match=r"org/name: cannot load split 'nowhere'"):
        read("hf://datasets/org/name:nowhere", limit=limit)


def test_conversions_keep_what_fits_and_name_the_row_that_does_not() -> None:
    preference, rated = Preference(PROMPT, "a", "b"), Rated(PROMPT, "c", False)
    said = Answered(PROMPT, "d")
    assert prompts([PROMPT, preference, rated, said]) == [PROMPT] * 4
    assert answered([said, rated]) == [said, Answered(PROMPT, "c")]
    assert preferences([preference]) == [preference]
    for wrong in (PROMPT, preference):
        with pytest.raises(InputError, match=rf"rows.jsonl:7: a row of the kind {type(wrong).__name__} .*one response"):
            answered([said, wrong])
    for other in (PROMPT, said, rated):
        with pytest.raises(InputError, match=rf"rows.jsonl:7: a row of the kind {type(other).__name__} .*rejected"):
            preferences([other])


def test_equal_conversations_have_equal_keys_and_no_others() -> None:
    def key(*turns: Turn) -> str:
        dialogue: Dialogue = turns
        return prompt_key(dialogue)

    assert key(Turn("user", "a")) == "5168bd634e48454d" == prompts([to_row({"prompt": "a", "id": 3})])[0].key
    others = [key(Turn("user", "a "), Turn("user", "b")), key(Turn("user", "a b")), key(Turn("assistant", "a"))]
    assert len({key(Turn("user", "a")), *others}) == 4
    assert len(key(Turn("user", "\ud83d"))) == 16
