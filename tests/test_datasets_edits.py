"""Edits of data sets: tiny files whose rows are told by hand, the split by question, and the real sets if there."""

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from uptake.data import to_record, to_row
from uptake.datasets import names, read_set
from uptake.errors import InputError
from uptake.types import Edited, Span

DATA = Path(os.environ.get("UPTAKE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def write(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def edited(row: Edited | str) -> Edited:
    assert isinstance(row, Edited)
    return row


def test_jfleg_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "jfleg-edits"
    write(
        folder, "dev", [{"src": "He go home now . ", "refs": ["He goes home now .", "He go home now .", "She went ."]}]
    )
    write(folder, "test", [{"src": "A dog .", "refs": [" "]}])
    *rows, last = read_set("jfleg", "edits", tmp_path)
    assert last == "no edit"
    found = [edited(row) for row in rows]
    assert [(row.response, row.edited, row.demoted, row.weight, row.group) for row in found] == [
        ("He go home now .", "He goes home now .", False, 1.0, "dev-1"),
        ("He go home now .", "He go home now .", False, 0.1, "dev-1"),
        ("He go home now .", "She went .", True, 1.0, "dev-1"),
    ]
    assert {row.prompt.extra["split"] for row in found} == {"train"}
    assert {(row.spans, row.edited_spans) for row in found} == {(None, None)}


def answer(**changes: Any) -> dict[str, Any]:
    feedback = {
        "errors": [{"error type": "Unverifiable", "start": 3, "end": 6, "explanation": None}],
        "missing-info": [{"error type": "Missing-Answer"}],
        "corrected-prediction": "In 1999 it came out.",
    }
    row = {"question": "When?", "passages": [["Album", "Album\n\nIt came out."]], "prediction 1": "In may it came out."}
    return {**row, "feedback": {**feedback, **changes}}


def test_finegrained_qa_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "finegrained-rlhf-qa"
    rewritten = answer(**{"corrected-prediction": "Nobody knows the day."})
    write(folder, "dev_feedback", [answer(), rewritten, answer(errors=[], **{"corrected-prediction": ""})])
    one, two, three = (edited(row) for row in read_set("finegrained_qa", "edits", tmp_path))
    assert one.prompt.turns[0].content == "Album\nIt came out.\n\nWhen?"
    assert one.spans == two.spans == (Span(3, 6, -1.0, "Unverifiable"),)
    assert (one.edited, two.edited, three.edited) == ("In 1999 it came out.", None, None)
    assert (three.spans, three.weight) == ((), 1.0)
    outside = answer(errors=[{"error type": "Unverifiable", "start": 3, "end": 99}])
    write(folder, "dev_feedback", [outside])
    with pytest.raises(InputError, match=r"dev_feedback.jsonl.gz:1, field 'feedback': an error from 3 to 99"):
        list(read_set("finegrained_qa", "edits", tmp_path))


def test_halueval_by_hand(tmp_path: Path) -> None:
    said = {
        "ID": "1",
        "user_query": "Who?",
        "chatgpt_response": "Ann sang. Bob danced all day.",
        "hallucination": "yes",
    }
    rows = [
        {**said, "hallucination_spans": ["Bob danced", "danced all day", "Ann"]},
        {**said, "hallucination": "no", "hallucination_spans": []},
        {**said, "hallucination_spans": []},
        {**said, "hallucination_spans": ["Eve"]},
        {**said, "user_query": " ", "hallucination_spans": ["Ann"]},
    ]
    write(tmp_path / "halueval-general", "general_data", rows)
    one, two, *others = read_set("halueval", "edits", tmp_path)
    assert edited(one).spans == (Span(0, 3, -1.0, "invented"), Span(10, 28, -1.0, "invented"))
    assert edited(two).spans == ()
    assert others == ["an invention without a place", "a mark that is not in the answer", "no question"]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set 'jflegg'; did you mean jfleg"):
        read_set("jflegg", "edits", tmp_path)
    with pytest.raises(InputError, match="no folder 'jfleg-edits'"):
        read_set("jfleg", "edits", tmp_path)


@pytest.mark.skipif(not (DATA / "jfleg-edits").is_dir(), reason="the real sets are not there")
def test_the_real_sets_are_whole_and_split_by_question() -> None:
    rows = {name: list(read_set(name, "edits", DATA)) for name in names("edits")}
    assert {name: len(each) for name, each in rows.items()} == {
        "finegrained_qa": 500,
        "halueval": 4507,
        "jfleg": 4 * (754 + 747),
    }
    good = {name: [row for row in each if isinstance(row, Edited)] for name, each in rows.items()}
    assert {name: len(each) for name, each in good.items()} == {
        "finegrained_qa": 500,
        "halueval": 4507 - 113 - 13,
        "jfleg": 4 * (754 + 747),
    }
    for name in ("finegrained_qa", "halueval"):
        splits = {row.prompt.key: set[str]() for row in good[name]}
        for row in good[name]:
            splits[row.prompt.key].add(row.prompt.extra["split"])
        assert {len(each) for each in splits.values()} == {1}
    assert Counter(row.prompt.extra["split"] for row in good["jfleg"]) == {"train": 4 * 754, "heldout": 4 * 747}
    for row in (each for name in good for each in good[name][:50]):
        assert to_record(to_row(to_record(row))) == to_record(row)
