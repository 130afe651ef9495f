"""The town's oracle: quality, faulty words and minimal edit of any text."""

import random
from functools import cache

import pytest

from uptake.errors import InputError
from uptake.town import AXES, FAULTS, Fault, Quality, Question, Town
from uptake.town.answers import right_drafts
from uptake.town.edits import distance
from uptake.town.facts import town_facts
from uptake.town.lines import words
from uptake.town.questions import SPLITS, all_questions
from uptake.types import Dialogue, Turn

TOWN = Town(0)
QUESTIONS = tuple(question for split in SPLITS for question in all_questions(0, split))
BAKERY = Question("opens", "bakery", 0)
HOUR = town_facts(0)["opens", "bakery"][0]
RIGHT = f"the bakery opens at {HOUR}. have a lovely day!"


def answered(question: Question, response: str) -> Dialogue:
    return (*question.prompt.turns, Turn("assistant", response))


def quality(question: Question, response: str) -> Quality:
    return TOWN.quality(answered(question, response))


def overall(response: str, question: Question = BAKERY) -> float:
    return quality(question, response).overall


def edited(text: str, marks: tuple[slice, ...]) -> tuple[str, ...]:
    """The words of `text` outside its faulty words."""
    for mark in reversed(marks):
        text = f"{text[: mark.start]} {text[mark.stop :]}"
    return words(text)


def is_subsequence(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    rest = iter(whole)
    return all(word in rest for word in part)


def test_every_right_answer_is_perfect() -> None:
    for question in QUESTIONS[::3]:
        for draft in right_drafts(0, question):
            dialogue = answered(question, draft.text)
            assert TOWN.quality(dialogue) == Quality(1, 1, 1, 1, 1, 1)
            assert TOWN.faulty_words(dialogue) == ()
            assert TOWN.minimal_edit(dialogue) == draft.text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_lowers_its_own_axis_most_and_its_edit_is_perfect(fault: Fault) -> None:
    rng = random.Random(0)
    for question in [question for question in QUESTIONS if fault.applies(0, question)][::7]:
        response = TOWN.answer(question, fault, rng)
        scores = quality(question, response)
        assert scores.weakest == fault.axis
        assert scores.scores[fault.axis] < min(1, *(s for axis, s in scores.scores.items() if axis != fault.axis))
        assert scores.overall < 0.75
        dialogue = answered(question, response)
        edit, marks = TOWN.minimal_edit(dialogue), TOWN.faulty_words(dialogue)
        assert overall(edit, question) == 1
        assert marks
        assert is_subsequence(edited(response, marks), words(edit))


def test_faulty_words_and_edit_by_hand() -> None:
    wrong = "seven" if HOUR != "seven" else "eight"
    text = f"the bakery opens at {wrong}. have a lovely day!"
    assert [text[mark] for mark in TOWN.faulty_words(answered(BAKERY, text))] == [wrong]
    assert TOWN.minimal_edit(answered(BAKERY, text)) == RIGHT
    shouted = f"The Bakery  opens at {HOUR} . Have a day!"
    day = shouted.index("day")
    assert TOWN.faulty_words(answered(BAKERY, shouted)) == (slice(day, day),)
    greeted = Question("opens", "bakery", 0, ("goodbye",))
    # The last "!" may end the answer or come after "goodbye"; that nothing follows shows at the end alone.
    assert TOWN.faulty_words(answered(greeted, RIGHT)) == (slice(len(RIGHT), len(RIGHT)),)
    assert TOWN.minimal_edit(answered(greeted, RIGHT)) == f"{RIGHT} goodbye!"


def test_what_is_said_twice_is_a_fault_the_second_time() -> None:
    """Instead of the first claim an opener could stand, six words away as well; it could still have become right."""
    claim = f"the bakery opens at {HOUR}."
    twice = answered(BAKERY, f"{claim} {claim}")
    assert TOWN.minimal_edit(twice) == f"{claim} have a lovely day!"
    assert [mark.start >= len(claim) for mark in TOWN.faulty_words(twice)] == [True] * 6


def test_scores_by_hand() -> None:
    assert quality(BAKERY, f"{HOUR}.") == Quality(1, 1, 1, 0.4, 1, 1)
    assert overall(f"{HOUR}.") == pytest.approx((0.4 + 5.4 / 6) / 2)
    assert quality(Question("opens", "bakery", 0, ("one_word",)), f"{HOUR}.").overall == 1
    florist = town_facts(0)["opens", "florist"][0]
    assert quality(BAKERY, f"the florist opens at {florist}. have a lovely day!") == Quality(1, 0, 1, 1, 1, 1)
    assert quality(BAKERY, f"the florist opens at {HOUR}. have a lovely day!") == Quality(1, 0, 0, 1, 1, 1)
    assert quality(BAKERY, "the bakery opens at some time. have a lovely day!") == Quality(1, 1, 1, 1, 0.2, 1)
    assert quality(BAKERY, "what do you mean? have a lovely day!") == Quality(0, 0.2, 0.2, 1, 0.2, 1)
    # Nothing opens at a colour: the sentence has no meaning, and says less than a wrong hour.
    assert quality(BAKERY, "the bakery opens at red. have a lovely day!").informativeness < 0.2
    half = f"{RIGHT} the bakery opens at red flowers have six."
    assert quality(BAKERY, half).understanding == pytest.approx(len(words(RIGHT)) / len(words(half)))


@pytest.mark.parametrize(
    "response",
    ["", "  ", "the", "bread bread bread", "lovely the at . ! ?", "the bakery opens at", "flibber 12 %%", "..."],
)
def test_gibberish_and_fragments_score_low_and_can_be_mended(response: str) -> None:
    for question in QUESTIONS[::40]:
        dialogue = answered(question, response)
        assert TOWN.quality(dialogue).overall < 0.3
        assert overall(TOWN.minimal_edit(dialogue), question) == 1
        assert TOWN.faulty_words(dialogue)


def test_rambling_after_a_right_answer_lowers_quality_more_and_more() -> None:
    for more in (RIGHT, "have a lovely day!", "hello!", "the bakery is here.", "it may rain today.", "bread"):
        scores = [overall(" ".join((RIGHT, *(more,) * times))) for times in range(4)]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) == 4
        assert scores[1] < 0.95


def test_hedging_does_not_pay() -> None:
    every = " ".join(f"the bakery opens at {hour}." for hour in ("six", "seven", "eight", "nine"))
    assert overall(f"{every} have a lovely day!") < overall("the bakery opens at some time. have a lovely day!")


def test_only_right_answers_are_perfect() -> None:
    rng, vocabulary = random.Random(0), TOWN.vocabulary()
    for question in rng.sample(QUESTIONS, 100):
        right = {words(draft.text) for draft in right_drafts(0, question)}
        said = list(rng.choice(sorted(right)))
        at = rng.randrange(len(said))
        changes = (said[:at] + said[at + 1 :], [*said[:at], rng.choice(vocabulary), *said[at + 1 :]], said[::-1])
        for change in changes:
            text = " ".join(change)
            assert (overall(text, question) == 1) == (words(text) in right)


def test_scores_stay_between_0_and_1_and_edits_are_nearest() -> None:
    rng, vocabulary = random.Random(1), TOWN.vocabulary()
    for question in rng.sample(QUESTIONS, 60):
        text = " ".join(rng.choices(vocabulary, k=rng.randrange(12)))
        scores = quality(question, text)
        assert all(0 <= scores.scores[axis] <= 1 for axis in AXES)
        best = min(levenshtein(words(text), words(draft.text)) for draft in right_drafts(0, question))
        assert levenshtein(words(text), words(TOWN.minimal_edit(answered(question, text)))) == best


def levenshtein(source: tuple[str, ...], target: tuple[str, ...]) -> int:
    """The recursive definition."""

    @cache
    def least(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        change = least(i - 1, j - 1) + (source[i - 1] != target[j - 1])
        return min(change, least(i - 1, j) + 1, least(i, j - 1) + 1)

    return least(len(source), len(target))


def test_distance_by_hand() -> None:
    assert distance("kitten", "sitting") == 3
    assert (distance("", "ab"), distance("ab", ""), distance("", "")) == (2, 2, 0)


def test_a_change_that_fits_in_several_places_stands_in_the_last() -> None:
    (mark,) = TOWN.faulty_words(answered(BAKERY, RIGHT.replace("bakery", "bakery bakery")))
    assert mark == slice(11, 17)


def test_the_oracle_judges_the_last_answer_and_refuses_what_it_cannot_judge() -> None:
    earlier = (*answered(BAKERY, "no idea"), Turn("user", BAKERY.text.upper()), Turn("assistant", RIGHT))
    assert TOWN.quality(earlier).overall == 1
    with pytest.raises(InputError, match="not a question of the town"):
        TOWN.quality((Turn("user", "who are you?"), Turn("assistant", "me.")))
    with pytest.raises(InputError, match="user's question, then its answer"):
        TOWN.quality(BAKERY.prompt.turns)
