"""Instructions for judges: the presets, files of one's own, and what must not go wrong in filling them."""

from pathlib import Path

import pytest

from uptake.annotators.question import Instructions, presets
from uptake.errors import InputError
from uptake.types import Prompt, Turn

PROMPT = Prompt((Turn("user", "When does it open?"),), key="k")


@pytest.mark.parametrize("name", presets())
def test_every_preset_shows_all_and_ends_with_a_cue(name: str) -> None:
    instructions = Instructions.load(name)
    text = instructions(PROMPT, "At eight.", "It sells bread.")
    assert text.index("When does it open?") < text.index("1 - At eight.") < text.index("2 - It sells bread.")
    assert instructions.cue.startswith("Preferred ")
    assert "{" not in text


def test_presets() -> None:
    names = ["harmlessness", "helpfulness", "helpfulness-evaluation", "shorter", "summary"]
    assert presets() == names
    assert Instructions.load() == Instructions.load("helpfulness")
    training, evaluation = (Instructions.load(name).text for name in names[1:3])
    sentence = "with lines for the user as well as for the assistant, counts as neither helpful nor honest"
    assert sentence in training
    assert sentence not in evaluation
    assert len({Instructions.load(name).fingerprint for name in names}) == 5


def test_a_conversation_names_its_speakers() -> None:
    turns = (Turn("system", "Be kind."), Turn("user", "Hi."), Turn("assistant", "Hello."), Turn("user", "When?"))
    text = Instructions("{prompt}|{first}|{second}", "=")(Prompt(turns, key="k"), "a", "b")
    assert text == "System: Be kind.\n\nUser: Hi.\n\nAssistant: Hello.\n\nUser: When?|a|b"


def test_braces_in_what_is_shown_are_text() -> None:
    """A response that spells a field shows as it is, and so do other braces of the instructions."""
    text = Instructions('{"a": 1} {x}{prompt}|{first}|{second}', "=")(PROMPT, "{second} {prompt}", "{first} {}")
    assert text == '{"a": 1} {x}When does it open?|{second} {prompt}|{first} {}'


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("{prompt}\nA: {first}\nB: {second}\nBetter: \n\n")
    instructions = Instructions.load(path)
    assert instructions == Instructions("{prompt}\nA: {first}\nB: {second}", "Better: ")
    assert instructions == Instructions.load(str(path))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{prompt}\n{first}\n{secnd}\n=", "no {second} in the text before the cue"),
        ("{prompt}\n{first}\n{second}", "no {second} in the text before the cue"),
        ("{prompt}{first}{second}\n=\n{prompt}", "the last line is no cue: '{prompt}'"),
        ("{prompt}{first}{second}\n ", "the last line is no cue: ' '"),
        ("{first}{prompt}{second}\n=", "{first} before {prompt}"),
        ("", "no {prompt} in the text before the cue"),
    ],
)
def test_broken_files(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        Instructions.load(path)
    assert str(caught.value).startswith(f"{path}, field 'instructions': {problem} (allowed: a text with ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"helpfull: no such instructions.*allowed: harmlessness, helpfulness, "):
        Instructions.load("helpfull")
    (tmp_path / "latin.txt").write_bytes("{prompt}{first}{second}\nmöglich=".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.txt: not UTF-8 text"):
        Instructions.load(tmp_path / "latin.txt")
