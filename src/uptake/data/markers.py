"""Special tokens of a tokenizer, and the texts that spell them out without being them.

A response or a line of a log may spell "<|im_end|>". To a tokenizer that is the end of a turn, wherever it stands; here
it is text, and only what a template writes by itself is a token. Such text is **escaped** before the template sees it:
every marker in it becomes as many characters that Unicode has set aside for programs, so that no place in the text
moves. What the template makes of it is then encoded by a copy of the tokenizer that knows its special tokens by other
such spellings: the template's markers are respelled, the escaped ones are spelled out again, and are text.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from uptake.errors import InputError

T = TypeVar("T")

# Noncharacters: valid in every encoding of Unicode, and in no text. Two alphabets, for escaped and for real markers;
# a code begins with the first of its alphabet and with no other, so codes in a row fall apart in one way.
_ESCAPED = "".join(map(chr, range(0xFDD0, 0xFDF0)))
_REAL = "".join(chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
_CODE = re.compile(f"{_ESCAPED[0]}[{_ESCAPED[1:]}]*")


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> Mapping[str, int]:
    """The special tokens of a vocabulary by their text, but for blanks; one that was added need not be special."""
    added = tokenizer.added_tokens_decoder.items()
    return {token.content: index for index, token in added if token.special and token.content.strip()}


@dataclass(frozen=True, eq=False)
class Markers:
    """Special tokens of one tokenizer as text: `escape` before a template, `encoder` and `respell` after it."""

    tokenizer: PreTrainedTokenizerBase

    def escape(self, value: T) -> T:
        """A text, or all texts in a value of JSON, with every marker escaped; places stay as they are."""
        spelled: Any = value
        if isinstance(value, str):
            spelled = self._pattern.sub(lambda found: self._codes[found[0]][0], value)
        elif isinstance(value, Mapping):
            spelled = {name: self.escape(each) for name, each in value.items()}
        elif isinstance(value, list | tuple):
            spelled = [self.escape(each) for each in value]
        return spelled  # type: ignore[no-any-return]

    def spell(self, text: str) -> str:
        """The text that was escaped, for people."""
        return _CODE.sub(lambda found: self._spelled.get(found[0], found[0]), text)

    def respell(self, text: str) -> str:
        """A rendered text for the `encoder`: its own markers respelled, those that were escaped spelled out.

        Raises InputError for a text that holds such a spelling already.
        """
        if _REAL[0] in text:
            raise InputError(f"the text holds U+{ord(_REAL[0]):04X}, which is no character", allowed="characters")
        return self.spell(self._pattern.sub(lambda found: self._codes[found[0]][1], text))

    @cached_property
    def encoder(self) -> PreTrainedTokenizerBase | None:
        """The copy of the tokenizer for respelled texts; None where none can be made, as of a slow one."""
        if not self.tokenizer.is_fast or len(self._codes) < len(special_tokens(self.tokenizer)):
            return None
        spelled: dict[str, Any] = json.loads(self.tokenizer.backend_tokenizer.to_str())
        names = {marker: real for marker, (_, real) in self._codes.items()}
        for token in spelled["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        model, vocab = spelled["model"], spelled["model"]["vocab"]
        if model.get("unk_token") in names:
            model["unk_token"] = names[model["unk_token"]]
        if isinstance(vocab, dict):
            model["vocab"] = {names.get(text, text): index for text, index in vocab.items()}
        else:
            model["vocab"] = [[names.get(text, text), score] for text, score in vocab]
        spelled["post_processor"] = None  # which names special tokens, and adds some
        copy = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(spelled)))
        probe = "A\n b".join(["", *self._codes, ""])
        ours = copy(self.respell(probe), add_special_tokens=False)["input_ids"]
        return copy if ours == self.tokenizer(probe, add_special_tokens=False)["input_ids"] else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest = sorted(self._codes, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest)) or r"(?!)")

    @cached_property
    def _codes(self) -> Mapping[str, tuple[str, str]]:
        """Every marker as it is spelled where it is escaped and where it is real, in its own length."""
        found = {}
        for number, marker in enumerate(special_tokens(self.tokenizer)):
            codes = _code(number, len(marker), _ESCAPED), _code(number, len(marker), _REAL)
            if all(codes):
                found[marker] = codes
        return found

    @cached_property
    def _spelled(self) -> Mapping[str, str]:
        return {escaped: marker for marker, (escaped, _) in self._codes.items()}


def is_escaped(text: str) -> bool:
    """Whether a text holds an escaped marker."""
    return _ESCAPED[0] in text


def _code(number: int, length: int, alphabet: str) -> str:
    """A number as so many letters; empty where they are too few."""
    digits = alphabet[1:]
    code = ""
    for _ in range(length - 1):
        number, digit = divmod(number, len(digits))
        code += digits[digit]
    return "" if number else alphabet[0] + code
