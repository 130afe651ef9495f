"""The room of data sets and its command: every set is listed, told and written, and says where it comes from."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import read_jsonl, saved, tiny_llama, write_jsonl
from tiny_cli import Cli

import uptake.datasets
from uptake import read
from uptake.datasets import EVALUATED, KINDS, Benchmark, find, names, offers, open_benchmarks, read_set
from uptake.datasets.items import HELD_OUT, split_of
from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.tasks.datasets import WRITTEN, write_rows
from uptake.types import Answered, Edited, Preference, Prompt, Turn

DATA = Path(os.environ.get("UPTAKE_DATA", Path(__file__).parents[2] / "shared" / "data"))
real = pytest.mark.skipif(not (DATA / "index.json").is_file(), reason="the real sets are not at hand")


def question(split: str, start: int = 0) -> str:
    """A question that the rule of one in ten gives to a split."""
    asked = (f"Why {number}?" for number in range(start, start + 99))
    return next(text for text in asked if split_of((Turn("user", text),)) == split)


def put(folder: Path, **tables: Sequence[Mapping[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        write_jsonl(folder / f"{name}.jsonl", rows)


def marked(asked: str, *spans: str) -> dict[str, Any]:
    found = {"hallucination": "yes" if spans else "no", "hallucination_spans": list(spans)}
    return {"user_query": asked, "chatgpt_response": "Bob danced all day.", **found}


def compared(asked: str, *votes: int, **columns: Any) -> dict[str, Any]:
    named = {f"annotator{number}": vote for number, vote in enumerate(votes, start=1)}
    return {"instruction": asked, "input": "", "response1": "a", "response2": "b", **named, **columns}


def answered(asked: str) -> dict[str, Any]:
    errors = [{"error type": "Unverifiable", "start": 3, "end": 6}]
    return {
        "question": asked,
        "passages": [["Album", "It came out."]],
        **{f"prediction {number}": f"In {text} it came out." for number, text in enumerate(("may", *"bcd"), start=1)},
        "preference": [1, 2, 0, 1, 1, 2],
        "feedback": {"errors": errors, "corrected-prediction": "In 1999 it came out."},
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three sets with edits and one with comparisons, in small."""
    folder, train, held = tmp_path / "data", question("train"), question("heldout")
    rows = [marked(train, "danced"), marked(held), marked(train, "Eve"), marked("Who?", "Bob")]
    put(folder / "halueval-general", general_data=rows)
    corrected = [{"src": "He go home .", "refs": ["He goes home .", "He go home ."]}]
    put(folder / "jfleg-edits", dev=corrected, test=corrected)
    put(folder / "finegrained-rlhf-qa", dev_feedback=[answered(question("train", 100))])
    votes = [compared("who?", 1, 2, 2), compared("Where?", 0, 0, 0), compared("When?", 1, 1, 1)]
    put(folder / "pandalm-test", test=votes)
    return folder


def test_every_file_is_a_set_that_says_what_it_has_and_where_it_comes_from() -> None:
    files = {path.stem for path in Path(uptake.datasets.__file__).parent.glob("*.py")}
    assert files - set(names()) == {"__init__", "hh", "items", "parse", "records"}
    for name in names():
        module = find(name)
        assert offers(name), name
        assert (module.__doc__ or "").splitlines()[0].endswith((".", ":")), name
        assert module.SOURCE, name
        assert module.LICENSE, name
        local, hub = ([kind for kind in KINDS if hasattr(module, start + kind)] for start in ("", "hub_"))
        assert bool(local) == (module.FOLDER is not None), name
        assert local or hub, name


def test_every_kind_is_used_by_a_command() -> None:
    assert set(KINDS) == {*WRITTEN, "conversations"}
    assert set(EVALUATED) < set(WRITTEN)
    assert all(names(kind) for kind in KINDS)


def test_names_are_found_however_they_are_spelled() -> None:
    assert find(" HH-helpful-base") is find("hh_helpful_base")
    with pytest.raises(InputError, match=r"there is no data set 'halueva'; did you mean halueval\? \(allowed: alpaca_"):
        find("halueva")


def test_a_kind_that_a_set_does_not_have_is_refused(data: Path) -> None:
    with pytest.raises(InputError, match=r"jfleg offers no feedback \(allowed: edits\)"):
        read_set("jfleg", "feedback", data)
    with pytest.raises(InputError, match=r"data set 'jfleg' is no benchmark \(allowed: alpaca_eval_systems, "):
        open_benchmarks("jfleg", data)


def test_edits_become_rows_that_train_a_token_reward_model(data: Path, uptake: Cli) -> None:
    saved(tiny_llama(max_position_embeddings=256), Path("tiny"))
    sets = ("halueval", "JFLEG", "finegrained-qa")
    out = uptake("datasets", *sets, "--kind", "edits", "--data", data, "--out", "edits.jsonl")
    assert "4 rows -> edits.jsonl; left out: held out 4, a mark that is not in the answer 1" in out
    rows = read("edits.jsonl")
    assert all(isinstance(row, Edited) for row in rows)
    written = read_jsonl(Path("edits.jsonl"))
    assert [row["source"] for row in written] == ["halueval", "jfleg", "jfleg", "finegrained_qa"]
    assert {row["split"] for row in written} == {"train"}
    assert written[0]["spans"] == [{"start": 4, "end": 10, "score": -1.0, "type": "invented"}]
    assert [row.get("weight") for row in written] == [None, None, 0.1, None]
    assert written[3]["edited"] == "In 1999 it came out."
    uptake("train", "token_reward_model", "--policy", "tiny", "--data", "edits.jsonl", "--out", "run")
    assert (Path("run") / "model").is_dir()


def test_held_out_edits_are_the_rest(data: Path, tmp_path: Path) -> None:
    summary = write_rows(["halueval", "jfleg"], "edits", data, tmp_path / "held.jsonl", split="heldout")
    assert summary.written == {"halueval": {"edits": 1}, "jfleg": {"edits": 2}}
    assert summary.left_out["jfleg"] == {"for training": 2}
    assert summary.left_out["halueval"] == {"for training": 2, "a mark that is not in the answer": 1}


def test_edits_share_no_question_with_what_another_set_evaluates(data: Path, tmp_path: Path) -> None:
    # "Who?" is compared in PandaLM; the question of the edit in FineGrainedRLHF, in that set itself.
    assert int(prompt_key((Turn("user", "Who?"),)), 16) % HELD_OUT
    summary = write_rows(["halueval", "finegrained_qa"], "edits", data, tmp_path / "rows.jsonl")
    assert summary.written == {"halueval": {"edits": 1}, "finegrained_qa": {"edits": 1}}
    assert summary.left_out["halueval"] == {"held out": 2, "a mark that is not in the answer": 1}
    (data / "pandalm-test" / "test.jsonl").unlink()
    (data / "pandalm-test").rmdir()
    assert write_rows(["halueval"], "edits", data, tmp_path / "more.jsonl").written == {"halueval": {"edits": 2}}


def test_comparisons_are_preferences_with_their_share_and_all_held_out(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no comparisons left; left out: held out 3"):
        write_rows(["pandalm"], "comparisons", data, tmp_path / "rows.jsonl")
    summary = write_rows(["pandalm"], "comparisons", data, tmp_path / "rows.jsonl", split="heldout")
    assert summary.left_out == {"pandalm": {"neither is preferred": 1}}
    first, last = read(tmp_path / "rows.jsonl")
    assert isinstance(first, Preference)
    assert isinstance(last, Preference)
    assert (first.chosen, first.rejected) == ("b", "a")
    assert first.prompt.extra == {"source": "pandalm", "p": pytest.approx(2 / 3)}
    assert (last.chosen, last.prompt.extra["p"]) == ("a", 1.0)


def test_preferences_share_no_question_with_what_is_evaluated(tmp_path: Path) -> None:
    def pair(asked: str) -> dict[str, str]:
        start = f"\n\nHuman: {asked}\n\nAssistant: "
        return {"chosen": f"{start}Gladly.", "rejected": f"{start}No."}

    data = tmp_path / "data"
    put(data / "hh-helpful-base", test=[pair("Tea?"), pair("Milk?"), pair("tea?")])
    (data / "hh-helpful-base" / "split.json").write_text(json.dumps({"train": [1, 2], "test": [0]}))
    summary = write_rows(["hh_helpful_base"], "preferences", data, tmp_path / "rows.jsonl")
    assert summary.left_out == {"hh_helpful_base": {"held out": 1}}
    (row,) = read(tmp_path / "rows.jsonl")
    assert isinstance(row, Preference)
    assert (row.prompt.turns, row.chosen, row.rejected) == ((Turn("user", "Milk?"),), "Gladly.", "No.")
    assert row.prompt.extra == {"source": "hh_helpful_base"}


def test_ratings_and_candidates_keep_what_was_given(tmp_path: Path) -> None:
    talk = {"context": "User: Hi!\nSystem: Hey.\nUser: Bye", "system": "Meena", "annotations": {"Overall": [3, 4]}}
    put(tmp_path / "fed", fed_data=[talk])
    write_rows(["fed"], "ratings", tmp_path, tmp_path / "rated.jsonl", split="heldout")
    (row,) = read(tmp_path / "rated.jsonl")
    assert isinstance(row, Answered)
    assert (row.prompt.turns, row.response) == ((Turn("user", "Hi!"),), "Hey.")
    given = {"ratings": {"overall": 3.5}, "level": "dialogue", "answered_by": "Meena", "follow_up": "Bye"}
    assert row.prompt.extra == {"source": "fed", **given}
    best = {"bon_best": {"answer": "a"}, "loser_list": [{"answer": "b"}], "category_path": "x/Helpfulness/y"}
    asked = [{"role": "user", "content": "Hi"}]
    put(tmp_path / "rmb", bon_helpfulness=[{"conversation_input": asked, **best}])
    write_rows(["rmb"], "candidates", tmp_path, tmp_path / "best.jsonl", split="heldout")
    (prompt,) = read(tmp_path / "best.jsonl")
    assert isinstance(prompt, Prompt)
    answers = {"responses": ["a", "b"], "qualities": [1.0, 0.0]}
    assert prompt.extra == {"source": "rmb", "group": "helpfulness", **answers}


def test_the_list(data: Path, uptake: Cli) -> None:
    lines = uptake("datasets", "--data", data).splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert [line.partition(":")[0] for line in heads] == names()
    assert "halueval: edits. From: here. License: MIT." in heads
    assert "shepherd: feedback, conversations. From: folder shepherd-human-feedback. License: CC BY-NC 4.0." in heads
    assert "shp: comparisons. From: Hub. License: see its page on the Hub." in heads
    edits = uptake("datasets", "--kind", "edits").splitlines()
    assert [line.partition(":")[0] for line in edits[::2]] == ["finegrained_qa", "halueval", "jfleg"]


def test_what_a_set_holds_is_told(data: Path, uptake: Cli) -> None:
    out = uptake("datasets", "halueval", "finegrained_qa", "--data", data)
    assert "source: RUCAIBox/HaluEval; Li et al. 2023 (arXiv 2305.11747)" in out
    tables = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert tables == [
        ["edits", "2", "1", "a mark that is not in the answer 1"],
        ["comparisons", "0", "6", ""],
        ["edits", "1", "0", ""],
    ]
    assert "rows: edits" in uptake("datasets", "halueval")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("halueva",), "there is no data set 'halueva'; did you mean halueval?"),
        (("--kind", "edit"), "field '--kind': found 'edit' (allowed: comparisons, "),
        (("halueval", "--out", "rows.jsonl"), "field '--out': no kind of rows (allowed: SET... --kind KIND)"),
        (("--kind", "edits", "--out", "rows.jsonl"), "field '--out': no data set"),
        (("halueval", "--heldout"), "field '--heldout': no output file (allowed: with --out)"),
        (("halueval", "--kind", "feedback", "--out", "rows.jsonl"), "halueval offers no feedback (allowed: edits)"),
        (("uss", "--kind", "conversations", "--out", "rows.jsonl"), "field 'kind': found 'conversations' (allowed: "),
        (("cut", "--kind", "feedback", "--data", "data", "--out", "rows.jsonl"), "data: no folder 'cut-judgments'"),
        (("halueval", "--kind", "edits", "--data", "data", "--out", "rows.txt"), "rows.txt: "),
    ],
)
def test_mistakes_are_refused(data: Path, uptake: Cli, arguments: Sequence[str], message: str) -> None:
    assert uptake.fails("datasets", *arguments).startswith(message)


@real
def test_every_real_benchmark_at_hand_has_items() -> None:
    here = [name for name in names(*EVALUATED) if (folder := find(name).FOLDER) and (DATA / folder).is_dir()]
    found = [each for name in here for each in open_benchmarks(name, DATA)]
    assert all(isinstance(each, Benchmark) and each.items for each in found)
