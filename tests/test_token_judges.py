"""Marks on texts as rewards of tokens, the town's oracle as a judge of tokens, and what becomes of judgements."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import one_group, tiny_llama, tiny_world

from uptake.data import ChatFormat
from uptake.data.response_tokens import rollout_offsets
from uptake.errors import InputError
from uptake.examples.edit_labels import EditLabels
from uptake.examples.edits import EditedRows
from uptake.judge.registry import reward_spec
from uptake.methods.town_model import init_town_model
from uptake.models.init import byte_tokenizer
from uptake.rewards.base import RewardSpec
from uptake.rewards.function import FromFunction, Rewards
from uptake.rewards.oracle_tokens import OracleTokens
from uptake.signal.grouped import Grouped
from uptake.support.keys import prompt_key
from uptake.town import Town
from uptake.types import Dropped, Edited, Judgement, Prompt, Rollout, Span, Turn, Where
from uptake.world import World


def judged(world: World, by: RewardSpec, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
    """What a reward says of rollouts as the judge of a recipe."""
    return one_group(by)(world, rollouts)


# --- marks on texts ---------------------------------------------------------------------------------------------------


def marked(text: str, spans: Sequence[Span], ended: bool = True, spelled: str | None = None) -> Sequence[float]:
    """What the tokens of a response of bytes get from a function that marks its text."""
    tokenizer = byte_tokenizer(["the cat sat on the mat, the cat sat"] * 3, vocabulary=300)
    own = tuple(tokenizer(text if spelled is None else spelled, add_special_tokens=False)["input_ids"])
    end = (int(tokenizer.eos_token_id),) if ended else ()
    rollout = Rollout(Prompt((), ""), (1,), own + end, text, finished=ended)
    lm = tiny_llama(tokenizer=tokenizer)
    world = World(lm, ChatFormat.of(tokenizer))
    (judgement,) = judged(world, FromFunction(lambda _: Rewards(spans=spans)), [rollout])
    return judgement.tokens


@pytest.mark.parametrize("text", ["The cat sat.", "Grüße, 你好!", "a 👩‍👩‍👧 b", "  two  blanks ", "x\n\ny"])
@pytest.mark.parametrize("ended", [True, False])
def test_marks_keep_their_sum(text: str, ended: bool) -> None:
    for span in (Span(0, len(text), 3.0), Span(0, 1, 1.0), Span(1, 1, -0.5)):
        assert sum(marked(text, [span, span], ended)) == pytest.approx(2 * span.score, abs=1e-12)


def test_what_is_missing_at_the_end_costs_the_end_if_there_is_one() -> None:
    assert marked("The cat sat.", [Span(12, 12, -1.0)])[-1] == -1
    assert set(marked("The cat sat.", [Span(12, 12, -1.0)], ended=False)) == {0.0}


def test_what_is_missing_before_a_character_costs_its_first_byte() -> None:
    """Four bytes, of which the first is said where the missing words should be."""
    assert marked("😀!", [Span(0, 0, -1.0), Span(0, 1, 2.0)]) == (-0.5, 0.5, 0.5, 0.5, 0.0, 0.0)


@pytest.mark.parametrize("span", [Span(3, 2, 1), Span(-1, 2, 1), Span(0, 13, 1), Span(0, 1, float("nan"))])
def test_a_mark_that_is_not_on_the_text(span: Span) -> None:
    with pytest.raises(InputError, match="span"):
        marked("The cat sat.", [span])


def test_tokens_of_another_text() -> None:
    with pytest.raises(InputError, match="the tokens spell 'the', the response is 'The cat'"):
        marked("The cat", [Span(0, 3, 1.0)], spelled="the")


# --- the oracle ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> World:
    lm = init_town_model(width=32, layers=1)
    return World(lm, ChatFormat.of(lm))


def answers(world: World, faulty: bool) -> list[Rollout]:
    town, rng = Town(), random.Random(0)
    made = []
    for question in town.questions(12, 0, "train"):
        for fault in town.faults(question) if faulty else (None,):
            text = town.answer(question, fault, rng)
            turns = question.prompt.turns
            prompt_ids, ids = world.chat.response_ids(turns, text)
            made.append(Rollout(Prompt(turns, prompt_key(turns)), prompt_ids, ids, text, True, sample=len(made)))
    return made


def test_right_answers_cost_nothing(world: World) -> None:
    for rollout, judgement in zip(
        answers(world, False), judged(world, OracleTokens(), answers(world, False)), strict=True
    ):
        assert judgement.tokens == (0.0,) * len(rollout.response_ids)


def test_faulty_words_cost_one_each(world: World) -> None:
    """In the town a word is a token, so the values are marks on words, an omission's on the next or on the end."""
    town, rollouts = Town(), answers(world, True)
    for rollout, judgement in zip(rollouts, judged(world, OracleTokens(), rollouts), strict=True):
        marks = town.faulty_words((*rollout.prompt.turns, Turn("assistant", rollout.response)))
        assert judgement.score == sum(judgement.tokens) == pytest.approx(-len(marks))
        places = rollout_offsets(world.policy.tokenizer, rollout)
        starts = {mark.start for mark in marks}
        for value, (start, stop) in zip(judgement.tokens, places, strict=True):
            assert (value < 0) == any(start <= mark < stop for mark in starts)


def test_labels_of_an_edit_are_the_marks_of_the_oracle(world: World) -> None:
    """Two roads to the same faults: comparing the tokens of an answer and its edit, and the words the oracle marks."""
    town, rng = Town(), random.Random(0)
    for question in town.questions(48, 1, "train"):
        for fault in town.faults(question):
            text = town.answer(question, fault, rng)
            edit = town.minimal_edit((*question.prompt.turns, Turn("assistant", text)))
            row = Edited(question.prompt, text, edit)
            (derived,) = EditedRows(EditLabels(from_start=True))(replace(world, rows=[row]), 0).examples
            rollout = Rollout(question.prompt, (), tuple(derived.response.ids), text, finished=True)
            (marked,) = judged(world, OracleTokens(), [rollout])
            assert tuple(derived.response.labels) == marked.tokens


def test_shuffled_marks_are_the_same_marks_elsewhere(world: World) -> None:
    rollouts = answers(world, True)
    plain, shuffled = judged(world, OracleTokens(), rollouts), judged(world, OracleTokens(shuffled=True), rollouts)
    assert shuffled == judged(world, OracleTokens(shuffled=True), rollouts)
    assert shuffled != plain
    for one, other in zip(plain, shuffled, strict=True):
        assert sorted(one.tokens) == sorted(other.tokens)
        assert one.tokens[-1] == other.tokens[-1]


def test_an_answer_to_another_question_is_invalid(world: World) -> None:
    rollout = replace(answers(world, False)[0], prompt=Prompt((Turn("user", "Who is there?"),), ""))
    assert not judged(world, OracleTokens(), [rollout])[0].valid


def test_rewards_by_name(world: World) -> None:
    """Every reward of dialogues can be the judge, and a judge of tokens counts by its sum."""
    rollouts = answers(world, True)
    quality = [Town().quality((*each.prompt.turns, Turn("assistant", each.response))).overall for each in rollouts]
    assert [each.score for each in judged(world, reward_spec("oracle"), rollouts)] == quality
    assert [each.score for each in judged(world, reward_spec("length"), rollouts)] == [
        len(each.response) for each in rollouts
    ]
    assert judged(world, reward_spec("oracle_tokens"), rollouts) == judged(world, OracleTokens(), rollouts)


def test_models_of_the_world_as_rewards(tmp_path: Path) -> None:
    policy = tiny_llama()
    models = {"judge": tiny_llama(seed=1), "reference": policy, "follow_up": tiny_llama(seed=2)}
    surroundings = tiny_world(tmp_path, [], lm=policy, models=models)
    turns = (Turn("user", "when ?"),)
    prompt_ids, ids = surroundings.chat.response_ids(turns, "at eight .")
    rollouts = [Rollout(Prompt(turns, ""), prompt_ids, ids, "at eight .", True)]
    scores = {
        name: judged(surroundings, reward_spec(name), rollouts)[0].score for name in ("direct", "implicit", "follow_up")
    }
    assert scores["direct"] < 0
    assert scores["implicit"] != 0
    assert len(set(scores.values())) == 3


# --- what becomes of judgements --------------------------------------------------------------------------------------


def judgements(*given: Any) -> Any:
    where = Where(Path("prompts.jsonl"), 3)
    prompts = [Prompt((Turn("user", name),), name, where) for name in "aab"]
    rollouts = [Rollout(prompt, (1,), (4, 2), "x", place != 1, sample=place) for place, prompt in enumerate(prompts)]
    return [tuple(rollouts[:2]), tuple(rollouts[2:])], [given[:2], given[2:]]


def test_responses_to_one_prompt_are_one_example() -> None:
    found = Grouped("token")(*judgements(*(Judgement(-1.0, tokens=(-1.0, 0.0)),) * 3))
    assert [len(each) for each in found.examples] == [2, 1]
    assert found.summary["kept"] == 3
    kept = Grouped("token", keep_unfinished=False)(*judgements(*(Judgement(-1.0, tokens=(-1.0, 0.0)),) * 3))
    assert kept.summary["dropped"] == {"unfinished": 1}
    (whole, _) = Grouped()(*judgements(*(Judgement(-1.0, tokens=(-1.0, 0.0)),) * 3)).examples
    assert [judgement.tokens for _, judgement in whole] == [(), ()]
    assert [judgement.score for _, judgement in whole] == [-1.0, -1.0]
    assert [judgement.tokens for _, judgement in found.examples[0]] == [(-1.0, 0.0)] * 2


def test_invalid_and_empty_responses_are_counted() -> None:
    (two, (one,)), said_ = judgements(Judgement(1.0), Judgement(0.0, reason=Dropped.TOO_LONG), Judgement(1.0))
    found = Grouped()([two, (replace(one, response_ids=()),)], said_)
    assert found.summary["dropped"] == {"longer than the window": 1, "empty": 1}
    assert len(found.examples) == 1


@pytest.mark.parametrize(
    ("judgement", "problem"),
    [
        (Judgement(0.0), "0 rewards for 2 tokens"),
        (Judgement(0.0, tokens=(1.0, 1.0, 1.0)), "3 rewards for 2 tokens"),
        (Judgement(0.0, tokens=(1.0, float("inf"))), "a reward of inf"),
    ],
)
def test_a_wrong_number_of_values_names_the_row(judgement: Judgement, problem: str) -> None:
    with pytest.raises(InputError, match=rf"prompts\.jsonl:3.*sample 0 of prompt a: {problem}"):
        Grouped("token")(*judgements(judgement, judgement, judgement))
