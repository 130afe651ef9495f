"""Discovery of follow-ups: planted reactions are found on their side, and noise is not taken for one."""

import random
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from uptake.errors import InputError
from uptake.follow_up.discovery import Discover, _p, first_sentence, rare_words, topic_words, vectors
from uptake.follow_up.rating_regression import _spread, rating_regression

GLAD = ("Thanks, great!", "Great, thanks!", "Thanks a lot, great.", "Great thanks.")
CROSS = ("I already told you.", "I told you already.", "I already told you that.", "You know I already told you.")
NEUTRAL = (
    *("Where is the station?", "Where is the bakery?", "Where is the museum?", "Where is the hotel?"),
    *("Do you like music?", "Do you like cats?", "Do you like tea?", "Do you like films?"),
)


def log(count: int, seed: int = 0, effect: float = 1.0) -> tuple[list[str], list[float], list[int]]:
    """Turns of three kinds, two a conversation, with ratings that follow the kind by so much."""
    rng = random.Random(seed)
    kinds = [(GLAD, effect), (CROSS, -effect), (NEUTRAL, 0.0)]
    drawn = [rng.choice(kinds) for _ in range(count)]
    said = [f"{rng.choice(texts)} And then there is another matter, as it were." for texts, _ in drawn]
    return said, [value + rng.gauss(0, 0.3) for _, value in drawn], [place // 2 for place in range(count)]


def test_planted_reactions_are_found_on_their_side() -> None:
    found = Discover(clusters=8)(*log(200))
    assert found.positive
    assert found.negative
    assert {each.text for each in found.positive} <= set(GLAD)
    assert {each.text for each in found.negative} <= set(CROSS)
    for each in (*found.positive, *found.negative):
        assert each.turns >= each.conversations >= 5
        assert (each.above > 0) == (each in found.positive)
        assert each.text not in each.examples


FILMS = ("Captain Marvel", "The Lion King", "Toy Story", "Frozen", "Jaws", "Alien", "Titanic", "Casablanca")


def about_films(count: int) -> tuple[list[str], list[float], list[int], list[str]]:
    """Conversations about a film each; who is offered one by name takes it, or thanks, or complains."""
    rng = random.Random(0)
    columns: tuple[list[str], list[float], list[int], list[str]] = ([], [], [], [])
    for talk in range(count):
        film = rng.choice(FILMS)
        said, rating = rng.choice([(f"{film} sounds good.", 1.0), ("Thanks, great!", 1.0), ("That is wrong.", -1.0)])
        row = said, rating + rng.gauss(0, 0.1), talk, f"That is what to see tonight?\nHow about {film}?"
        for column, value in zip(columns, row, strict=True):
            column.append(value)  # type: ignore[arg-type]
    return columns


def test_what_names_the_topic_is_not_proposed() -> None:
    said, signal, talks, before = about_films(300)
    without = Discover(clusters=10)(said, signal, talks)
    assert any("sounds good" in each.text for each in without.positive)
    found = Discover(clusters=10)(said, signal, talks, before)
    assert [each.text for each in found.positive] == ["Thanks, great!"]
    # Words that come up before any turn name nothing.
    assert [each.text for each in found.negative] == ["That is wrong."]
    assert found.dropped["clusters that are about a topic"] >= 1
    assert without.dropped["clusters that are about a topic"] == 0


def test_words_that_are_taken_up() -> None:
    texts = ["Jaws please", "Jaws please", "Alien please", "no thanks", "the usual"]
    before = ["see Jaws", "see Alien or Jaws", "see Alien", "see Jaws, please", "see the Alien"]
    # "jaws" was there before both who say it, and before 3 of 5 in all: 2/5 more; "alien" 1 against 3/5 likewise.
    assert topic_words(texts, before) == {"the"}
    assert topic_words(texts, ["Jaws", "Jaws", "Alien", "no", "x"]) == {"jaws", "alien", "no"}


def test_words_that_few_conversations_have() -> None:
    texts, talks = ["so it is", "so it was", "so be it", "was it ?"], [0, 0, 1, 2]
    assert rare_words(texts, talks, 2) == {"is", "be", "?"}
    assert rare_words(texts, talks, 3) == {"is", "be", "?", "so", "was"}


def test_a_name_that_few_conversations_have_is_not_proposed() -> None:
    """Of a cluster, the next sentence without such a word is."""
    said, signal, talks = log(200)
    glad = [place for place, text in enumerate(said) if text.startswith("Great thanks.")]
    for place, name in zip(glad, ("Ann", "Bo", "Cy", "Di"), strict=False):
        said[place] = f"Great thanks {name}."
    found = Discover(clusters=8, each=9)(said, signal, talks)
    assert found.positive
    assert {each.text for each in found.positive} <= set(GLAD)


def test_noise_is_no_reaction() -> None:
    """Where nothing has an effect, one log in ten may show one: four of ten are as good as impossible (1 %)."""
    logs = [Discover(clusters=8)(*log(100, seed, effect=0.0)) for seed in range(10)]
    assert sum(bool(found.positive or found.negative) for found in logs) <= 3


def test_the_opposite_signal_swaps_the_sides() -> None:
    said, signal, talks = log(200)
    one, other = (
        Discover(clusters=8)(said, signal, talks),
        Discover(clusters=8)(said, [-each for each in signal], talks),
    )
    assert [each.text for each in one.positive] == [each.text for each in other.negative]
    assert [each.above for each in one.negative] == pytest.approx([-each.above for each in other.positive])


def test_everything_left_out_is_counted() -> None:
    said, signal, talks = log(200)
    long = ["a sentence that goes on and on until nobody would call it a reaction any more"] * 7
    few = Discover(clusters=8, most=1)(said + long, signal + [0.0] * 7, [*talks, *range(900, 907)])
    every = Discover(clusters=8, each=2)(said, signal, talks)
    assert few.dropped["turns that begin with a long sentence"] == 7
    assert (len(few.positive), len(few.negative)) == (1, 1)
    telling = len(every.positive) + len(every.negative) + every.dropped["sentences that repeat another's"]
    lost = ("clusters of too few conversations", "clusters that tell nothing for sure")
    assert telling <= 2 * (every.clusters - sum(every.dropped[reason] for reason in lost))


def test_one_conversation_is_one_witness() -> None:
    """A hundred happy turns of one conversation are no support, and do not move p."""
    said, signal, talks = log(60, effect=0.0)
    found = Discover(clusters=6)([*said, *["Wonderful!"] * 100], [*signal, *[9.0] * 100], [*talks, *[999] * 100])
    assert "Wonderful!" not in {each.text for each in found.positive}


def test_sentences_with_numbers_or_placeholders_are_not_proposed() -> None:
    said, signal, talks = log(200)
    numbered = [text.replace("told you", "told you 5 times") for text in said]
    found = Discover(clusters=8)(numbered, signal, talks)
    assert not [each.text for each in found.negative if "5" in each.text]
    assert found.positive


def test_p_is_that_of_students_test() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, 9), rng.normal(1, 1, 30)
    assert _p(one, other) == pytest.approx(float(ttest_ind(one, other).pvalue), rel=1e-12)
    alike = np.ones(5)
    assert _p(alike, alike) == 1.0
    # Five thumbs up of five, where half of all are up, are no wonder; Welch's test would call them one in 10^30.
    assert 0.01 < _p(alike, np.tile([0.0, 1.0], 50)) < 0.06


def test_alike_sentences_are_near() -> None:
    places = vectors(["thanks a lot", "Thanks a lot!", "that is wrong", "where is it"])
    near = places @ places.T
    assert near[0, 1] > max(near[0, 2], near[0, 3])
    assert np.diag(near) == pytest.approx(np.ones(4))


def test_ratings_of_many_turns_are_read_off_as_many_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest ten of a clear kind are of that kind, whoever of it is compared with, and none of the own fold."""
    said, _, talks = log(400)
    glad = [text.split(" And then")[0] in GLAD for text in said]
    ratings = [None if place % 3 else float(good) for place, good in enumerate(glad)]
    whole = rating_regression(said, ratings, talks)
    monkeypatch.setattr("uptake.follow_up.rating_regression.MOST", 60)
    found = rating_regression(said, ratings, talks)
    for each in (whole, found):
        assert each == pytest.approx(np.array(glad, dtype=np.float64))
    other = [rating if rating is None or talk != 9 else 1000.0 for rating, talk in zip(ratings, talks, strict=True)]
    assert other != ratings
    changed = np.flatnonzero(rating_regression(said, other, talks) != found)
    assert len(changed)
    assert 9 not in {talks[row] for row in changed}


def test_as_many_turns_as_may_be_are_spread_over_all() -> None:
    assert _spread(np.arange(20_000)).tolist() == list(range(20_000))
    rows = _spread(np.arange(50_001) * 2)
    assert (len(rows), rows[0], rows.max()) == (20_000, 0, 2 * (50_001 * 19_999 // 20_000))
    assert set(np.diff(rows)) == {4, 6}


@pytest.mark.parametrize(
    ("turn", "first"),
    [
        ("Thanks! When does it open?", "Thanks!"),
        ("that\u2019s  wrong\nI said nine", "that's wrong"),
        ("\u8c22\u8c22\u3002\u518d\u89c1\u3002", "\u8c22\u8c22\u3002"),
        ("  ok", "ok"),
        ("x" * 81, ""),
        ("", ""),
    ],
)
def test_first_sentences(turn: str, first: str) -> None:
    assert first_sentence(turn) == first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clusters": 1}, "field 'clusters': 1"),
        ({"support": 1}, "field 'support': 1"),
        ({"each": 0}, "field 'each': 0"),
        ({"wrong": 1.0}, "field 'wrong': 1.0"),
    ],
)
def test_settings_out_of_range(settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Discover(**settings)


def test_too_little_to_discover_in() -> None:
    with pytest.raises(InputError, match=r"short turns of users in 3 conversations \(allowed: at least 10"):
        Discover()(*log(6))
    said, _, talks = log(100)
    with pytest.raises(InputError, match="the signal is the same for all turns"):
        Discover()(said, [1.0] * 100, talks)
