"""The units that an edit is counted in: words, or the tokens of a model."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from tokenizers import Regex, pre_tokenizers

from uptake.edits.joiners import SEEN_JOINER
from uptake.types import Prompt

if TYPE_CHECKING:
    from uptake.data.chat import ChatFormat

# Scripts that put no blanks between words; there, a letter with its marks is a unit.
_DENSE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_UNIT = (
    rf" ?[{_DENSE}]\p{{M}}*(?:{SEEN_JOINER}\p{{M}}*)?"
    rf"| ?(?:(?![{_DENSE}])[\p{{L}}\p{{N}}_]\p{{M}}*(?:{SEEN_JOINER}\p{{M}}*)?)+"
    r"|\s+(?!\S)"  # blanks, but for the last one before a word
    r"| ?(?!\s)\X|\X"  # a mark, or an emoji with all its parts
)


class Units(Protocol):
    """The units of a response, with one more for its end where it is finished."""

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, prompt: Prompt, text: str, finished: bool) -> Sequence[Hashable]: ...


@dataclass(frozen=True)
class Words:
    """Words, each with the blank before it, and punctuation marks; every character of the text is in one of them."""

    @property
    def fingerprint(self) -> str:
        return "words"

    def __call__(self, prompt: Prompt, text: str, finished: bool) -> Sequence[Hashable]:
        return [*pieces(text), *([None] if finished else [])]


@dataclass(frozen=True)
class Tokens:
    """Tokens as in training: response and prompt are cut together, and the end of the turn is a token of the response.

    Raises as `ChatFormat.response_ids` does.
    """

    chat: "ChatFormat"

    @property
    def fingerprint(self) -> str:
        return self.chat.fingerprint

    def __call__(self, prompt: Prompt, text: str, finished: bool) -> Sequence[Hashable]:
        _, ids = self.chat.response_ids(prompt.turns, text, where=prompt.where)
        return ids if finished else ids[:-1]


def pieces(text: str) -> list[str]:
    """The text cut into words and marks; joined, they are the text."""
    return [piece for piece, _ in _splitter().pre_tokenize_str(text)]


def split_words(text: str) -> list[str]:
    """The text cut into words and marks, each with all blanks before it; joined, they are the text."""
    found, blanks = [], ""
    for piece in pieces(text):
        blanks += piece
        if not piece.isspace():
            found.append(blanks)
            blanks = ""
    return [*found, blanks] if blanks else found


@cache
def _splitter() -> pre_tokenizers.Split:
    return pre_tokenizers.Split(Regex(_UNIT), "isolated")
