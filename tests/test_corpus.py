"""The corpus: by hand, what of a small data folder is kept, what is held out, and why."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import read_jsonl, write_jsonl

from uptake.data import read
from uptake.errors import InputError
from uptake.tasks.corpus import OUTCOMES, clean, conversation_keys, sort_out, write_corpus
from uptake.types import Dialogue, Prompt, Turn


def session(number: int, *texts: str) -> dict[str, Any]:
    """A dialogue of the satisfaction benchmark, which evaluates odd numbers."""
    roles = ("USER", "SYSTEM") * len(texts)
    turns = [{"role": role, "text": text, "satisfaction": [3]} for role, text in zip(roles, texts, strict=False)]
    return {"session": number, "turns": turns}


def data_folder(folder: Path, sessions: Sequence[Mapping[str, Any]], prompts: Mapping[str, str] | None = None) -> Path:
    for name, records in {"MWOZ": sessions, "SGD": (), "CCPE": (), "ReDial": ()}.items():
        (folder / "uss-user-satisfaction").mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / "uss-user-satisfaction" / f"{name}.jsonl", records)
    if prompts:
        (folder / "hh-helpful-prompts").mkdir()
        rows = [{"prompt": prompt, "label": label} for prompt, label in prompts.items()]
        write_jsonl(folder / "hh-helpful-prompts" / "train.jsonl", rows)
    return folder


def talks(path: Path) -> list[list[str]]:
    return [[turn["content"] for turn in row["messages"]] for row in read_jsonl(path)]


def dialogue(*texts: str) -> Dialogue:
    return tuple(Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(texts))


def test_what_training_rows_and_other_folders_give(tmp_path: Path) -> None:
    folder = data_folder(
        tmp_path / "data",
        [session(0, "a room please", "where?", "in town"), session(1, "a train please", "when?", "now")],
        {"Why is the sky blue? Assistant: ": "Because of the air."},
    )
    (folder / "shepherd-human-feedback").mkdir()
    row = {"id": 1, "question": "2 + 2?", "answer": "5", "feedback": "That is 4."}
    write_jsonl(folder / "shepherd-human-feedback" / "human_data_for_model.jsonl", [row])
    summary = write_corpus(folder, tmp_path / "corpus.jsonl")
    assert talks(tmp_path / "corpus.jsonl") == [
        ["a room please", "where?", "in town"],
        ["Why is the sky blue?", "Because of the air."],
        ["2 + 2?", "5", "That is 4."],
    ]
    sources = ["uss", "hh_helpful_prompts", "shepherd"]
    assert [row["source"] for row in read_jsonl(tmp_path / "corpus.jsonl")] == sources
    assert [summary.outcomes[name]["kept"] for name in sources] == [1, 1, 1]
    assert dict(summary.user_turns) == dict(zip(sources, (2, 1, 2), strict=True))
    assert summary.evaluated == {"uss": 1}
    assert [type(each) for each in read(tmp_path / "corpus.jsonl")].count(Prompt) == 2


def test_what_shares_a_prompt_or_its_first_exchange_with_an_evaluated_item_is_held_out(tmp_path: Path) -> None:
    evaluated = session(1, "A train, please.", "When?", "At eight.", "Booked.", "Thanks")
    folder = data_folder(
        tmp_path / "data",
        [
            evaluated,
            session(0, "a  TRAIN, please.", "Where to?", "Leeds"),  # the first prompt
            session(2, "A train, please.", "When?"),  # prompt and first exchange
            session(4, "A tram, please.", "When?", "At eight.", "Booked."),  # another prompt throughout
            session(6, "At eight.", "Booked."),  # only later turns in common
        ],
        {"A train, please.": "I cannot.", "A plane, please.": "No."},
    )
    summary = write_corpus(folder, tmp_path / "corpus.jsonl")
    assert talks(tmp_path / "corpus.jsonl") == [
        ["A tram, please.", "When?", "At eight.", "Booked."],
        ["At eight.", "Booked."],
        ["A plane, please.", "No."],
    ]
    assert [summary.outcomes[name]["held out"] for name in ("uss", "hh_helpful_prompts")] == [2, 1]


def test_a_first_exchange_is_held_out_although_no_prompt_is_shared(tmp_path: Path) -> None:
    evaluated = session(1, "Hi", "Hello!", "A tram", "No.", "Oh.")
    for turn in evaluated["turns"][:4]:
        turn["satisfaction"] = []
    sessions = [evaluated, session(0, "Hi", "Hello!", "A room"), session(2, "Hi", "Yes?", "A room")]
    write_corpus(data_folder(tmp_path / "data", sessions), tmp_path / "corpus.jsonl")
    assert talks(tmp_path / "corpus.jsonl") == [["Hi", "Yes?", "A room"]]


def test_prompts_of_further_files_are_held_out(tmp_path: Path) -> None:
    folder = data_folder(tmp_path / "data", [], {"Why?": "So.", "When?": "Now."})
    mine = write_jsonl(tmp_path / "mine.jsonl", [{"prompt": "why?", "chosen": "a", "rejected": "b"}])
    summary = write_corpus(folder, tmp_path / "corpus.jsonl", hold_out=[mine])
    assert talks(tmp_path / "corpus.jsonl") == [["When?", "Now."]]
    assert summary.evaluated == {"uss": 0, str(mine): 1}


def test_fates_by_hand() -> None:
    conversations = [
        dialogue("a", "b"),  # begins the next one
        dialogue("a", "b", "c"),
        dialogue("A ", "b", "c"),  # the same again
        dialogue("a", "x"),
        dialogue("d"),
        (Turn("user", "a"), Turn("user", "b")),
        dialogue("t", "b"),  # begins one that is held out, so it stands for itself
        dialogue("t", "b", "c"),
    ]
    expected = ["repeated", "kept", "repeated", "kept", "unusable", "unusable", "kept", "held out"]
    assert list(sort_out(conversations, {conversation_keys(conversations[-1])[2]})) == expected


def test_conversations_that_begin_alike_are_validated_together(tmp_path: Path) -> None:
    prompts = {f"Question {number}?": "Yes." for number in range(400)}
    sessions = [session(2 * number, f"Question {number}?", "No.", "Oh.") for number in range(400)]
    folder = data_folder(tmp_path / "data", sessions, prompts)
    write_corpus(folder, tmp_path / "all.jsonl")
    summary = write_corpus(folder, tmp_path / "corpus.jsonl", validation=tmp_path / "validation.jsonl")
    kept, validated = talks(tmp_path / "corpus.jsonl"), talks(tmp_path / "validation.jsonl")
    assert sorted(kept + validated) == sorted(talks(tmp_path / "all.jsonl"))
    assert not {talk[0] for talk in kept} & {talk[0] for talk in validated}
    assert 4 <= len(validated) <= 40
    assert sum(outcomes["validation"] for outcomes in summary.outcomes.values()) == len(validated)
    for outcomes in summary.outcomes.values():
        assert tuple(outcomes) == OUTCOMES
        assert sum(outcomes.values()) == 400


def test_texts_are_cleaned_up_to_the_first_blank_turn() -> None:
    messy = dialogue("  Two\u00a0 blanks\t here ", "A\x00 line \n\n\n\n and\u200b a gap\n", "\u200b \n", "never read")
    assert clean(messy) == dialogue("Two blanks here", "A line\n\nand a gap")


def test_input_that_makes_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no conversations to learn from.*hh-helpful-prompts.*uss-user-satisfaction"):
        write_corpus(tmp_path, tmp_path / "corpus.jsonl")
    folder = data_folder(tmp_path / "data", [], {"Why?": "So."})
    path = folder / "hh-helpful-prompts" / "train.jsonl"
    path.write_text(path.read_text() + json.dumps({"prompt": "Why?", "label": None}) + "\n")
    with pytest.raises(InputError, match=r"train\.jsonl:2, field 'label': Input should be a valid string"):
        write_corpus(folder, tmp_path / "corpus.jsonl")
    assert not (tmp_path / "corpus.jsonl").exists()
