"""Follow-up sets: the authoring rules of the one that ships, and what the loader takes, mends and refuses."""

import json
import re
from copy import deepcopy
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml

from uptake.errors import InputError
from uptake.follow_up.set import Category, FollowUpSet

CATEGORIES = ["understanding", "relevance", "correctness", "engagingness", "informativeness", "following"]
FIRST_PERSON = {"i", "i'm", "me", "my"}
NUMBERS = {"one", "two", "three", "four", "five", "ten", "first", "second", "third", "once", "twice", "half"}
CONTENT = {
    "name": "small",
    "version": 3,
    "language": "en",
    "categories": {
        "b": {"weight": 2, "positive": ["I like it.", "It helps me!"], "negative": ["I do not like it."]},
        "a": {"negative": ["I don't get it."]},
    },
}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content, sort_keys=False))
    return path


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


@pytest.fixture(scope="module")
def shipped() -> FollowUpSet:
    return FollowUpSet.load(strict=True)


def test_shipped_set_has_six_categories_of_ten_and_ten(shipped: FollowUpSet) -> None:
    assert (shipped.name, shipped.version, shipped.language) == ("default-en", 1, "en")
    assert [category.name for category in shipped.categories] == CATEGORIES
    assert {(len(category.positive), len(category.negative)) for category in shipped.categories} == {(10, 10)}
    assert {category.weight for category in shipped.categories} == {1.0}
    assert len(shipped.sentences) == 120


def test_shipped_sentences_are_short_plain_and_said_by_a_user(shipped: FollowUpSet) -> None:
    for text in shipped.sentences:
        assert text.isascii(), text
        assert re.fullmatch(r"[A-Z][A-Za-z', ]+[.!]", text), text
        assert 3 <= len(text.split()) <= 10, text
        assert FIRST_PERSON & set(words(text)), text
        assert not NUMBERS & set(words(text)), text


def test_shipped_sentences_are_unique_but_for_case_and_punctuation(shipped: FollowUpSet) -> None:
    assert len({" ".join(words(text.replace("'", ""))) for text in shipped.sentences}) == 120


def test_shipped_sides_are_equally_long(shipped: FollowUpSet) -> None:
    """In words, as no tokenizer is at hand: within one word in the mean, and within two for each mirrored pair."""
    for part in shipped.categories:
        sides = [[len(text.split()) for text in side] for side in (part.positive, part.negative)]
        assert abs(mean(sides[0]) - mean(sides[1])) < 0.5, part.name
        assert all(abs(p - n) <= 2 for p, n in zip(*sides, strict=True)), part.name


def test_shipped_pairs_mirror_each_other(shipped: FollowUpSet) -> None:
    """Positive and negative of a place share words, so that the effect of the sentence's frame cancels."""
    for category in shipped.categories:
        for positive, negative in zip(category.positive, category.negative, strict=True):
            shared = set(words(positive)) & set(words(negative))
            assert len(shared) >= 2, (positive, negative)


def test_the_short_set_is_a_fifth_of_the_default_one(shipped: FollowUpSet) -> None:
    """Two pairs of every category, in their order, with sides as equally long."""
    short = FollowUpSet.load("short-en")
    assert (short.name, len(short.sentences)) == ("short-en", 24)
    for few, all_ in zip(short.categories, shipped.categories, strict=True):
        assert few.name == all_.name
        places = [all_.positive.index(text) for text in few.positive]
        assert places == [all_.negative.index(text) for text in few.negative]
        assert places == sorted(set(places))
        lengths = [sum(len(words(text)) for text in side) / 2 for side in (few.positive, few.negative)]
        assert abs(lengths[0] - lengths[1]) <= 0.5
    assert FollowUpSet.load("default-en") == shipped


def test_sentences_stand_in_the_order_of_the_columns(tmp_path: Path) -> None:
    small = FollowUpSet.load(write(tmp_path / "s.json", CONTENT))
    assert list(small.sentences) == ["I like it.", "It helps me!", "I do not like it.", "I don't get it."]
    for category, columns in zip(small.categories, small.columns, strict=True):
        assert small.sentences[columns.positive] == category.positive
        assert small.sentences[columns.negative] == category.negative
    assert small.categories[0].weight == 2.0


def test_yaml_and_json_give_the_same_set_and_fingerprint(tmp_path: Path) -> None:
    sets = [FollowUpSet.load(write(tmp_path / f"s{suffix}", CONTENT)) for suffix in (".yaml", ".yml", ".json")]
    assert sets[0] == sets[1] == sets[2]
    assert len({one.fingerprint for one in sets}) == 1
    assert re.fullmatch("[0-9a-f]{16}", sets[0].fingerprint)


@pytest.mark.parametrize(
    ("old", "new"), [("I like it.", "I like it!"), ('"version": 3', '"version": 4'), ('"weight": 2', '"weight": 1')]
)
def test_any_change_of_content_changes_the_fingerprint(tmp_path: Path, old: str, new: str) -> None:
    changed = json.loads(json.dumps(CONTENT).replace(old, new))
    one, other = (
        FollowUpSet.load(write(tmp_path / "a.json", CONTENT)),
        FollowUpSet.load(write(tmp_path / "b.json", changed)),
    )
    assert one.fingerprint != other.fingerprint


def with_b(**side: list[str]) -> dict[str, Any]:
    """The content with another category b, in a copy of its own, which a test may change."""
    content: dict[str, Any] = deepcopy(CONTENT)
    content["categories"]["b"] = side
    return content


def test_curly_quotes_become_straight_with_a_count(tmp_path: Path) -> None:
    path = write(tmp_path / "s.yaml", with_b(positive=["It\u2019s what I need.", "\u201cYes\u201d, I say.", "I do."]))
    with pytest.warns(UserWarning, match=r"s\.yaml: 2 .*curly quotes"):
        assert FollowUpSet.load(path).sentences[:3] == ("It's what I need.", '"Yes", I say.', "I do.")
    with pytest.raises(InputError, match=r"s\.yaml: 2 .*curly quotes"):
        FollowUpSet.load(path, strict=True)


def test_repetitions_are_removed_with_a_count(tmp_path: Path) -> None:
    """Across sides and categories too, and where only case, blanks, punctuation or the kind of quote differ."""
    twice = with_b(positive=["I like it.", " i  LIKE it! "], negative=["I dont get it", "I hate it."])
    path = write(tmp_path / "s.yaml", twice)
    with (
        pytest.raises(InputError, match=r"s\.yaml, field 'categories.a': no follow-ups"),
        pytest.warns(match="2 .*repeat"),
    ):
        FollowUpSet.load(path)
    twice["categories"]["a"]["positive"] = ["I am glad."]
    write(path, twice)
    with pytest.warns(UserWarning, match=r"s\.yaml: 2 .*repeat"):
        assert FollowUpSet.load(path).sentences == ("I like it.", "I dont get it", "I hate it.", "I am glad.")
    with pytest.raises(InputError, match=r"s\.yaml: 2 .*repeat"):
        FollowUpSet.load(path, strict=True)


def test_other_scripts_keep_their_signs(tmp_path: Path) -> None:
    """Vowel signs are no letters to a regular expression, but two words that differ in them are two words."""
    different = ["\u092e\u0941\u091d\u0947 \u0915\u0940", "\u092e\u0941\u091d\u0947 \u0915\u093e"]
    assert FollowUpSet.load(write(tmp_path / "s.json", with_b(positive=different))).sentences[:2] == tuple(different)


def only_b(**keys: object) -> dict[str, object]:
    return {**CONTENT, "categories": {"b": keys}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**CONTENT, "author": "me"}, "field 'author': unknown key .*name, version, language, categories"),
        (
            only_b(positives=["I like it."]),
            "field 'categories.b.positives': unknown key .*weight, positive, negative",
        ),
        ({key: CONTENT[key] for key in ("name", "version", "categories")}, "field 'language'"),
        ({**CONTENT, "language": False}, "field 'language'"),
        ({**CONTENT, "version": "new"}, "field 'version'"),
        ({**CONTENT, "categories": {}}, "field 'categories': nothing to score by .*at least one"),
        (only_b(), "field 'categories.b': no follow-ups"),
        (only_b(positive="I like it."), "field 'categories.b.positive'"),
        (only_b(positive=["I like it.", 3]), "field 'categories.b.positive.1'"),
        (only_b(positive=["  "]), "field 'categories.b.positive.0'"),
        (only_b(positive=["I like it."], weight=-1), "field 'categories.b.weight': -1"),
        (only_b(positive=["I like it."], weight=0), "field 'categories': nothing to score by"),
        (["I like it."], "no follow-up set .*the keys name, version, language, categories"),
    ],
)
@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_what_is_not_in_the_format_is_refused(tmp_path: Path, suffix: str, content: object, message: str) -> None:
    with pytest.raises(InputError, match=rf"set{suffix}.*{message}"):
        FollowUpSet.load(write(tmp_path / f"set{suffix}", content))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.txt", "name: x", r"s\.txt: .*'\.txt'.*\.yaml, \.yml, \.json"),
        ("s.json", '{"name": ', "cannot be parsed"),
        ("s.yaml", "name: [", "cannot be parsed"),
        ("s.yaml", "name: x\nname: y", "keys written twice: name"),
        ("s.json", '{"name": "x", "name": "y"}', "keys written twice: name"),
    ],
)
def test_files_that_cannot_be_read_say_why(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        FollowUpSet.load(tmp_path / name)


def test_a_missing_or_undecodable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.yaml: cannot be read"):
        FollowUpSet.load(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: caf\u00e9".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml: cannot be parsed"):
        FollowUpSet.load(tmp_path / "latin.yaml")


def test_one_sided_categories_are_welcome() -> None:
    only = FollowUpSet("x", 1, "en", (Category("p", 1.0, ("I like it.",), ()), Category("n", 1.0, (), ("I do not.",))))
    assert list(chain.from_iterable(only.columns)) == [slice(0, 1), slice(1, 1), slice(1, 1), slice(1, 2)]


def test_a_follow_up_on_both_sides_is_an_error(tmp_path: Path) -> None:
    """Kept on its first side only, it would turn complaints into praise."""
    path = write(tmp_path / "s.yaml", with_b(positive=["It is wrong."], negative=["it is wrong"]))
    problem = "field 'categories.b': 'it is wrong' is positive in one place and negative in another"
    with pytest.raises(InputError, match=problem):
        FollowUpSet.load(path)
