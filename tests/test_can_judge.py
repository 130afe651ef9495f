"""A first look at a model on one's own rows, each figure by another road."""

import csv
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr
from tiny import WORDS, answered_records, pair_records, saved, sentence, tiny_llama, tiny_tokenizer, write_followups
from tiny import write_jsonl as write
from tiny_cli import Cli
from tiny_creatures import SURE, creature

from uptake.annotators.llm import LLMJudge
from uptake.data import read
from uptake.datasets import Rating
from uptake.errors import InputError
from uptake.evaluate.bootstrap import Estimate
from uptake.follow_up.actual import ActualFollowUpReward
from uptake.follow_up.reward import FollowUpReward
from uptake.follow_up.set import FollowUpSet
from uptake.models import LanguageModel
from uptake.tasks.can_judge import FirstLook, WayToJudge, _items, _sentence, can_judge
from uptake.types import Turn


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny_llama(tokenizer=tiny_tokenizer((*WORDS, "1", "2", "=")), max_position_embeddings=256)


@pytest.fixture
def followups(tmp_path: Path) -> FollowUpSet:
    return FollowUpSet.load(write_followups(tmp_path))


@pytest.fixture
def brief(tmp_path: Path) -> Path:
    path = tmp_path / "brief.txt"
    path.write_text("when {prompt} 1 {first} 2 {second}\nbread =")
    return path


def rows(folder: Path, records: list[dict[str, Any]]) -> list[Any]:
    return read(write(folder / "rows.jsonl", records))


def ways(found: FirstLook) -> dict[str, WayToJudge]:
    return {each.name: each for each in found.ways}


def answered(record: dict[str, Any], side: str) -> tuple[Turn, ...]:
    return Turn("user", record["prompt"]), Turn("assistant", record[side])


def test_pairs(lm: LanguageModel, followups: FollowUpSet, brief: Path, tmp_path: Path) -> None:
    records = pair_records(30, seed=1)  # which the two formats rank otherwise
    found = can_judge(rows(tmp_path, records), lm, followups=followups, instructions=brief)
    assert (found.truth, found.rows) == ("pairs", 30)
    assert list(ways(found)) == [
        *("follow-ups, chat", "follow-ups, role swap", "likelihood of the response", "length", "judge")
    ]
    for name, format in (("chat", "user_role"), ("role swap", "role_swap")):
        reward = FollowUpReward(lm, followups, format=format)  # type: ignore[arg-type]
        sides = [reward.score([answered(each, side) for each in records]).rewards for side in ("chosen", "rejected")]
        points = [(a > b) + (a == b) / 2 for a, b in zip(*map(list, sides), strict=True)]
        assert ways(found)[f"follow-ups, {name}"].estimate.value == pytest.approx(float(sum(points)) / 30)
    longer = [len(each["chosen"]) - len(each["rejected"]) for each in records]
    assert ways(found)["length"].estimate.value == sum((x > 0) + (x == 0) / 2 for x in longer) / 30
    judge = ways(found)["judge"]
    prompts = [row.prompt for row in rows(tmp_path, records)]
    texts = [(each["chosen"], each["rejected"]) for each in records]
    verdicts = LLMJudge.from_pretrained(lm, brief).compare(prompts, texts)
    assert judge.judged == sum(verdict.valid for verdict in verdicts)
    assert judge.judged + sum(judge.reasons.values()) == 30


def test_pairs_without_a_difference_are_no_rows(
    lm: LanguageModel, followups: FollowUpSet, brief: Path, tmp_path: Path
) -> None:
    records = pair_records(9)
    same = {**records[0], "rejected": f"{records[0]['chosen']} "}
    found = can_judge(rows(tmp_path, [same, *records]), lm, followups=followups, instructions=brief)
    differ = [each for each in records if each["chosen"].strip() != each["rejected"].strip()]
    assert found.rows == len(differ)
    with pytest.raises(InputError, match="every pair is blank on a side or the same response twice"):
        can_judge(rows(tmp_path, [same]), lm, followups=followups, instructions=brief)


def test_a_model_that_has_no_tokens_for_the_answers_is_no_judge(followups: FollowUpSet, tmp_path: Path) -> None:
    found = can_judge(rows(tmp_path, pair_records(6)), tiny_llama(max_position_embeddings=512), followups=followups)
    judge = ways(found)["judge"]
    assert (judge.estimate.value, judge.judged) == (None, 0)
    assert "1 and 2 are not single tokens that differ" in judge.estimate.reason
    assert "the best of 3 ways" in found.sentence


def test_ratings_and_what_people_said_next(lm: LanguageModel, followups: FollowUpSet, tmp_path: Path) -> None:
    rng = random.Random(0)
    records = [
        {
            "messages": [
                {"role": role, "content": sentence(rng)} for role in ("user", "assistant", "user", "assistant")
            ],
            "stars": [None, rng.randint(1, 5), None, rng.randint(1, 5)],
        }
        for _ in range(8)
    ]
    found = can_judge(rows(tmp_path, records), lm, ratings="stars", followups=followups)
    assert (found.truth, found.rows) == ("ratings", 16)
    stars = [float(each["stars"][place]) for place in (1, 3) for each in records]
    texts = [each["messages"][place]["content"] for place in (1, 3) for each in records]
    length = ways(found)["length"].estimate
    assert length.value == pytest.approx(spearmanr([len(text) for text in texts], stars).statistic)
    said = ways(found)["what people said next"]
    assert (said.judged, said.reasons) == (8, {"nobody answered this response": 8})
    talks = [[Turn(turn["role"], turn["content"]) for turn in each["messages"]] for each in records]
    actual = ActualFollowUpReward(FollowUpReward(lm, followups))
    scores = actual.score([tuple(talk[:2]) for talk in talks], [talk[2].content for talk in talks])
    assert said.estimate.value == pytest.approx(spearmanr(scores.rewards.tolist(), stars[:8]).statistic)
    assert "judge" not in ways(found)


def test_logs_are_measured_by_what_people_said_next(lm: LanguageModel, followups: FollowUpSet, tmp_path: Path) -> None:
    rng = random.Random(1)
    roles = ("user", "assistant", "user")
    records = [{"messages": [{"role": role, "content": sentence(rng)} for role in roles]} for _ in range(9)]
    found = can_judge(rows(tmp_path, records), lm, followups=followups)
    assert (found.truth, found.rows) == ("what people said next", 9)
    talks = [[Turn(turn["role"], turn["content"]) for turn in each["messages"]] for each in records]
    reward = FollowUpReward(lm, followups)
    dialogues = [tuple(talk[:2]) for talk in talks]
    heard = ActualFollowUpReward(reward).score(dialogues, [talk[2].content for talk in talks]).rewards.tolist()
    expected = spearmanr(reward.score(dialogues).rewards.tolist(), heard).statistic
    assert ways(found)["follow-ups, chat"].estimate.value == pytest.approx(expected)
    assert "what people said next" not in ways(found)
    assert "what people said next" in found.sentence


@pytest.mark.parametrize("key", ["label", "stars"])
def test_labels_and_ratings_of_single_responses(
    key: str, lm: LanguageModel, followups: FollowUpSet, tmp_path: Path
) -> None:
    records = [{**each, key: number % 3 == 0} for number, each in enumerate(answered_records(12))]
    ratings = None if key == "label" else key
    found = can_judge(rows(tmp_path, records), lm, ratings=ratings, followups=followups)
    expected = spearmanr([len(each["completion"]) for each in records], [each[key] for each in records]).statistic
    assert (found.truth, found.rows) == ("ratings", 12)
    assert ways(found)["length"].estimate.value == pytest.approx(expected)


def test_ratings_in_the_cells_of_a_table_are_those_of_the_log(tmp_path: Path) -> None:
    stars = [3, 4.5, None, True]
    records = [{**each, "stars": given} for each, given in zip(answered_records(4), stars, strict=True)]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ("prompt", "completion", "stars"))
        table.writeheader()
        table.writerows({**each, "stars": "" if each["stars"] is None else float(each["stars"])} for each in records)
    told: list[Any] = [_items(each, "stars")[0] for each in (read(tmp_path / "rows.csv"), rows(tmp_path, records))]
    assert [[item.ratings for item in items] for items in told] == [[{"rating": value} for value in (3, 4.5, 1)]] * 2
    wrong = rows(tmp_path, [*records, {**records[0], "stars": "good"}])
    with pytest.raises(InputError, match=r"rows.jsonl:5, field 'stars': found 'good' .*a number"):
        _items(wrong, "stars")


@pytest.mark.parametrize("key", ["label", "stars"])
def test_a_rated_response_has_its_tool_calls(key: str, tmp_path: Path) -> None:
    calls = [{"name": "look", "arguments": {"at": "bread"}}]
    response = {"role": "assistant", "content": "", "tool_calls": calls}
    given = rows(tmp_path, [{"prompt": "when ?", "completion": [response], key: True}])
    (item,) = _items(given, None if key == "label" else key)[0]
    assert isinstance(item, Rating)
    assert item.dialogue == (Turn("user", "when ?"), Turn("assistant", "", {"tool_calls": calls}))


def test_rows_are_drawn_by_the_seed(lm: LanguageModel, followups: FollowUpSet, brief: Path, tmp_path: Path) -> None:
    given = rows(tmp_path, pair_records(30))
    one, same, other = (
        can_judge(given, lm, followups=followups, instructions=brief, limit=10, seed=seed) for seed in (0, 0, 1)
    )
    assert one == same
    assert one.rows == other.rows == 10
    assert ways(one) != ways(other)


def test_a_model_that_was_tuned_on_follow_ups_is_asked_as_it_was(
    lm: LanguageModel, followups: FollowUpSet, brief: Path, tmp_path: Path
) -> None:
    card = {"follow_up": {"format": "role_swap", "history": "full", "request": "when ?"}}
    found = can_judge(rows(tmp_path, pair_records(6)), replace(lm, card=card), followups=followups, instructions=brief)
    assert [name for name in ways(found) if name.startswith("follow-ups")] == ["follow-ups, as tuned"]


@pytest.mark.parametrize(
    ("records", "ratings", "message"),
    [
        ([*pair_records(1), *answered_records(1)], None, "pairs and other rows in one file"),
        (answered_records(2), None, "no user turn follows a response"),
        (answered_records(2), "stars", "field 'stars': no response has a rating"),
    ],
)
def test_rows_that_cannot_be_measured(
    records: list[dict[str, Any]], ratings: str | None, message: str, lm: LanguageModel, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        can_judge(rows(tmp_path, records), lm, ratings=ratings)


# --- the sentence -----------------------------------------------------------------------------------------------------


def way(name: str, value: float | None, low: float | None = None, high: float | None = None) -> WayToJudge:
    return WayToJudge(name, Estimate(value, low, high, 60), 60, {})


@pytest.mark.parametrize(
    ("judge", "length", "message"),
    [
        ((0.7, 0.57, 0.8), 0.55, "On 60 rows this model can judge: the best of 2 ways, judge, has 70% (57% to 80%)"),
        ((0.7, 0.57, 0.8), 0.7, "On 60 rows this model judges no better than length: "),
        ((0.6, 0.47, 0.72), 0.5, "On 60 rows this model is not shown to judge better than chance: "),
        ((0.6, 0.5, 0.72), 0.5, "On 60 rows this model is not shown to judge better than chance: "),
    ],
)
def test_the_sentence(judge: tuple[float, float, float], length: float, message: str) -> None:
    ways_ = (way("direct", 0.5, 0.4, 0.6), way("length", length, 0.4, 0.8), way("judge", *judge))
    said = _sentence("pairs", ways_, 60)
    assert said.startswith(message)
    assert f"; length alone has {length:.0%} (40% to 80%) of pairs in people's order" in said


def test_the_sentence_of_ratings_and_of_nothing() -> None:
    found = (way("direct", 0.3, 0.1, 0.5), way("what people said next", 0.6, 0.4, 0.8))
    assert "the best of 1 ways, direct, goes with the ratings at +0.30 (+0.10 to +0.50)" in _sentence(
        "ratings", found, 9
    )
    assert _sentence("pairs", (way("direct", None),), 9).startswith("This model gave no figure")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    uptake = Cli(tmp_path, capsys, monkeypatch)
    saved(creature({"=": SURE}), tmp_path / "model")
    (tmp_path / "brief.txt").write_text("{prompt} A {first} B {second} Say one.\nBetter=")
    write(tmp_path / "pairs.jsonl", pair_records(8))
    before = sorted(tmp_path.iterdir())
    out = uptake("can-judge", "pairs.jsonl", "--model", "model", "--instructions", "brief.txt", "--limit", 6)
    lines = {
        cells[1].strip(): [*map(str.strip, cells[2:-1])] for row in out.splitlines() if len(cells := row.split("│")) > 4
    }
    assert lines["judge"][2:] == ["6 of 6", "0% of 6"]
    assert lines["length"][2] == "6 of 6"
    assert "judge: this judge goes by the place of a response" in out
    assert out.splitlines()[-1].startswith("On 6 rows this model ")
    assert sorted(tmp_path.iterdir()) == before
    assert "no such instructions" in uptake.fails("can-judge", "pairs.jsonl", "--model", "m", "--instructions", "none")
