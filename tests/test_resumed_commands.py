"""Commands that are stopped and called again: what is computed anew, what stays behind, and what is refused at once."""

import datetime
import json
import signal
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import answered_records, command_line, in_process, pair_records, prompt_records, read_jsonl, write_jsonl
from tiny_cli import Cli, sets
from tiny_server import INSTRUCTIONS, Answer, JudgeServer, failure

Records = list[dict[str, Any]]

END = ("os.remove", "out.jsonl.journal", 1)  # the output is written, and the journal is still there
SCORE = ("score", "in.jsonl", "--reward", "length", "--out", "out.jsonl")


def journal() -> Records:
    return read_jsonl(Path("out.jsonl.journal.jsonl"))


def stopped(arguments: Sequence[object], moment: tuple[str, str, int]) -> None:
    assert in_process(command_line, list(map(str, arguments)), moment) == -signal.SIGKILL


# --- exactly what changed is computed anew


def mark_everything() -> None:
    """Give every result in the journal a reward that nothing else would give, so that those taken from it are seen."""
    lines = journal()
    for line in lines[1:]:
        line["result"][0]["reward"] = 1000.0
    write_jsonl(Path("out.jsonl.journal.jsonl"), lines)


NEW = {"prompt": "new ?", "completion": "bread ."}
CHANGES: dict[str, tuple[Callable[[Records], Records], int]] = {
    "a row more": (lambda rows: [*rows, NEW], 1),
    "a row at the front": (lambda rows: [NEW, *rows], 1),
    "another order": (lambda rows: rows[::-1], 0),
    "a column less": (lambda rows: [{name: row[name] for name in row if name != "id"} for row in rows], 0),
    "a column more": (lambda rows: [{**row, "note": place} for place, row in enumerate(rows)], 0),
    "a row twice": (lambda rows: [*rows, rows[3]], 0),
    "a row less": (lambda rows: rows[1:], 0),
    "another response": (lambda rows: [*rows[:5], {**rows[5], "completion": "bread ."}, *rows[6:]], 1),
}


@pytest.mark.parametrize(("change", "anew"), CHANGES.values(), ids=CHANGES)
def test_exactly_what_changed_is_computed_anew(change: Callable[[Records], Records], anew: int, uptake: Cli) -> None:
    records = [{**row, "id": place} for place, row in enumerate(answered_records(40))]
    write_jsonl(Path("in.jsonl"), records)
    stopped(SCORE, ("os.rename", "out.jsonl", 1))
    mark_everything()
    rows = change(records)
    write_jsonl(Path("in.jsonl"), rows)
    uptake(*SCORE)
    found = read_jsonl(Path("out.jsonl"))
    assert [row["completion"][0]["content"] for row in found] == [row["completion"] for row in rows]
    assert [set(row) - {"prompt", "completion", "reward", "rated_by"} for row in found] == [
        set(row) - {"prompt", "completion"} for row in rows
    ]
    others = [row for row in found if row["reward"] != 1000.0]
    assert [(row["completion"][0]["content"], row["reward"]) for row in others] == [("bread .", 7.0)] * anew


def test_rows_that_were_dropped_are_tried_again(uptake: Cli, model: Path) -> None:
    """A row that one call leaves out is no finished row for a call that does not want it left out."""
    write_jsonl(Path("in.jsonl"), [*answered_records(2), {"prompt": "when ?", "completion": "bread " * 200}])
    arguments = ["score", "in.jsonl", "--model", model, "--followups", "followups.yaml", "--out", "out.jsonl"]
    stopped([*arguments, "--drop-bad"], ("os.rename", "out.jsonl", 1))
    assert [line.get("final", True) for line in journal()[1:]] == [True, True, False]
    code, _, error = uptake.run(*arguments)
    assert (code, "in.jsonl:3" in error) == (2, True)
    assert "1 rows were left out" in uptake(*arguments, "--drop-bad")


def test_log_probabilities_are_kept_only_where_they_are_asked_for(uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(3))
    arguments = ["score", "in.jsonl", "--model", model, "--followups", "followups.yaml", "--out", "out.jsonl"]
    stopped(arguments, ("os.rename", "out.jsonl", 1))
    assert [line["result"][0]["logps"] for line in journal()[1:]] == [None] * 3
    uptake(*arguments, "--logps")
    assert [len(row["logps"]) for row in read_jsonl(Path("out.jsonl"))] == [6] * 3


# --- nothing stays behind, nothing is lost


def test_a_killed_score_leaves_nothing_behind(uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(3))
    stopped(SCORE, ("os.rename", "out.jsonl", 1))
    assert list(Path().glob(".out.jsonl.*.tmp"))
    stopped(SCORE, END)
    output = Path("out.jsonl").read_bytes()
    uptake(*SCORE)
    assert Path("out.jsonl").read_bytes() == output
    assert not list(Path().glob(".out*"))
    assert not list(Path().glob("*journal*"))
    assert "the output file exists" in uptake.fails(*SCORE)


def talk(*said: str) -> dict[str, Any]:
    return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]}


@pytest.mark.parametrize("moment", [("os.rename", "out.jsonl", 1), ("os.rename", "out.jsonl", 2), END])
def test_mine_logs_keeps_its_summary(moment: tuple[str, str, int], uptake: Cli, model: Path) -> None:
    answers = answered_records(8)
    log = [talk(row["prompt"], row["completion"], ("thanks .", "wrong .")[n % 2]) for n, row in enumerate(answers)]
    write_jsonl(Path("log.jsonl"), log)
    arguments = ["mine-logs", "log.jsonl", "--model", model, "--followups", "followups.yaml", "--any-language"]
    uptake(*arguments, "--out", "whole.jsonl")
    arguments += ["--out", "out.jsonl"]
    stopped(arguments, moment)
    uptake(*arguments)
    for name in ("out.jsonl", "out.jsonl.summary.json"):
        assert Path(name).read_bytes() == Path(name.replace("out", "whole")).read_bytes()
    assert not [path for path in (*Path().glob(".*"), *Path().glob("*journal*")) if path.is_file()]


def mining(model: Path) -> list[str]:
    """`uptake mine`, up to its output; a whole one is there to compare with."""
    write_jsonl(Path("prompts.jsonl"), prompt_records(4))
    options = {"n": 4, "max_new_tokens": 6, "min_margin_quantile": 0.0, "max_length_ratio": 100.0}
    options |= {"min_category_agreement": 0.0, "keep_unfinished": True, "followups": "followups.yaml"}
    arguments = ["mine", "prompts.jsonl", "--policy", str(model), *sets(options), "--out"]
    assert in_process(command_line, [*arguments, "whole.jsonl"]) == 0
    return [*arguments, "out.jsonl"]


def mined_as_whole() -> bool:
    names = ("out.jsonl", "out.jsonl.summary.json")
    return all(Path(name).read_bytes() == Path(name.replace("out", "whole")).read_bytes() for name in names)


# In the folder three files get their names before it goes itself.
@pytest.mark.parametrize("moment", [("os.rename", "out.jsonl.summary", 1), ("os.rename", "out.jsonl.work", 4)])
def test_mine_keeps_its_summary(moment: tuple[str, str, int], uptake: Cli, model: Path) -> None:
    arguments = mining(model)
    stopped(arguments, moment)
    assert Path("out.jsonl.work/recipe.yaml").is_file()
    uptake(*arguments)
    assert mined_as_whole()
    assert not Path("out.jsonl.work").exists()
    assert "the output file exists" in uptake.fails(*arguments)


def test_mine_that_is_killed_while_it_tidies_up(uptake: Cli, model: Path) -> None:
    """Half a folder of work is none, and the next call removes it though it is refused."""
    arguments = mining(model)
    stopped(arguments, ("os.rmdir", "0-0", 1))
    assert not Path("out.jsonl.work").exists()
    assert list(Path().glob(".out.jsonl.work.*.tmp"))
    code, _, error = uptake.run(*arguments)
    assert (code, "the output file exists" in error) == (2, True)
    assert mined_as_whole()
    assert not list(Path().glob(".*"))


# --- before a model is loaded


def count_opens(arguments: Sequence[str], part: str, target: str) -> None:
    """Run `uptake`, and count how often a file is opened whose path ends like this."""
    seen = 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal seen
        seen += event == "open" and str(given[0]).endswith(part)

    sys.addaudithook(hook)
    try:
        command_line(arguments)
    finally:
        Path(target).write_text(str(seen))


@pytest.mark.parametrize(
    "command",
    [
        ["judge", "in.jsonl", "--model", "MODEL"],
        ["edit", "in.jsonl", "--editor", "oracle", "--judge", "none"],
    ],
)
def test_the_input_of_what_holds_its_rows_is_read_once(command: list[str], uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), pair_records(3))
    arguments = [str(model) if each == "MODEL" else each for each in command]
    in_process(count_opens, [*arguments, "--out", "out.jsonl"], "in.jsonl", "count")
    assert Path("count").read_text() == "1"


DAY = datetime.datetime(2023, 4, 9, 0, 2, 53)
GOOD = {"prompt": "when ?", "completion": "at eight ."}


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.csv"])
def test_dates_and_decimals_are_written_as_text(name: str, uptake: Cli) -> None:
    columns = {"at": [DAY, None], "day": [DAY.date()] * 2, "price": [Decimal("1.50"), Decimal(2)]}
    pq.write_table(pa.table({"prompt": ["a", "b"], "completion": ["Yes.", "No."], **columns}), "in.parquet")
    uptake("score", "in.parquet", "--reward", "length", "--out", name)
    from uptake.data import read  # noqa: PLC0415

    first, second = (row.prompt.extra for row in read(name) if hasattr(row, "prompt"))
    assert (first["at"], first["day"], first["price"]) == ("2023-04-09T00:02:53", "2023-04-09", "1.50")
    assert not second.get("at")


def test_parquet_keeps_its_types(uptake: Cli) -> None:
    columns = {"at": [DAY], "raw": [b"\xff"], "nan": [float("nan")]}
    pq.write_table(pa.table({"prompt": ["a"], "completion": ["Yes."], **columns}), "in.parquet")
    uptake("score", "in.parquet", "--reward", "length", "--out", "out.parquet")
    (row,) = pq.read_table("out.parquet").to_pylist()
    assert (row["at"], row["raw"]) == (DAY, b"\xff")


@pytest.mark.parametrize(
    ("value", "problem"),
    [("Infinity", "found 'inf'"), ("-Infinity", "found '-inf'"), ('{"deep": [Infinity]}', "found \"{'deep': [inf]}\"")],
)
@pytest.mark.parametrize("command", ["score", "judge", "edit"])
def test_what_json_cannot_spell_is_refused_first(command: str, value: str, problem: str, uptake: Cli) -> None:
    """No folder holds a model: the column is refused before anybody looks for one."""
    row = '{"prompt": "a ?", "chosen": "b c", "rejected": "d", "x": %s}\n'
    Path("in.jsonl").write_text(row % "1" + row % value)
    options = {
        "score": ["--model", "nowhere"],
        "judge": ["--model", "nowhere"],
        "edit": ["--editor", "model", "--model", "nowhere", "--judge", "none"],
    }[command]
    message = uptake.fails(command, "in.jsonl", *options, "--out", "out.jsonl")
    assert message.startswith(f"in.jsonl:2, field 'x': {problem}")


def test_bytes_are_refused_first(uptake: Cli) -> None:
    pq.write_table(pa.table({"prompt": ["a"], "completion": ["Yes."], "raw": [b"\xff"]}), "in.parquet")
    message = uptake.fails("score", "in.parquet", "--model", "nowhere", "--out", "out.jsonl")
    assert message.startswith("in.parquet:1, field 'raw': found \"b'\\\\xff'\"")


def test_a_column_of_two_types_is_refused_first(uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), [{**GOOD, "x": value} for value in (1, None, 2, "three", 4)])
    message = uptake.fails("score", "in.jsonl", "--model", "nowhere", "--out", "out.parquet")
    assert message.startswith("in.jsonl:4, field 'x': ")
    uptake("score", "in.jsonl", "--reward", "length", "--out", "out.jsonl")


def test_rows_that_cannot_be_written_may_be_dropped(uptake: Cli) -> None:
    Path("in.jsonl").write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, "x": float("inf")}) + "\n")
    assert "1 rows were left out" in uptake(*SCORE, "--drop-bad")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["score", "in.jsonl", "--model", "nowhere"], "in.jsonl:3: this row has no response"),
        (["judge", "in.jsonl", "--model", "nowhere"], "in.jsonl:1, field 'responses': this row has not two"),
        (["calibrate", "in.jsonl", "--model", "nowhere"], "in.jsonl:1: a row of the kind Answered"),
    ],
)
def test_every_row_is_looked_at_first(command: list[str], message: str, uptake: Cli) -> None:
    write_jsonl(Path("in.jsonl"), [*answered_records(2), *prompt_records(1)])
    target = "out.yaml" if command[0] == "calibrate" else "out.jsonl"
    assert uptake.fails(*command, "--out", target).startswith(message)


# --- killed once the output was there


def test_what_was_not_answered_is_not_asked_again_for_an_output_that_is_there(uptake: Cli) -> None:
    """Its place in the output is settled; without the output it is asked again."""
    write_jsonl(Path("in.jsonl"), pair_records(6))
    Path("oracle.txt").write_text(INSTRUCTIONS)

    def plan(number: int, request: Any) -> Answer | None:
        return failure(500) if "open" in json.dumps(request) else None

    with JudgeServer(plan) as server:
        settings = {"url": server.url, "model": "m", "instructions": "oracle.txt", "retries": 0, "concurrency": 1}
        command = ["judge", "in.jsonl", "--judge", "server", *(f"--judge-set={k}={v}" for k, v in settings.items())]
        uptake(*command, "--out", "whole.jsonl")
        whole = Path("whole.jsonl").read_bytes()
        valid = [row["valid"] for row in read_jsonl(Path("whole.jsonl"))]
        assert 0 < sum(valid) < 6
        stopped([*command, "--out", "out.jsonl"], END)
        assert Path("out.jsonl").read_bytes() == whole
        assert len(journal()) == 7
        server.plan = lambda number, request: None
        asked = len(server.requests)
        uptake(*command, "--out", "out.jsonl")
        assert Path("out.jsonl").read_bytes() == whole
        assert len(server.requests) == asked
        assert not Path("out.jsonl.journal.jsonl").exists()
        server.plan = plan
        stopped([*command, "--out", "new.jsonl"], ("os.rename", "new.jsonl", 1))
        server.plan = lambda number, request: None
        uptake(*command, "--out", "new.jsonl")
        assert all(row["valid"] for row in read_jsonl(Path("new.jsonl")))


def test_a_refused_call_leaves_what_stands_beside_an_output(uptake: Cli, model: Path) -> None:
    """The journal of a killed call answers all that fewer rows ask, and their output is another."""
    answers = answered_records(8)
    log = [talk(row["prompt"], row["completion"], ("thanks .", "wrong .")[n % 2]) for n, row in enumerate(answers)]
    write_jsonl(Path("log.jsonl"), log)
    arguments = ["mine-logs", "log.jsonl", "--model", model, "--followups", "followups.yaml", "--any-language"]
    arguments += ["--out", "out.jsonl"]
    stopped(arguments, END)
    files = {name: Path(name).read_bytes() for name in ("out.jsonl", "out.jsonl.summary.json")}
    write_jsonl(Path("log.jsonl"), log[:6])
    code, _, error = uptake.run(*arguments)
    assert (code, "exists" in error) == (2, True)
    assert {name: Path(name).read_bytes() for name in files} == files
    write_jsonl(Path("log.jsonl"), log)
    uptake(*arguments)
    assert {name: Path(name).read_bytes() for name in files} == files


@pytest.mark.parametrize("name", ["init-model", "extrapolate"])
def test_a_new_folder_whose_call_was_killed_at_the_end(name: str, uptake: Cli, model: Path) -> None:
    write_jsonl(Path("in.jsonl"), answered_records(8))
    command = {
        "init-model": ["init-model", "in.jsonl", "--vocabulary", "300", "--width", "64", "--layers", "1"],
        "extrapolate": ["extrapolate", model, model],
    }[name]
    stopped([*command, "--out", "new"], ("os.remove", ".new.lock", 1))
    assert Path("new/model.safetensors").is_file()
    assert Path(".new.lock").exists()
    code, _, error = uptake.run(*command, "--out", "new")
    assert (code, "the folder exists" in error) == (2, True)
    assert not list(Path().glob(".*"))
