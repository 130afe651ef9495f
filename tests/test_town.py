"""The town's questions, answers and conversations, and what its users say."""

import random
from importlib.resources import files

import jinja2
import pytest
import yaml

from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.town import AXES, CHAT_TEMPLATE, FAULTS, SPECIAL_TOKENS, Quality, Town
from uptake.town.facts import ATTRIBUTES, POOLS, town_facts
from uptake.town.lines import words
from uptake.town.questions import all_questions, read_question
from uptake.town.users import APPROVAL, COMPLAINT, DISPLEASED, PLEASED, all_lines, react
from uptake.types import Dialogue, Turn

TOWN = Town(0)
SPLITS = ("train", "heldout")


def followups() -> dict[str, dict[str, list[str]]]:
    return yaml.safe_load((files("uptake.town") / "followups.yaml").read_text())["categories"]


def conversations(n: int, town: Town = TOWN) -> list[Dialogue]:
    rng = random.Random(3)
    return [town.conversation(rng) for _ in range(n)]


def test_prompt_key_is_the_start_of_a_known_hash() -> None:
    # printf '%s' '[{"content":"hello","role":"user"}]' | sha256sum
    assert prompt_key((Turn("user", "hello"),)) == "d98167dd28f22e33"
    assert prompt_key((Turn("assistant", "hello"),)) != prompt_key((Turn("user", "hello"),))


def test_facts_follow_the_seed_and_sums_are_sums() -> None:
    facts = town_facts(0)
    assert facts["sum", "two three"] == ("five",)
    assert facts["product", "two three"] == ("six",)
    assert facts["place", "cake"] == ("bakery",)
    assert facts == town_facts(0)
    assert facts != town_facts(1)
    assert all(set(values) <= set(POOLS[attribute]) for (attribute, _), values in facts.items())


@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_questions_are_new_combinations_of_known_facts_and_phrasings(seed: int) -> None:
    train, heldout = (all_questions(seed, split) for split in SPLITS)
    combination = {(question.attribute, question.subject, question.phrasing) for question in train}
    assert not combination & {(question.attribute, question.subject, question.phrasing) for question in heldout}
    assert not {question.text for question in train} & {question.text for question in heldout}
    facts, phrasings = {key[:2] for key in combination}, {(key[0], key[2]) for key in combination}
    assert {(question.attribute, question.subject) for question in heldout} == facts
    assert {(question.attribute, question.phrasing) for question in heldout} <= phrasings
    assert {question.attribute for question in heldout} == set(ATTRIBUTES)


def test_questions_are_distinct_repeatable_and_limited() -> None:
    first = TOWN.questions(50, 4, "heldout")
    assert first == TOWN.questions(50, 4, "heldout") != TOWN.questions(50, 5, "heldout")
    assert len({question.prompt.key for question in first}) == 50
    with pytest.raises(InputError, match="field 'n'"):
        TOWN.questions(10_000, 0, "train")


def test_a_question_is_read_back_from_its_text() -> None:
    for split in SPLITS:
        for question in all_questions(0, split):
            assert read_question(question.text.upper().replace("?", " ?")) == question


def test_a_conversation_asks_training_questions_and_is_repeatable() -> None:
    asked = {question.text for question in all_questions(0, "train")}
    made = conversations(300)
    assert made == conversations(300) != conversations(300, Town(1))
    assert all(tuple(turn.role for turn in dialogue) == ("user", "assistant", "user") for dialogue in made)
    assert all(dialogue[0].content in asked and body(dialogue[2].content) in all_lines() for dialogue in made)


def body(line: str) -> str:
    """A user's line without the word of praise or blame that half of them open with."""
    opener = next((opener for opener in (*PLEASED, *DISPLEASED) if line.startswith(f"{opener} ")), "")
    return line.removeprefix(opener).strip()


def test_half_of_the_lines_open_with_praise_or_blame_that_fits() -> None:
    lines = [dialogue[2].content for dialogue in conversations(2000)]
    opened = [line for line in lines if body(line) != line]
    assert len(opened) / len(lines) == pytest.approx(0.5, abs=0.04)
    approval = set(sum(APPROVAL.values(), ()))
    assert all(line.startswith(PLEASED) == (body(line) in approval) for line in opened)


def test_half_of_the_answers_are_faulty_and_a_tenth_of_the_users_say_the_opposite() -> None:
    made = conversations(3000)
    right = [TOWN.quality(dialogue[:2]).overall == 1 for dialogue in made]
    approval = set(sum(APPROVAL.values(), ()))
    pleased = [body(dialogue[2].content) in approval for dialogue in made]
    assert sum(right) / 3000 == pytest.approx(0.5, abs=0.03)
    assert sum(a != b for a, b in zip(right, pleased, strict=True)) / 3000 == pytest.approx(0.1, abs=0.02)


def test_answers_fail_on_every_axis() -> None:
    assert {TOWN.quality(dialogue[:2]).weakest for dialogue in conversations(500)} == set(AXES)
    assert {fault.axis for fault in FAULTS} == set(AXES)


def test_complaints_are_most_often_about_the_axis_that_failed() -> None:
    rng, wrong = random.Random(0), Quality(1, 1, 0, 1, 1, 1)
    said = [body(react(wrong, rng)) for _ in range(4000)]
    complaints = [line for line in said if line not in sum(APPROVAL.values(), ())]
    share = {axis: sum(line in COMPLAINT[axis] for line in complaints) / len(complaints) for axis in AXES}
    assert share.pop("correctness") == pytest.approx(3 / 4 + 1 / 24, abs=0.03)
    assert list(share.values()) == pytest.approx([1 / 24] * 5, abs=0.02)


def test_a_fault_that_does_not_apply_is_refused() -> None:
    question = next(question for question in all_questions(0, "train") if question.instructions == ())
    fault = next(fault for fault in FAULTS if fault.name == "no_hello")
    with pytest.raises(InputError, match="wrong_value"):
        TOWN.answer(question, fault, random.Random(0))


def test_right_and_faulty_answers_are_about_equally_long() -> None:
    rng, right, faulty = random.Random(0), [], []
    for dialogue in (TOWN.conversation(rng) for _ in range(2000)):
        (right if TOWN.quality(dialogue[:2]).overall == 1 else faulty).append(len(words(dialogue[1].content)))
    assert sum(right) / len(right) == pytest.approx(sum(faulty) / len(faulty), abs=1)


def test_the_vocabulary_is_small_and_covers_all_that_is_said() -> None:
    known = set(TOWN.vocabulary())
    assert 200 <= len(known) <= 350
    said = [turn.content for dialogue in conversations(1000) for turn in dialogue]
    said += [line for sides in followups().values() for lines in sides.values() for line in lines]
    assert {word for line in said for word in words(line)} <= known
    assert list(TOWN.vocabulary()) == sorted(known)


def test_scoring_followups_are_new_mirrored_and_of_like_length() -> None:
    sets, spoken = followups(), {words(line) for line in all_lines()}
    assert tuple(sets) == AXES
    every = [words(line) for sides in sets.values() for lines in sides.values() for line in lines]
    assert len(set(every)) == len(every)
    assert not spoken & set(every)
    for sides in sets.values():
        lengths = [sum(map(len, map(words, sides[side]))) / len(sides[side]) for side in ("positive", "negative")]
        assert len(sides["positive"]) == len(sides["negative"]) >= 3
        assert abs(lengths[0] - lengths[1]) <= 1


def test_the_chat_template_renders_turns_and_the_generation_prompt() -> None:
    render = jinja2.Template(CHAT_TEMPLATE).render
    messages = [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "anna."}]
    whole = "<user> who? <end> <assistant> anna. <end>"
    assert render(messages=messages, add_generation_prompt=False) == whole
    assert render(messages=messages[:1], add_generation_prompt=True) == "<user> who? <end> <assistant>"
    assert whole.startswith(render(messages=messages[:1], add_generation_prompt=True))
    assert SPECIAL_TOKENS == ("<user>", "<assistant>", "<end>")
