"""Feedback of data sets: tiny files whose rows are told by hand, and nothing to train on that is evaluated anywhere."""

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import read_jsonl, saved, tiny_llama
from tiny_cli import Cli

from uptake import read
from uptake.datasets import Feedback, Rating, names, read_set
from uptake.datasets.items import split_of
from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.tasks.datasets import write_rows
from uptake.types import Prompt, Turn

DATA = Path(os.environ.get("UPTAKE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def write(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


TESTS = ("Australia_test", "CDC_test", "UK_test", "WHO_test")


def held_out_question() -> str:
    """A question that the rule of one in ten holds out."""
    return next(text for text in (f"Why {number}?" for number in range(99)) if _number(text) % 10 == 0)


def _number(text: str) -> int:
    return int(prompt_key((Turn("user", text),)), 16)


def texts(row: Feedback | str) -> tuple[str, ...] | str:
    return row if isinstance(row, str) else tuple(turn.content for turn in row.dialogue)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """All four sets in small: of each some rows to train on, some that are held out, some that are of no use."""
    folder = tmp_path / "data"
    held = held_out_question()
    write(
        folder / "shepherd-human-feedback",
        "human_data_for_model",
        [
            {"id": 0, "question": "When?", "answer": "At one.\n\n", "feedback": " It is two. "},
            {"id": 1, "question": held, "answer": "So.", "feedback": "Why so?"},
            {"id": 2, "question": "Where?", "answer": " ", "feedback": "Nothing there."},
            {"id": 3, "question": "Where?", "answer": "Here.", "feedback": ""},
        ],
    )
    for number in range(1, 6):
        judged = {"id": 0, "instruction": f"Add {number}", "input": "to 3", "output": "Nine.", "judgment": "Wrong."}
        write(folder / "cut-judgments", f"iter{number}", [judged, {**judged, "judgment": None}])
    for part in ("WHO_train", "UK_valid", *TESTS):
        write(folder / "feedbackqa", part, [passage(part, ["It helps.", "It is off."], ["Acceptable", "Bad"])])
    graded = {"response_source": "x", "gpt4_score": [5, 3, 1], "gpt4_feedback": ["Good.", "Fair.", "Bad."]}
    spoken = "Here is a previous dialogue between an assistant and an user. Go.\nUser: A?\n\nAssistant:B.\n\nUser: C?"
    for name, asked in (("mt_bench", f"{spoken}\n\nAssistant: "), ("vicuna", "Why?")):
        row = {**graded, "orig_instruction": asked, "orig_response": "D."}
        write(folder / "prometheus-rated", f"{name}_eval", [row])
    return folder


def passage(question: str, said: list[str], rating: list[str]) -> dict[str, Any]:
    reference = {"page_title": "x", "section_headers": ["Masks", "Boots"], "section_content": "Wear boots."}
    return {"question": question, "passage": {"reference": reference}, "feedback": said, "rating": rating}


def test_every_set_by_hand(data: Path) -> None:
    found = {name: list(read_set(name, "feedback", data)) for name in names("feedback")}
    assert list(found) == ["cut", "feedbackqa", "prometheus", "shepherd"]
    assert [texts(row) for row in found["shepherd"]] == [
        ("When?", "At one.", "It is two."),
        (held_out_question(), "So.", "Why so?"),
        "no response",
        "no feedback",
    ]
    assert [texts(row) for row in found["cut"]] == [
        row
        for number in range(1, 6)
        for row in ((f"Add {number}\n\nto 3", "Nine.", "Wrong."), "judged good without a word")
    ]
    answer = "Masks\nBoots\nWear boots."
    assert [texts(row) for row in found["feedbackqa"]] == [
        (part, answer, said)
        for part in sorted(("WHO_train", "UK_valid", *TESTS))
        for said in ("It helps.", "It is off.")
    ]
    assert [texts(row) for row in found["prometheus"]] == [
        (*asked, "D.", said) for asked in (("A?", "B.", "C?"), ("Why?",)) for said in ("Good.", "Fair.", "Bad.")
    ]
    good = [row for rows in found.values() for row in rows if isinstance(row, Feedback)]
    assert {tuple(turn.role for turn in row.dialogue) for row in good} == {
        ("user", "assistant", "user"),
        ("user", "assistant", "user", "assistant", "user"),
    }


def test_polarity_rating_and_split_by_hand(data: Path) -> None:
    def marks(name: str) -> list[tuple[str, str, float | None]]:
        rows = [row for row in read_set(name, "feedback", data) if isinstance(row, Feedback)]
        return [(row.split, row.polarity, row.rating) for row in rows]

    assert marks("shepherd") == [("train", "unknown", None), ("heldout", "unknown", None)]
    assert {polarity for _, polarity, _ in marks("cut")} == {"negative"}
    ratings = [("positive", 3), ("negative", 1)]
    splits = ("heldout", "heldout", "heldout", "train", "heldout", "train")
    assert marks("feedbackqa") == [(split, *each) for split in splits for each in ratings]
    assert marks("prometheus") == 2 * [
        ("heldout", "positive", 5),
        ("heldout", "unknown", 3),
        ("heldout", "negative", 1),
    ]


def test_one_question_in_ten_is_held_out_whatever_is_answered() -> None:
    splits = Counter(split_of((Turn("user", f"What is {number} plus 3?"),)) for number in range(2000))
    assert splits["train"] + splits["heldout"] == 2000
    assert 150 < splits["heldout"] < 250


def test_rows_come_out_as_messages_that_can_be_read_again(data: Path, tmp_path: Path) -> None:
    summary = write_rows(["feedbackqa", "shepherd"], "feedback", data, tmp_path / "rows.jsonl")
    assert summary.written == {"feedbackqa": {"positive": 2, "negative": 2}, "shepherd": {"unknown": 1}}
    assert summary.left_out == {
        "feedbackqa": {"held out": 8},
        "shepherd": {"held out": 1, "no response": 1, "no feedback": 1},
    }
    rows = read(tmp_path / "rows.jsonl")
    assert [row.turns[-1].content for row in rows if isinstance(row, Prompt)] == [
        *("It helps.", "It is off."),
        *("It helps.", "It is off."),
        "It is two.",
    ]
    first, last = (row.extra for row in (rows[0], rows[-1]) if isinstance(row, Prompt))
    assert first == {"source": "feedbackqa", "polarity": "positive", "rating": 3}
    assert last == {"source": "shepherd", "polarity": "unknown"}
    assert read_jsonl(tmp_path / "rows.jsonl")[-1]["messages"][-1] == {"role": "user", "content": "It is two."}


def test_the_held_out_split_is_the_rest(data: Path, tmp_path: Path) -> None:
    summary = write_rows(names("feedback"), "feedback", data, tmp_path / "held.jsonl", split="heldout")
    assert summary.written["prometheus"] == {"positive": 2, "unknown": 2, "negative": 2}
    assert summary.written["shepherd"] == {"unknown": 1}
    assert summary.left_out["feedbackqa"] == {"for training": 4}
    with pytest.raises(InputError, match="no feedback left; left out: held out 6"):
        write_rows(["prometheus"], "feedback", data, tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()


def test_nothing_is_learned_that_another_set_or_a_benchmark_holds_out(data: Path, tmp_path: Path) -> None:
    judged = {"id": 0, "input": "", "output": "X.", "judgment": "Wrong."}
    # The rule holds out the first; the ratings of feedbackqa and prometheus, the next two.
    asked = [held_out_question(), "  CDC_TEST ", "why?", "Name three towns."]
    assert [split_of((Turn("user", text.strip()),)) for text in asked] == ["heldout", "train", "train", "train"]
    write(data / "cut-judgments", "iter1", [{**judged, "instruction": text} for text in asked])
    write_rows(["cut"], "feedback", data, tmp_path / "rows.jsonl")
    kept = [row["messages"][0]["content"] for row in read_jsonl(tmp_path / "rows.jsonl")]
    assert [text for text in kept if not text.startswith("Add")] == ["Name three towns."]
    # And what one set holds out, another does not train on.
    write(data / "feedbackqa", "UK_valid", [passage(held_out_question(), ["It helps."], ["Bad"])])
    both = write_rows(["feedbackqa", "shepherd"], "feedback", data, tmp_path / "both.jsonl")
    assert both.left_out["feedbackqa"] == {"held out": 9}


def test_mistakes_are_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set 'shephard'; did you mean shepherd"):
        write_rows(["shephard"], "feedback", data, tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match="no folder 'cut-judgments'"):
        list(read_set("cut", "feedback", tmp_path))
    write(data / "shepherd-human-feedback", "human_data_for_model", [{"question": "When?", "answer": 3}])
    with pytest.raises(InputError, match=r"human_data_for_model.jsonl.gz:1, field 'answer'"):
        list(read_set("shepherd", "feedback", data))
    write(data / "feedbackqa", "WHO_train", [passage("Who?", ["It helps."], ["Bad", "Bad"])])
    with pytest.raises(InputError, match=r"WHO_train.jsonl.gz:1: 1 texts with 2 grades"):
        list(read_set("feedbackqa", "feedback", data))


def test_from_data_folder_to_tuned_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    uptake = Cli(tmp_path, capsys, monkeypatch)
    saved(tiny_llama(max_position_embeddings=256), tmp_path / "tiny")
    out = uptake("datasets", "shepherd", "cut", "--kind", "feedback", "--data", data, "--out", "rows.jsonl")
    assert "-> rows.jsonl" in out
    assert "judged good without a word 5" in out
    out = uptake("datasets", "prometheus", "--kind", "feedback", "--data", data, "--out", "held.jsonl", "--heldout")
    assert "6 rows -> held.jsonl" in out
    uptake("train", "feedback_tuning", "--policy", "tiny", "--data", "rows.jsonl", "--out", "run")
    assert json.loads((tmp_path / "run" / "model" / "uptake.json").read_text())["follow_up"]["format"] == "role_swap"


# --- the real sets ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (DATA / "feedbackqa").is_dir(), reason="the real sets are not there")
def test_the_real_sets_are_whole_and_what_is_evaluated_is_held_out() -> None:
    rows = {name: list(read_set(name, "feedback", DATA)) for name in names("feedback")}
    assert len(rows["shepherd"]) == 1317
    assert len(rows["cut"]) == 5000
    assert len(rows["prometheus"]) == 3 * 640
    assert len(rows["feedbackqa"]) == 3 * (474 + 573 + 765 + 183) + 2 * (336 + 405 + 540 + 129 + 519)
    good = [row for each in rows.values() for row in each if isinstance(row, Feedback)]
    trained = {row.dialogue[0].content for row in good if row.split == "train"}
    held = {row.dialogue[0].content for row in good if row.split == "heldout"}
    assert not trained & held
    for name in ("feedbackqa", "prometheus"):
        rated = [row for row in read_set(name, "ratings", DATA) if isinstance(row, Rating)]
        evaluated = {row.dialogue[0].content.strip() for row in rated}
        assert evaluated
        assert not trained & evaluated
