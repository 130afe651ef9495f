"""Sets of rated responses: items by hand from tiny files, and the real files where they are at hand.

The environment variable UPTAKE_DATA names the folder of the real sets; else it is `shared/data` beside the repository.
"""

import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from uptake.data import Writer
from uptake.datasets import Absent, Benchmark, Comparison, Item, Rating, find, open_benchmarks
from uptake.datasets.items import to_rating
from uptake.datasets.parse import Records, context, joined
from uptake.errors import InputError
from uptake.types import Dialogue, Turn, Where

DATA = Path(os.environ.get("UPTAKE_DATA", Path(__file__).parents[2] / "shared" / "data"))
HERE = Where(Path("rows"), 1)

# The files whose rows are items, one each unless it says otherwise (None: counted in a test of its own).
EVALUATED: Mapping[str, Sequence[str] | None] = {
    "alpaca_eval_systems": ["annotations.jsonl.gz"],
    "convai2": None,
    "dialogue_eval": ["pass_free_run2.jsonl.gz", "pass_icebreaker.jsonl.gz"],
    "fed": ["fed_data.jsonl.gz"],
    "feedbackqa": [f"{site}_test.jsonl.gz" for site in ("Australia", "CDC", "UK", "WHO")],
    "grade": ["human_judgement.jsonl.gz"],
    "mtbench_single_score": ["ratings.jsonl.gz"],
    "prometheus": ["mt_bench_eval.jsonl.gz", "vicuna_eval.jsonl.gz"],
    "topical_chat": None,
    "usr_personachat": ["pc_usr_data.jsonl.gz"],
    "usr_topicalchat": ["topical_chat.jsonl.gz"],
    "uss": None,
}
RESPONSES_PER_ROW = {"usr_personachat": 5}
TRAINING = ("convai2", "dialogue_eval", "topical_chat", "uss")

real = pytest.mark.skipif(not (DATA / "index.json").is_file(), reason="the real sets are not at hand")


def talk(*said: str) -> Dialogue:
    """Turns in alternation, the user's first."""
    return tuple(Turn("assistant" if place % 2 else "user", text) for place, text in enumerate(said))


def put(folder: Path, **tables: Sequence[Mapping[str, Any]]) -> None:
    for name, records in tables.items():
        with Writer(folder / f"{name}.jsonl") as out:
            for record in records:
                out.write(record)


def opened(data: Path, name: str, **tables: Sequence[Mapping[str, Any]]) -> Benchmark:
    """A benchmark of tiny files."""
    put(data / find(name).FOLDER, **tables)
    (found,) = open_benchmarks(name, data)
    assert isinstance(found, Benchmark)
    return found


def facts(item: Item) -> tuple[Any, ...]:
    assert isinstance(item, Rating)
    return item.dialogue, dict(item.ratings), item.level, item.system, item.follow_up, item.group


def test_runs_of_one_speaker_are_one_turn_and_an_opening_of_the_assistant_goes() -> None:
    turns = [*talk("a", "b"), Turn("assistant", " "), Turn("assistant", "c"), Turn("user", "d"), Turn("user", "e")]
    assert joined([Turn("assistant", "hello"), *turns]) == talk("a", "b\nc", "d\ne")
    assert joined([Turn("assistant", "hello")]) == ()


@pytest.mark.parametrize(
    ("lines", "turns"),
    [(["a"], talk("a")), (["a", "b"], talk("a\nb")), (["a", "b", "c"], talk("a", "b", "c")), (list("abcd"), None)],
)
def test_the_last_line_is_the_users_and_no_line_is_lost(lines: list[str], turns: Dialogue | None) -> None:
    assert context(lines) == (turns or talk("a\nb", "c", "d"))


def test_a_rating_says_why_there_is_none() -> None:
    turns = (Turn("assistant", "hello"), *talk("a", "b"))
    score = {"overall": 1.0}
    assert to_rating(turns, {}, where=HERE) == "no rating"
    assert to_rating(turns, score, where=HERE, index=0) == "nothing before the response"
    assert to_rating(turns, score, where=HERE, index=1) == "no response"
    assert to_rating([*talk("a"), Turn("assistant", " ")], score, where=HERE) == "no response"


def message(sender: str, text: str, thumb: int | None = None) -> dict[str, Any]:
    return {"sender": {"user": "participant1", "bot": "participant2"}[sender], "text": text, "evaluation_score": thumb}


def test_convai2(tmp_path: Path) -> None:
    dialog = [
        message("bot", "Hey!", 1),
        message("user", "/start"),
        message("user", "Hi"),
        message("bot", "I cook.", 1),
        message("bot", "And you?"),
        message("user", "No."),
        message("user", "Do you like tea?"),
        message("bot", "I cook.", 0),
        message("user", "You said so."),
    ]
    bot = {"participant2_id": {"class": "Bot", "user_id": "Bot 007"}}
    found = opened(
        tmp_path,
        "convai2",
        data_volunteers=[{"dialog": dialog, "eval_score": 2, **bot}],
        data_intermediate=[{"dialog": [message("user", "Hi")], "eval_score": None, **bot}],
        **{f"export_2018-07-0{day}_train": [{"dialog": dialog, "eval_score": 1}] for day in (4, 5, 6)},
        **{"export_2018-07-07_train": [{"dialog": dialog[:2], "eval_score": 1}]},
    )
    whole = talk("Hi", "I cook.\nAnd you?", "No.\nDo you like tea?", "I cook.")
    assert [facts(item) for item in found.items] == [
        (talk("Hi", "I cook."), {"thumb": 1.0}, "turn", "Bot 007", "", "volunteers"),
        (whole, {"thumb": 0.0}, "turn", "Bot 007", "You said so.", "volunteers"),
        (whole, {"overall": 2.0}, "dialogue", "Bot 007", "You said so.", "volunteers"),
    ]
    assert found.skipped == {"nothing before the response": 1, "no rating": 1}
    training = list(find("convai2").conversations(tmp_path / "convai2-human-bot"))
    assert training == [(*whole, Turn("user", "You said so."))] * 3


def test_topical_chat(tmp_path: Path) -> None:
    levels = ("Good", "Poor", "Excellent", "")
    content = [
        {"agent": f"agent_{1 + place % 2}", "message": text, "turn_rating": level}
        for place, (text, level) in enumerate(zip("abcd", levels, strict=True))
    ]
    rows = [{"content": content}]
    found = opened(tmp_path, "topical_chat", test_freq=rows, valid_freq=rows, valid_rare=[{"content": content[:3]}])
    assert [facts(item) for item in found.items] == [
        (talk("a", "b"), {"overall": 1.0}, "turn", "", "c", ""),
        (talk("b", "c"), {"overall": 5.0}, "turn", "", "d", ""),
    ]
    assert found.skipped == {"nothing before the response": 1, "no rating": 1}
    training = list(find("topical_chat").conversations(tmp_path / "topical-chat-turn-ratings"))
    assert training == [talk("a", "b", "c", "d"), talk("a", "b", "c")]


def test_uss(tmp_path: Path) -> None:
    def line(role: str, text: str, *satisfaction: int) -> dict[str, Any]:
        return {"role": role, "text": text, "satisfaction": list(satisfaction)}

    turns = [
        line("SYSTEM", "Hello"),
        line("USER", "A film", 3, 3),
        line("SYSTEM", "Which?"),
        line("SYSTEM", "Thor?"),
        line("USER", "No", 2, 1),
        line("USER", "not Thor", 5, 5),
        line("SYSTEM", "Alien?"),
        line("USER", "Yes", 4, 5),
        line("USER", "OVERALL", 3, 4),
    ]
    ours = [{"session": number, "turns": turns} for number in range(3)]
    found = opened(tmp_path, "uss", MWOZ=ours, SGD=[], CCPE=[], ReDial=[])
    until_thor, whole = talk("A film", "Which?\nThor?"), talk("A film", "Which?\nThor?", "No\nnot Thor", "Alien?")
    assert [facts(item) for item in found.items] == [
        (until_thor, {"satisfaction": 1.5}, "turn", "", "No\nnot Thor", "MWOZ"),
        (whole, {"satisfaction": 4.5}, "turn", "", "Yes", "MWOZ"),
        (whole, {"satisfaction": 3.5}, "dialogue", "", "Yes", "MWOZ"),
    ]
    assert found.skipped == {"nothing before the response": 1}
    training = list(find("uss").conversations(tmp_path / "uss-user-satisfaction"))
    assert training == [(*whole, Turn("user", "Yes"))] * 2


def test_dialogue_eval(tmp_path: Path) -> None:
    def chat(model: str) -> dict[str, Any]:
        rounds = [{"round": 1, "user": "Hi", "bot": "hey"}, {"round": 2, "user": "Tea?", "bot": f"{model} ."}]
        return {"model": model, "dialogue": rounds, "raw scores": {"fun": 40}, "z scores": {"fun": 0.5, "topic": -1.5}}

    found = opened(
        tmp_path,
        "dialogue_eval",
        pass_free_run1=[chat("A"), chat("QualityControl")],
        pass_free_run2=[chat("B_p")],
        pass_icebreaker=[chat("QualityControl")],
    )
    assert [facts(item) for item in found.items] == [
        (talk("Hi", "hey", "Tea?", f"{model} ."), {"fun": 40.0, "overall": -0.5}, "dialogue", model, "", group)
        for model, group in (("B_p", "free"), ("QualityControl", "icebreaker"))
    ]
    training = list(find("dialogue_eval").conversations(tmp_path / "dialogue-eval-acl22"))
    assert training == [talk("Hi", "hey", "Tea?", "A .")]


def test_fed(tmp_path: Path) -> None:
    turn = {"context": "User: Hi!\nSystem: Hey: you\nUser: Bye", "response": "System: Bye!", "system": "Meena"}
    dialogue = {"context": turn["context"], "system": "Human"}
    found = opened(
        tmp_path,
        "fed",
        fed_data=[
            turn | {"annotations": {"Overall": [4, 3], "Specific": ["N/A (what?)", 1]}},
            dialogue | {"annotations": {"Error recovery": ["N/A (No errors)"], "Overall": [1, 2]}},
            dialogue | {"annotations": {"Overall": ["N/A"]}},
        ],
    )
    assert [facts(item) for item in found.items] == [
        (talk("Hi!", "Hey: you", "Bye", "Bye!"), {"overall": 3.5, "specific": 1.0}, "turn", "Meena", "", ""),
        (talk("Hi!", "Hey: you"), {"overall": 1.5}, "dialogue", "Human", "Bye", ""),
    ]
    assert found.skipped == {"no rating": 1}


def test_usr(tmp_path: Path) -> None:
    row = {
        "source": "hi \n hello \n tea ? \n\n",
        "system_id": "Argmax",
        "system_output": "yes . ",
        "scores": {"x": 2.5},
    }
    found = opened(tmp_path, "usr_topicalchat", topical_chat=[row])
    assert list(map(facts, found.items)) == [
        (talk("hi", "hello", "tea ?", "yes ."), {"x": 2.5}, "turn", "Argmax", "", "")
    ]
    responses = [
        {"response": "yes\n", "model": "Seq2Seq", "Natural": [1, 2, 3], "Overall": [5, 5, 2]},
        {"response": " \n", "model": "Human", "Natural": [3], "Overall": [5]},
    ]
    found = opened(tmp_path, "usr_personachat", pc_usr_data=[{"context": "hi\nhello\n", "responses": responses}])
    ratings = {"natural": 2.0, "overall": 4.0}
    assert list(map(facts, found.items)) == [(talk("hi\nhello", "yes"), ratings, "turn", "Seq2Seq", "", "")]
    assert found.skipped == {"no response": 1}


def test_grade(tmp_path: Path) -> None:
    row = {"Dataset": "dailydialog_EVAL", "DialogModel": "ranker", "Context": "a|||b", "Response": "c"}
    found = opened(tmp_path, "grade", human_judgement=[row | {"HumanScores": "[1, 4]"}, row | {"HumanScores": "[]"}])
    expected = (talk("a\nb", "c"), {"coherence": 2.5}, "turn", "ranker", "", "dailydialog")
    assert ([facts(item) for item in found.items], found.skipped) == ([expected], {"no rating": 1})


def test_mtbench_single_score(tmp_path: Path) -> None:
    judged = {"question_id": 7, "model": "m", "score": 8.5}
    found = opened(
        tmp_path,
        "mtbench_single_score",
        question=[{"question_id": 7, "turns": ["a", "c"]}],
        ratings=[
            judged | {"turns": ["a"], "answers": ["b"]},
            judged | {"turns": ["a", "c"], "answers": ["b", "d"]},
            judged | {"turns": ["a", "c"], "answers": [" ", "d"]},
        ],
    )
    assert [facts(item) for item in found.items] == [
        (talk("a", "b"), {"overall": 8.5}, "turn", "m", "c", ""),
        (talk("a", "b", "c", "d"), {"overall": 8.5}, "turn", "m", "", ""),
    ]
    assert found.skipped == {"no response": 1}


def test_prometheus(tmp_path: Path) -> None:
    header = "Here is a previous dialogue between an assistant and an user. Generate a human preferable response."
    rated = {"response_source": "m", "orig_response": "d", "gpt4_score": [4, 5, 3]}
    found = opened(
        tmp_path,
        "prometheus",
        mt_bench_eval=[rated | {"orig_instruction": f"{header}\nUser: a\n\nAssistant:b\n\nUser: c\n\nAssistant: "}],
        vicuna_eval=[rated | {"orig_instruction": "Who?\nUser: me"}],
    )
    assert [facts(item) for item in found.items] == [
        (talk("a", "b", "c", "d"), {"overall": 4.0}, "turn", "m", "", "mt_bench"),
        (talk("Who?\nUser: me", "d"), {"overall": 4.0}, "turn", "m", "", "vicuna"),
    ]


def test_feedbackqa(tmp_path: Path) -> None:
    reference = {"section_headers": ["Masks", "At work"], "section_content": "Wear one."}
    row = {
        "question": "Mask?",
        "passage": {"reference": reference},
        "rating": ["Bad", "Excellent", "Could be Improved"],
    }
    rest: dict[str, list[Any]] = {f"{site}_test": [] for site in ("Australia", "CDC", "UK")}
    found = opened(tmp_path, "feedbackqa", WHO_test=[row], **rest)
    expected = (talk("Mask?", "Masks\nAt work\nWear one."), {"overall": (1 + 4 + 2) / 3}, "turn", "", "", "WHO")
    assert list(map(facts, found.items)) == [expected]


def test_alpaca_eval_systems(tmp_path: Path) -> None:
    folder = tmp_path / "alpaca-eval-ai-feedback"
    folder.mkdir()
    (folder / "leaderboard_alpaca_eval_1.csv").write_text(",win_rate,mode\nclaude,91.5,minimal\nphi-2,30.25,verified\n")
    row = {"instruction": "Who?", "output_1": "You.", "generator_1": "text_davinci_003", "preference": 2}
    outputs = (("Me.", "phi-2"), ("I.", "claude"), ("", "claude"), ("I.", "unheard-of"))
    annotations = [row | {"output_2": output, "generator_2": system} for output, system in outputs]
    found = opened(tmp_path, "alpaca_eval_systems", annotations=annotations)
    assert [facts(item) for item in found.items] == [
        (talk("Who?", "Me."), {"win rate": 30.25}, "turn", "phi-2", "", ""),
        (talk("Who?", "I."), {"win rate": 91.5}, "turn", "claude", "", ""),
    ]
    assert found.skipped == {"no response": 1, "no rating": 1}


@pytest.mark.parametrize(
    ("name", "record", "ratings"),
    [
        ("flask", {"query": "q", "response": "r", "human_score": [3, 4], "gpt4_score": None}, {"human": 3.5}),
        ("feedback_bench", {"orig_instruction": "q", "orig_response": "r", "orig_score": "4"}, {"overall": 4.0}),
        (
            "helpsteer",
            {"prompt": "q", "response": "r", "helpfulness": 3, "correctness": 4, "coherence": 2, "verbosity": 1},
            {"helpfulness": 3.0, "correctness": 4.0, "coherence": 2.0},
        ),
    ],
)
def test_ratings_of_the_hub(name: str, record: Mapping[str, Any], ratings: Mapping[str, float]) -> None:
    (item,) = find(name).from_records(iter([(HERE, record)]))
    assert facts(item) == (talk("q", "r"), ratings, "turn", "", "", "")


def test_mt_bench_votes() -> None:
    def votes() -> Records:
        for turn, winner in ((1, "model_a"), (1, "model_b"), (1, "tie"), (2, "model_a")):
            sides = {"conversation_a": ["q", "x", "q2", "x2"], "conversation_b": ["q", "y", "q2", "y2"]}
            yield (
                HERE,
                {"turn": turn, "winner": winner}
                | {side: [{"role": "user", "content": text} for text in said] for side, said in sides.items()},
            )

    *items, reason = find("mt_bench").from_records(votes())
    assert reason == "second turn"
    assert all(isinstance(item, Comparison) and item.prompt.turns == talk("q") for item in items)
    assert [(item.responses, item.preference) for item in items] == [(("x", "y"), p) for p in (1.0, 0.0, 0.5)]


@pytest.mark.parametrize("name", ["flask", "feedback_bench", "helpsteer", "mt_bench"])
def test_without_the_hub_there_is_one_line_why(name: str) -> None:
    (found,) = open_benchmarks(name, None)
    assert isinstance(found, Absent)
    assert "Hub" in found.reason
    assert "\n" not in found.reason


def test_a_row_of_another_form_is_named(tmp_path: Path) -> None:
    content = [{"agent": "agent_1", "message": "a", "turn_rating": "Superb"}]
    with pytest.raises(InputError, match=r"test_freq\.jsonl:2, field 'content\.0\.turn_rating': .*'Excellent'"):
        opened(tmp_path, "topical_chat", test_freq=[{"content": []}, {"content": content}])
    with pytest.raises(InputError, match=r"fed_data\.jsonl:1, field 'context': found the line 'Bot: Hi' \(allowed: .*"):
        opened(tmp_path, "fed", fed_data=[{"context": "Bot: Hi", "system": "x", "annotations": {"Overall": [1]}}])
    (tmp_path / "grade").mkdir()
    with pytest.raises(InputError, match="no file 'human_judgement'"):
        open_benchmarks("grade", tmp_path)


@real
@pytest.mark.parametrize("name", EVALUATED)
def test_the_real_sets(name: str) -> None:
    found = at_hand(name)
    assert all(sound(item) for item in found.items)
    if files := EVALUATED[name]:
        counts = json.loads((DATA / "index.json").read_text())[find(name).FOLDER]["files"]
        stated = sum(counts[file] for file in files) * RESPONSES_PER_ROW.get(name, 1)
        assert total(name) == stated
    if name in TRAINING:
        learned = list(find(name).conversations(DATA / find(name).FOLDER))
        assert all(in_turn(turns) for turns in learned)
        assert {facts(item)[0] for item in found.items}.isdisjoint(learned)


def sound(item: Item) -> bool:
    """Whether an item is a conversation in good order that ends with a response and has ratings."""
    assert isinstance(item, Rating)
    return in_turn(item.dialogue) and item.dialogue[-1].role == "assistant" and bool(item.ratings)


def in_turn(turns: Dialogue) -> bool:
    alternates = all(before.role != after.role for before, after in pairwise(turns))
    return turns[0].role == "user" and alternates and all(turn.content.strip() for turn in turns)


@real
def test_every_rating_of_real_chats_is_an_item_or_is_counted() -> None:
    stated = json.loads((DATA / "index.json").read_text())
    sizes = {name: stated[find(name).FOLDER]["files"] for name in TRAINING}
    chats_rated = sizes["convai2"]["data_volunteers.jsonl.gz"] + sizes["convai2"]["data_intermediate.jsonl.gz"]
    thumbs = sum(raw.count('"evaluation_score": ') - raw.count('"evaluation_score": null') for raw in texts("convai2"))
    assert total("convai2") == chats_rated + thumbs
    assert total("topical_chat") == sum(raw.count('"turn_rating": ') for raw in texts("topical_chat"))
    dialogues = sum(isinstance(item, Rating) and item.level == "dialogue" for item in at_hand("uss").items)
    training = sum(1 for _ in find("uss").conversations(DATA / find("uss").FOLDER))
    assert (dialogues, training) == (sum(sizes["uss"].values()) / 2,) * 2


def texts(name: str) -> Iterator[str]:
    """The evaluated files of a set as text."""
    for pattern in ("data_*.gz", "test_*.gz"):
        for path in (DATA / find(name).FOLDER).glob(pattern):
            yield gzip.decompress(path.read_bytes()).decode()


@cache
def at_hand(name: str) -> Benchmark:
    (found,) = open_benchmarks(name, DATA)
    assert isinstance(found, Benchmark)
    return found


def total(name: str) -> int:
    return len(at_hand(name).items) + sum(at_hand(name).skipped.values())
