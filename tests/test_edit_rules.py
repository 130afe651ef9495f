"""What counts as an edit and what is taken as a minimal one: by hand, by the goldens of the method, on real edits."""

import gzip
import json
import os
import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from uptake.data import ChatFormat
from uptake.edits.canonical import canonical
from uptake.edits.edit import Draft
from uptake.edits.rules import Rules
from uptake.edits.runs import aligned
from uptake.edits.units import Tokens, Words, pieces
from uptake.errors import InputError
from uptake.support.keys import prompt_key
from uptake.town.edits import distance
from uptake.types import Prompt, Turn

DATA = Path(os.environ.get("UPTAKE_DATA", Path(__file__).parents[2] / "shared" / "data"))
TURNS = (Turn("user", "when ?"),)
PROMPT = Prompt(TURNS, prompt_key(TURNS))

# "Books" without its half space and with it; a consonant cluster apart and joined; a word that ends with a joiner.
PERSIAN, HALF_SPACE = "کتابها", "کتاب\u200cها"  # noqa: RUF001
SINHALA, SINHALA_JOINED = "\u0d9a\u0dca\u0dc2", "\u0d9a\u0dca\u200d\u0dc2"
CHILLU = "\u0d05\u0d35\u0d28\u0d4d\u200d"

FAMILY = "👨\u200d👩\u200d👧"


@dataclass(frozen=True)
class Letters:
    """One unit a character, as in the goldens."""

    fingerprint: str = "letters"

    def __call__(self, prompt: Prompt, text: str, finished: bool) -> Sequence[Hashable]:
        return [*text, *("$" if finished else "")]


LETTERS = Rules(units=Letters())


def check(response: str, edited: str, finished: bool = True, rules: Rules = LETTERS) -> tuple[str, float]:
    checked = rules(Draft(PROMPT, response, finished=finished), edited)
    return checked.reason, checked.ratio


@pytest.mark.parametrize(
    ("response", "edited", "expected"),
    [
        ("“Yes,” she said.", '"Yes," she said.', "“Yes,” she said."),
        ("it's", "it\u2019s", "it's"),
        ("5\u00a0km", "5 km", "5\u00a0km"),
        ("a\r\nb", "a\nb", "a\r\nb"),
        ("a\nb", "a\r\nb", "a\nb"),
        ("cafe\u0301", "caf\u00e9", "cafe\u0301"),
        ("한글", "\u1112\u1161\u11ab글", "한글"),
        ("ab", "a\u200bb\ufeff", "ab"),
        ("a\u200bb", "ab", "a\u200bb"),
        ("a \nb \n", "a\nb", "a \nb \n"),
        (" a", "\na\n", " a"),
        # Only what is the same takes the response's form; the edit itself stays.
        ("“Yes,” she said.", '"No," she said.', "“No,” she said."),
        ("it\u2019s 5\u00a0km", "it's 6 km 'now'", "it\u2019s 6\u00a0km 'now'"),
        ("a.\n", "a. b.", "a. b.\n"),
        ("👨🚀", "👨\u200d🚀", "👨🚀"),
        ("👨", "👨\u200d🚀", "👨\u200d🚀"),
        ("אב גד", "אב\u200cגד", "אב\u200cגד"),
        # Joiners are seen in scripts whose letters join, and nowhere else.
        ("אבגד", "אב\u200cגד", "אבגד"),
        (PERSIAN, HALF_SPACE, HALF_SPACE),
        (HALF_SPACE, PERSIAN, PERSIAN),
        (f"{PERSIAN} a\u200cb", f"{HALF_SPACE} ab", f"{HALF_SPACE} a\u200cb"),
        (f"\u200c{PERSIAN}\u200c.", f"{PERSIAN}.", f"\u200c{PERSIAN}\u200c."),
        (PERSIAN, f"{PERSIAN}\u200c", PERSIAN),
        (SINHALA, SINHALA_JOINED, SINHALA_JOINED),
        (CHILLU[:-1], CHILLU, CHILLU),
        (f"{CHILLU[:-1]}\n", CHILLU, f"{CHILLU}\n"),
        ("Yes", "yes", "yes"),
        ("a  b", "a b", "a b"),
        ("  indented", "indented", "  indented"),
        ("x\n  indented", "x\nindented", "x\nindented"),
        ("abc", "", ""),
        ("abc", " \n", ""),
    ],
)
def test_spelling(response: str, edited: str, expected: str) -> None:
    assert canonical(response, edited) == expected


APOSTROPHE = "\u2019"
PARTS = [
    "a",
    "b",
    "C",
    "é",
    "e\u0301",
    "o\u0302",
    "'",
    APOSTROPHE,
    '"',
    "“",
    "”",
    " ",
    "\u00a0",
    "\n",
    "\r\n",
    "\u200b",
    "漢",
]
PARTS += ["한", "\u1112\u1161\u11ab", FAMILY, "👍🏽", "שלום", "word", "9"]
texts = st.lists(st.sampled_from(PARTS), max_size=25).map("".join)


def seen(text: str) -> str:
    """What is left of a text when all that is not an edit is taken away."""
    for zero in "\u200b\u200c\u200d\u2060\ufeff":
        text = text.replace(zero, "")
    for curly, plain in (APOSTROPHE + "'", '“"', '”"', "\u00a0 "):
        text = text.replace(curly, plain)
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip(" ") for line in lines).strip()


@pytest.mark.parametrize(("fault", "right"), [(PERSIAN, HALF_SPACE), (SINHALA, SINHALA_JOINED), (CHILLU[:-1], CHILLU)])
def test_a_joiner_that_is_seen_is_a_correction_like_any_other(fault: str, right: str) -> None:
    """One of two words is replaced, and the end is kept, whichever way the correction goes."""
    for old, new in ((fault, right), (right, fault)):
        assert check(f"ab {old}", f"ab {new}", rules=Rules()) == ("", pytest.approx(1 / 3))
    assert pieces(f"ab {right}.") == ["ab", f" {right}", "."]
    assert pieces(f"{right}{right}") == [f"{right}{right}"]


@given(texts, texts)
def test_spelling_changes_nothing_that_is_seen(response: str, edited: str) -> None:
    found = canonical(response, edited)
    assert seen(found) == seen(edited)
    assert canonical(response, found) == found


@given(texts.filter(seen), st.sampled_from(["NFC", "NFD"]), st.sampled_from(["\n", "\r\n"]))
def test_typing_is_no_edit(response: str, form: str, end: str) -> None:
    typed = unicodedata.normalize(form, response).replace("“", '"').replace(APOSTROPHE, "'").replace("\u00a0", " ")
    typed = typed.replace("\r\n", "\n").replace("\n", end) + " " + end
    assert canonical(response, typed) == response
    assert check(response, typed) == ("no_edit", 0.0)


def test_long_texts() -> None:
    """A local change is found in any length; what is far apart is no longer told apart, but nothing of it is lost."""
    words = [f"“w{place}”" for place in range(5_000)]
    typed = [word.strip("“”") for word in words]
    plain = [f'"{word}"' for word in typed]
    response, edited = " ".join(words), " ".join(typed[::-1])
    local = canonical(response, " ".join([*plain[:9], '"other"', *plain[10:]]))
    assert local == " ".join([*words[:9], "“other”", *words[10:]])
    assert canonical(response, edited) == edited


@pytest.mark.parametrize(
    ("response", "edited", "expected"),
    [
        ("abc", "abc", ("no_edit", 0.0)),
        ("abc", "aXc", ("", 0.25)),
        ("abXc", "abc", ("", 0.2)),
        ("ac", "abc", ("", 0.25)),
        ("ab", "abc", ("", 0.25)),
        ("ab", "", ("empty", 0.0)),
        ("ab", "\u200b", ("empty", 0.0)),
        ("abc", "xyz", ("ratio", 0.75)),
        ("a1b", "a98b", ("", 0.4)),
        # The next larger ratio after one half is not taken.
        ("abcdefg", "ABCDefg", ("", 0.5)),
        ("abcdef", "ABCDef", ("ratio", 4 / 7)),
        # At half and at twice the length, the ratio is one half exactly; beyond, it is the length that is told.
        ("abc", "abcdefg", ("", 0.5)),
        ("abc", "abcdefgh", ("length", 5 / 9)),
        ("abcdefg", "abc", ("", 0.5)),
        ("abcdefg", "ab", ("length", 5 / 8)),
        # An end is a unit as well.
        ("a", "b", ("", 0.5)),
        ("a", "ab", ("", 1 / 3)),
        # Whole rewrites and swapped passages.
        ("abcdefghij", "klmnopqrst", ("ratio", 10 / 11)),
        ("abcdefghijklmnopq", "ijklmnopqabcdefgh", ("moved", 16 / 18)),
        ("abcdefghijklmno", "ijklmnoabcdefgh", ("ratio", 14 / 16)),
        ("abcdefghKLMNOPQRSTUV", "KLMNOPQRSTUVabcdefgh", ("moved", 16 / 21)),
        ("abcdefghKLMNOPQRSTUVWXYZabcdefgh", "abcdefghKLMNOPQRSTUVWXYZabcdefgi", ("", 1 / 33)),
        ("abababababababababab", "ababababababababab", ("", 2 / 21)),
    ],
)
def test_rules(response: str, edited: str, expected: tuple[str, float]) -> None:
    assert check(response, edited) == (expected[0], pytest.approx(expected[1]))


def test_an_unfinished_response_has_no_end() -> None:
    assert check("abc", "aXc", finished=False) == ("", pytest.approx(1 / 3))
    assert check("abc", "aXYc", finished=False) == ("", 0.5)
    assert check("a", "b", finished=False) == ("ratio", 1.0)


def test_words_count_as_in_the_format() -> None:
    checked = Rules()(Draft(PROMPT, "The cat sat."), "The dog sat down.")
    assert (checked.ops, checked.ratio, checked.length) == ("USUAUU", pytest.approx(1 / 3), 6 / 5)
    assert not checked.ambiguous
    assert Rules()(Draft(PROMPT, "x a a b"), "x a b").ambiguous


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat sat.", ["The", " cat", " sat", "."]),
        ("我喜欢cats和狗。", ["我", "喜", "欢", "cats", "和", "狗", "。"]),
        (f"{FAMILY} ok 👍🏽🇩🇪", [FAMILY, " ok", " 👍🏽", "🇩🇪"]),
        ("e\u0301a हिन्दी", ["e\u0301a", " हिन्दी"]),
        ("שלום עולם!", ["שלום", " עולם", "!"]),
        ("if x:\n    y = 12", ["if", " x", ":", "\n   ", " y", " =", " 12"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


@given(st.text(max_size=40))
def test_words_leave_nothing_out(text: str) -> None:
    assert "".join(pieces(text)) == text


def test_tokens_are_those_of_training() -> None:
    chat = ChatFormat.of(tiny_tokenizer())
    whole = Tokens(chat)(PROMPT, "at eight .", True)
    assert whole == chat.response_ids(TURNS, "at eight .")[1]
    assert Tokens(chat)(PROMPT, "at eight .", False) == whole[:-1]
    rules = Rules(units=Tokens(chat))
    # This tokenizer does not tell upper case from lower, so there is nothing to learn from such an edit.
    assert check("at eight .", "At eight .", rules=rules) == ("no_edit", 0.0)
    assert check("at eight .", "at nine .", rules=rules) == ("", 0.25)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("max_edit_ratio", 0.0), ("max_edit_ratio", 1.5), ("min_length", -0.1), ("max_length", 0.9), ("block", 1)],
)
def test_a_setting_out_of_range(setting: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"field '{setting}': {value} \(allowed: ") as caught:
        Rules(**{setting: value})  # type: ignore[arg-type]  # what a file of options may hold
    assert caught.value.field == setting


@pytest.mark.skipif(not (DATA / "jfleg-edits").is_dir(), reason="the data set is not here")
def test_edits_by_people() -> None:
    """Corrections of language learners' sentences: distances are those of another program, and most are minimal."""
    with gzip.open(DATA / "jfleg-edits" / "dev.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][:100]
    taken = 0
    for row in rows:
        draft, edited = Draft(PROMPT, row["src"]), row["refs"][0]
        checked = Rules()(draft, edited)
        old, new = (Words()(PROMPT, text, True) for text in (row["src"], checked.text))
        if checked.reason != "no_edit":
            apart = distance([str(unit) for unit in old], [str(unit) for unit in new])
            assert checked.ratio == pytest.approx(apart / max(len(old), len(new)))
        taken += not checked.reason
    assert taken > 70


def test_very_long_texts_far_apart_count_as_changed_between_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change at the end of one is found all the same."""
    monkeypatch.setattr("uptake.edits.runs.LARGEST", 16)
    same = "abcdefghijklmnopqrstuvwxyz"
    assert check(f"{same}0", f"{same}1") == ("", pytest.approx(1 / 28))
    assert check(f"0{same}", f"1{same}") == ("", pytest.approx(1 / 28))
    assert check(f"{same}01234{same}", f"{same}54321{same}") == ("", pytest.approx(5 / 58))
    assert list(aligned("ab12345c", "ab54321678c").ops) == [*"UUSSSSSAAAU"]
    assert list(aligned("ab54321678c", "ab12345c").ops) == [*"UUSSSSSDDDU"]
