"""Marks on texts and the tokens they fall on, and the town's oracle as a judge of tokens."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_llama, tiny_world
from transformers import PreTrainedTokenizerBase

from uptake.data import ChatFormat
from uptake.errors import InputError
from uptake.feedback.edit_labels import EditLabels
from uptake.feedback.oracle_tokens import OracleTokens
from uptake.feedback.placing import intervals, spread
from uptake.feedback.scored import reward
from uptake.keys import prompt_key
from uptake.methods.town_model import newborn
from uptake.models.fresh import byte_tokenizer
from uptake.rollout.edited import EditedRows
from uptake.signal.grouped import Grouped
from uptake.town import Town
from uptake.types import Edited, Judgement, Prompt, Rollout, Span, Turn, Where
from uptake.world import World

CAT = "The cat sat."
ONE = [(0, 3), (3, 7), (7, 11), (11, 12), (12, 13)]
OTHER = [(0, 2), (2, 5), (5, 8), (8, 12), (12, 13)]


@pytest.mark.parametrize(
    ("span", "one", "other"),
    [
        (Span(4, 7, -1), (0, -1, 0, 0, 0), (0, -1 / 3, -2 / 3, 0, 0)),
        (Span(5, 9, -1), (0, -0.5, -0.5, 0, 0), (0, 0, -0.75, -0.25, 0)),
        (Span(7, 7, -1), (0, 0, -1, 0, 0), (0, 0, -1, 0, 0)),
        (Span(12, 12, -1), (0, 0, 0, 0, -1), (0, 0, 0, 0, -1)),
    ],
)
def test_a_mark_is_shared_by_its_tokens(span: Span, one: Sequence[float], other: Sequence[float]) -> None:
    assert spread([span], ONE, CAT) == pytest.approx(one)
    assert spread([span], OTHER, CAT) == pytest.approx(other)
    assert spread([span, span], ONE, CAT) == pytest.approx([2 * value for value in one])


def test_a_mark_after_a_text_that_was_cut_off_falls_nowhere() -> None:
    assert spread([Span(12, 12, -1)], ONE[:-1], CAT) == [0] * 4


@pytest.mark.parametrize("span", [Span(3, 2, 1), Span(-1, 2, 1), Span(0, 13, 1), Span(0, 1, float("nan"))])
def test_a_mark_that_is_not_on_the_text(span: Span) -> None:
    with pytest.raises(InputError, match="spans"):
        spread([span], ONE, CAT)


def said(
    tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int] | None = None, ended: bool = True
) -> Rollout:
    own = tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if ids is None else tuple(ids)
    end = (int(tokenizer.eos_token_id),) if ended else ()
    return Rollout(Prompt((), ""), (1,), own + end, text, finished=ended)


@pytest.mark.parametrize("text", ["The cat sat.", "Grüße, 你好!", "a 👩‍👩‍👧 b", "", "  two  blanks ", "x\n\ny"])
@pytest.mark.parametrize("ended", [True, False])
def test_tokens_of_a_byte_vocabulary_cover_the_text(text: str, ended: bool) -> None:
    """As the tokenizer's own offsets say, whichever pieces it has."""
    tokenizer = byte_tokenizer(["the cat sat on the mat, the cat sat"] * 3, vocabulary=300)
    found = intervals(tokenizer, said(tokenizer, text, ended=ended))
    wanted = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    assert found == [tuple(each) for each in wanted] + ([(len(text), len(text) + 1)] if ended else [])
    for span in (Span(0, len(text), 3.0), Span(0, min(1, len(text)), 1.0)):
        lost = not ended and not text
        assert sum(spread([span], found, text)) == pytest.approx(0 if lost else span.score, abs=1e-12)


def test_tokens_that_the_tokenizer_would_not_have_chosen() -> None:
    tokenizer = byte_tokenizer(["the cat"] * 9, vocabulary=300)
    pieces = tokenizer.convert_tokens_to_ids(list("the"))
    assert len(tokenizer("the")["input_ids"]) < len(pieces)
    assert intervals(tokenizer, said(tokenizer, "the", pieces))[:-1] == [(0, 1), (1, 2), (2, 3)]


def test_tokens_of_another_text() -> None:
    tokenizer = byte_tokenizer(["the cat"] * 9, vocabulary=300)
    with pytest.raises(InputError, match="the tokens spell"):
        intervals(tokenizer, replace(said(tokenizer, "the cat"), response="the dog"))


# --- the oracle ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> World:
    lm = newborn(width=32, layers=1)
    return World(lm, ChatFormat.of(lm.tokenizer))


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
    for rollout, judgement in zip(answers(world, False), OracleTokens()(world, answers(world, False)), strict=True):
        assert judgement.tokens == (0.0,) * len(rollout.response_ids)


def test_faulty_words_cost_one_each(world: World) -> None:
    """In the town a word is a token, so the values are marks on words, an omission's on the next or on the end."""
    town, rollouts = Town(), answers(world, True)
    for rollout, judgement in zip(rollouts, OracleTokens()(world, rollouts), strict=True):
        marks = town.faulty_words((*rollout.prompt.turns, Turn("assistant", rollout.response)))
        assert judgement.score == sum(judgement.tokens) == pytest.approx(-len(marks))
        places = intervals(world.policy.tokenizer, rollout)
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
            old, new = EditedRows()(replace(world, rows=[row]), [row], 0, 0)
            derived, _ = EditLabels(from_start=True)(world, [old, new])
            (marked,) = OracleTokens()(world, [replace(old, prompt=question.prompt)])
            assert derived.tokens == marked.tokens


def test_shuffled_marks_are_the_same_marks_elsewhere(world: World) -> None:
    rollouts = answers(world, True)
    plain, shuffled = OracleTokens()(world, rollouts), OracleTokens(shuffled=True)(world, rollouts)
    assert shuffled == OracleTokens(shuffled=True)(world, rollouts)
    assert shuffled != plain
    for one, other in zip(plain, shuffled, strict=True):
        assert sorted(one.tokens) == sorted(other.tokens)
        assert one.tokens[-1] == other.tokens[-1]


def test_an_answer_to_another_question_is_invalid(world: World) -> None:
    rollout = replace(answers(world, False)[0], prompt=Prompt((Turn("user", "Who is there?"),), ""))
    assert not OracleTokens()(world, [rollout])[0].valid


def test_rewards_by_name(world: World) -> None:
    """Every reward of dialogues can be the judge, and a judge of tokens counts by its sum."""
    rollouts = answers(world, True)
    quality = [Town().quality((*each.prompt.turns, Turn("assistant", each.response))).overall for each in rollouts]
    assert [each.score for each in reward("oracle")(world, rollouts)] == quality
    assert [each.score for each in reward("length")(world, rollouts)] == [len(each.response) for each in rollouts]
    assert reward("oracle_tokens")(world, rollouts) == OracleTokens()(world, rollouts)


def test_models_of_the_world_as_rewards(tmp_path: Path) -> None:
    policy = tiny_llama()
    models = {"judge": tiny_llama(seed=1), "reference": policy, "follow_up": tiny_llama(seed=2)}
    surroundings = tiny_world(tmp_path, [], lm=policy, models=models)
    turns = (Turn("user", "when ?"),)
    prompt_ids, ids = surroundings.chat.response_ids(turns, "at eight .")
    rollouts = [Rollout(Prompt(turns, ""), prompt_ids, ids, "at eight .", True)]
    scores = {name: reward(name)(surroundings, rollouts)[0].score for name in ("direct", "implicit", "follow_up")}
    assert scores["direct"] < 0
    assert scores["implicit"] != 0
    assert len(set(scores.values())) == 3


# --- what becomes of judgements --------------------------------------------------------------------------------------


def judgements(*given: Any) -> Any:
    where = Where(Path("prompts.jsonl"), 3)
    prompts = [Prompt((Turn("user", name),), name, where) for name in "aab"]
    rollouts = [Rollout(prompt, (1,), (4, 2), "x", place != 1, sample=place) for place, prompt in enumerate(prompts)]
    return rollouts, list(given)


def test_responses_to_one_prompt_are_one_example() -> None:
    found = Grouped("token")(*judgements(*(Judgement(-1.0, tokens=(-1.0, 0.0)),) * 3))
    assert [len(each.rollouts) for each in found.examples] == [2, 1]
    assert found.summary["kept"] == 3
    kept = Grouped("token", keep_unfinished=False)(*judgements(*(Judgement(-1.0, tokens=(-1.0, 0.0)),) * 3))
    assert kept.summary["dropped"] == {"unfinished": 1}
    (whole, _) = Grouped()(*judgements(*(Judgement(-1.0, tokens=(-1.0, 0.0)),) * 3)).examples
    assert whole.judgements[0].tokens == ()


def test_invalid_and_empty_responses_are_counted() -> None:
    rollouts, said_ = judgements(Judgement(1.0), Judgement(0.0, valid=False, reason="too long"), Judgement(1.0))
    rollouts[2] = replace(rollouts[2], response_ids=())
    found = Grouped()(rollouts, said_)
    assert found.summary["dropped"] == {"too long": 1, "empty": 1}
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
