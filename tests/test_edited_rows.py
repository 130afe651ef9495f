"""Edited and marked rows: in and out of records and files, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from uptake import read
from uptake.data import Writer, to_record, to_row
from uptake.errors import InputError
from uptake.types import Answered, Edited, Prompt, Rated, Span

SPANS = [{"start": 4, "end": 7, "label": "bad"}, {"start": 12, "end": 12, "score": -0.5, "type": "omission"}]
ROW: dict[str, Any] = {
    "prompt": "What sat?",
    "completion": "The cat sat.",
    "spans": SPANS,
    "edited": "The dog sat down.",
    "edited_spans": [{"start": 4, "end": 7, "label": "good", "note": "it barked"}],
    "finished": False,
    "group": "g1",
    "weight": 0.1,
    "status": "accepted",
}


def row_of(**changes: Any) -> Edited:
    record = {name: value for name, value in (ROW | changes).items() if value != "absent"}
    row = to_row(record)
    assert isinstance(row, Edited)
    return row


def test_a_row_by_hand() -> None:
    row = row_of()
    assert (row.response, row.edited) == ("The cat sat.", "The dog sat down.")
    assert row.spans == (Span(4, 7, -1.0), Span(12, 12, -0.5, "omission"))
    assert row.edited_spans == (Span(4, 7, 1.0, note="it barked"),)
    assert (row.finished, row.group, row.demoted, row.weight) == (False, "g1", False, 0.1)
    assert row.prompt.extra == {"status": "accepted"}


def test_judged_and_nothing_found_is_not_the_same_as_unknown() -> None:
    assert row_of(spans=[], edited="absent", edited_spans="absent").spans == ()
    derived = row_of(spans=None, edited_spans=None)
    assert (derived.spans, derived.edited_spans) == (None, None)
    assert row_of(finished="absent", group="absent", weight="absent").finished


def test_other_completions_are_what_they_were() -> None:
    assert isinstance(to_row({"prompt": "a", "completion": "b", "spans": None}), Answered)
    assert isinstance(to_row({"prompt": "a", "completion": "b", "label": True, "edited": "c"}), Rated)
    kept = to_row({"prompt": "a", "spans": [1]})
    assert isinstance(kept, Prompt)
    assert to_record(kept)["spans"] == [1]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".csv", ".parquet"])
def test_through_every_format(ending: str, tmp_path: Path) -> None:
    rows = [
        row_of(),
        row_of(spans=[], edited="absent", edited_spans="absent", finished="absent"),
        row_of(spans="absent", edited_spans="absent", demoted=True),
    ]
    with Writer(tmp_path / f"rows{ending}") as writer:
        for row in rows:
            writer.write(to_record(row))
    again = read(tmp_path / f"rows{ending}")
    assert [strip(row) for row in again] == [strip(row) for row in rows]


def strip(row: Any) -> dict[str, Any]:
    assert isinstance(row, Edited)
    return to_record(row)


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"spans": [{"start": 0, "end": 13, "label": "bad"}]}, "spans[0].end", "13"),
        ({"spans": [{"start": -1, "end": 3, "label": "bad"}]}, "spans[0].start", "-1"),
        ({"spans": [{"start": True, "end": 3, "label": "bad"}]}, "spans[0].start", "True"),
        ({"spans": [{"start": 1.5, "end": 3, "label": "bad"}]}, "spans[0].start", "1.5"),
        ({"spans": [{"end": 3, "label": "bad"}]}, "spans[0].start", "None"),
        ({"spans": [{"start": 4, "end": 3, "label": "bad"}]}, "spans[0]", "4 to 3"),
        ({"spans": [SPANS[0], {"start": 6, "end": 9, "score": 1}]}, "spans", "4 to 7 overlaps 6 to 9"),
        ({"spans": [{"start": 0, "end": 3, "label": "bad", "score": -1}]}, "spans[0]", "both label and score"),
        ({"spans": [{"start": 0, "end": 3}]}, "spans[0]", "neither label nor score"),
        ({"spans": [{"start": 0, "end": 3, "label": "worst"}]}, "spans[0].label", "worst"),
        ({"spans": [{"start": 0, "end": 3, "score": float("nan")}]}, "spans[0]", "neither label nor score"),
        ({"spans": [{"start": 0, "end": 3, "score": float("inf")}]}, "spans", "found inf"),
        ({"spans": [{"start": 0, "end": 3, "score": "1"}]}, "spans[0].score", "'1'"),
        ({"spans": [{"start": 0, "end": 3, "score": 1, "why": 2}]}, "spans[0]", "no field ['why']"),
        ({"spans": [3]}, "spans[0]", "found a int"),
        ({"spans": "4-7"}, "spans", "found a str"),
        ({"edited_spans": [{"start": 0, "end": 18, "label": "good"}]}, "edited_spans[0].end", "18"),
        ({"edited": "absent"}, "edited", "no edit"),
        ({"edited": "absent", "spans": "absent"}, "edited", "no edit"),
        ({"edited": " "}, "edited", "' '"),
        ({"edited": "", "spans": "absent", "edited_spans": "absent"}, "edited", "''"),
        ({"finished": "maybe"}, "finished", "'maybe'"),
        ({"weight": 0}, "weight", "0"),
        ({"weight": "heavy"}, "weight", "'heavy'"),
    ],
)
def test_what_is_refused_names_file_line_and_field(
    changes: dict[str, Any], field: str, problem: str, tmp_path: Path
) -> None:
    record = {name: value for name, value in (ROW | changes).items() if value != "absent"}
    path = tmp_path / "rows.jsonl"
    path.write_text(f"\n{json.dumps(record)}\n")
    with pytest.raises(InputError) as caught:
        read(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (path, 2, field)
    assert problem in caught.value.problem
    assert caught.value.allowed


def test_empty_spans_may_stand_in_one_place_and_inside_others() -> None:
    both = [{"start": 5, "end": 5, "label": "bad"}] * 2
    assert len(row_of(spans=[*SPANS, *both]).spans or ()) == 4
