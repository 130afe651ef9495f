"""The town's questions, answers and conversations, and what its users say."""

import random
from collections import Counter
from functools import cache
from importlib.resources import files
from itertools import combinations

import jinja2
import pytest
import yaml

from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.town import AXES, CHAT_TEMPLATE, FAULTS, SPECIAL_TOKENS, Quality, Town
from uptake.town.answers import rumour, truth
from uptake.town.facts import ATTRIBUTES, DRAWN, POOLS, Attribute, subjects, town_facts, town_rumours, untold
from uptake.town.lines import words
from uptake.town.questions import SPLITS, all_questions, questions_about, read_question
from uptake.town.reading import Claim, read, sentences
from uptake.town.users import APPROVAL, COMPLAINT, DISPLEASED, PLEASED, all_lines, react
from uptake.types import Dialogue, Turn

TOWN = Town(0)
MANY = 12000


def followups() -> dict[str, dict[str, list[str]]]:
    return yaml.safe_load((files("uptake.town") / "followups.yaml").read_text())["categories"]


@cache
def conversations(n: int, town: Town = TOWN) -> tuple[Dialogue, ...]:
    rng = random.Random(3)
    return tuple(town.conversation(rng) for _ in range(n))


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


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rumours_are_false_and_every_value_is_one_as_often_as_it_is_true(seed: int) -> None:
    facts, rumours = town_facts(seed), town_rumours(seed)
    assert rumours == town_rumours(seed) != town_rumours(seed + 1)
    for attribute in ATTRIBUTES:
        names = subjects(attribute)
        true, told = (Counter(value for name in names for value in said[attribute, name]) for said in (facts, rumours))
        wrong = {len({*facts[attribute, name]} ^ {*rumours[attribute, name]}) for name in names}
        assert wrong == {2}, "one value for another, in lists too"
        assert set(true) == set(told) or attribute == "sells"
        assert true == told or attribute == "sells"


@pytest.mark.parametrize("seed", [0, 1])
def test_questions_kept_back_are_new_combinations_of_known_phrasings_and_facts(seed: int) -> None:
    train, *kept_back = (all_questions(seed, split) for split in SPLITS)
    every = [question.text for split in SPLITS for question in all_questions(seed, split)]
    assert len(set(every)) == len(every)
    combination = {(question.attribute, question.subject, question.phrasing) for question in train}
    facts, phrasings = {key[:2] for key in combination}, {(key[0], key[2]) for key in combination}
    assert {attribute for attribute, _ in facts} == set(ATTRIBUTES)
    for questions in kept_back:
        assert not combination & {(question.attribute, question.subject, question.phrasing) for question in questions}
        assert {(question.attribute, question.subject) for question in questions} == facts | untold(seed)
        assert {(question.attribute, question.phrasing) for question in questions} <= phrasings


@pytest.mark.parametrize("seed", [0, 1])
def test_nobody_speaks_of_what_is_untold(seed: int) -> None:
    assert Counter(attribute for attribute, _ in untold(seed)) == dict.fromkeys(DRAWN, 1)
    asked = {(question.attribute, question.subject) for question in all_questions(seed, "train")}
    assert not asked & untold(seed)
    made = conversations(MANY if seed == 0 else 4000, Town(seed))
    claimed = {claim[:2] for dialogue in made for claim in claims(dialogue)}
    assert asked <= claimed
    assert not claimed & untold(seed)


def claims(dialogue: Dialogue) -> list[tuple[Attribute, str, tuple[str, ...]]]:
    """What an answer says of the town: attribute, subject and values."""
    question = read_question(dialogue[0].content)
    heard = (read(sentence, question) for sentence in sentences(words(dialogue[1].content)))
    return [(claim.attribute, claim.subject, claim.values) for claim in heard if isinstance(claim, Claim)]


def test_the_wrong_value_is_said_as_often_as_the_right_one_whatever_the_form() -> None:
    """So the likelihood of an answer cannot tell them apart."""
    counts: Counter[tuple[bool, str, bool]] = Counter()
    for dialogue in conversations(MANY):
        question = read_question(dialogue[0].content)
        forms = "one word" if len(words(dialogue[1].content)) == 2 else "sentences"
        for attribute, subject, values in claims(dialogue)[:1]:
            if (attribute, subject) == (question.attribute, question.subject):
                for known, given in ((True, truth(0, question)), (False, rumour(0, question))):
                    counts[question.attribute == "sells", forms, known] += values in (given, given[::-1])
    for listed, forms in ((False, "one word"), (False, "sentences"), (True, "sentences")):
        true, told = counts[listed, forms, True], counts[listed, forms, False]
        # Three deviations of a fair coin.
        assert true + told > 500
        assert abs(true - told) < 3 * (true + told) ** 0.5


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
    rng = random.Random(3)
    assert made == tuple(TOWN.conversation(rng) for _ in range(300)) != conversations(300, Town(1))
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


def test_a_tenth_of_the_users_say_the_opposite() -> None:
    made = conversations(3000)
    right = [TOWN.quality(dialogue[:2]).overall == 1 for dialogue in made]
    approval = set(sum(APPROVAL.values(), ()))
    pleased = [body(dialogue[2].content) in approval for dialogue in made]
    assert 0.1 < sum(right) / 3000 < 0.2
    assert sum(a != b for a, b in zip(right, pleased, strict=True)) / 3000 == pytest.approx(0.1, abs=0.02)


def test_faults_are_made_as_often_as_they_say() -> None:
    """A question to which nothing but a few faults apply: the share of answers with none is the product."""
    asked = [question for question in questions_about(0, "train", "sum") if question.asks("one_word")]
    shares = {fault.name: fault.share for fault in TOWN.faults(asked[0])}
    assert shares.keys() == {"wrong_value", "not_one_word", "vague"}
    made = [dialogue for dialogue in conversations(MANY) if read_question(dialogue[0].content) in asked]
    right = sum(TOWN.quality(dialogue[:2]).overall == 1 for dialogue in made)
    expected = (1 - 0.5) * (1 - 0.5) * (1 - 0.15)
    deviation = (expected * (1 - expected) / len(made)) ** 0.5
    assert len(made) > 200
    assert right / len(made) == pytest.approx(expected, abs=3 * deviation)


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
    assert sum(right) / len(right) == pytest.approx(sum(faulty) / len(faulty), abs=2)


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


def test_scoring_followups_differ_from_what_users_say_by_more_than_marks() -> None:
    """By words without punctuation, with the opener that a user may put before a line: by two words in five."""
    spoken = [
        content(f"{opener} {line}")
        for openers, group in ((PLEASED, APPROVAL), (DISPLEASED, COMPLAINT))
        for lines in group.values()
        for line in lines
        for opener in ("", *openers)
    ]
    for sides in followups().values():
        for line in (content(line) for lines in sides.values() for line in lines):
            assert max(len({*line} & {*other}) / len({*line} | {*other}) for other in spoken) <= 0.6, line
            assert max(longest_run(line, other) for other in spoken) <= 5, line


def content(text: str) -> tuple[str, ...]:
    return tuple(word for word in words(text) if word.isalnum())


def longest_run(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """The number of words in a row that both have."""
    runs = ({text[i:j] for i, j in combinations(range(len(text) + 1), 2)} for text in (one, other))
    return max(map(len, set.intersection(*runs)), default=0)


def test_the_chat_template_renders_turns_and_the_generation_prompt() -> None:
    render = jinja2.Template(CHAT_TEMPLATE).render
    messages = [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "anna."}]
    whole = "<user> who? <end> <assistant> anna. <end>"
    assert render(messages=messages, add_generation_prompt=False) == whole
    assert render(messages=messages[:1], add_generation_prompt=True) == "<user> who? <end> <assistant>"
    assert whole.startswith(render(messages=messages[:1], add_generation_prompt=True))
    assert SPECIAL_TOKENS == ("<user>", "<assistant>", "<end>")
