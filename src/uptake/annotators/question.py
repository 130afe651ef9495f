"""Instructions of an LLM judge: a text that anyone can edit, filled with a prompt and two responses."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from uptake.data.presets import Presets
from uptake.data.turns import as_text, of_conversation
from uptake.errors import InputError
from uptake.support.keys import content_key
from uptake.types import Dialogue, Prompt

CHOICES = ("1", "2")
DEFAULT = "helpfulness"

_PRESETS = Presets(Path(__file__).with_name("instructions"), "instructions")
presets = _PRESETS.names
_FIELDS = ("prompt", "first", "second")
_FIELD = re.compile(rf"{{({'|'.join(_FIELDS)})}}")


@dataclass(frozen=True, slots=True)
class Instructions:
    """A text with the fields {prompt}, {first} and {second}, and a cue: the line that the answer, 1 or 2, continues.

    `Instructions("{prompt}\\n1: {first}\\n2: {second}", cue="Better: ")`. Other braces are text. Raises InputError for
    a field that is missing, a response before the prompt, and a cue that is blank or holds a field.
    """

    text: str
    cue: str

    def __post_init__(self) -> None:
        found = _FIELD.findall(self.text)
        for field in _FIELDS:
            if field not in found:
                raise InputError(f"no {{{field}}} in the text before the cue", field="instructions", allowed=_FORMAT)
        if found[0] != "prompt":
            raise InputError(f"{{{found[0]}}} before {{prompt}}", field="instructions", allowed=_FORMAT)
        if not self.cue.strip() or _FIELD.search(self.cue):
            raise InputError(f"the last line is no cue: {self.cue!r}", field="instructions", allowed=_FORMAT)

    @classmethod
    def load(cls, source: str | Path | None = None) -> Self:
        """The instructions of a preset's name or of a text file, whose last line is the cue; "helpfulness" by default.

        Raises InputError, naming the file, where it cannot be read or is not in the format.
        """
        return _PRESETS.load(DEFAULT if source is None else source, cls._of)

    @classmethod
    def _of(cls, whole: str) -> Self:
        text, _, cue = whole.rpartition("\n")
        return cls(text, cue)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of a hash of the content."""
        return content_key(self.text, self.cue)[:16]

    def __call__(self, prompt: Prompt, first: str, second: str) -> str:
        """The text before the cue, filled: what stands in a field is text, whatever braces it has."""
        values = dict(zip(_FIELDS, (spoken(prompt.turns), first, second), strict=True))
        return _FIELD.sub(lambda field: values[field[1]], self.text)


_FORMAT = "a text with {prompt}, then {first} and {second}, and a last line that 1 or 2 continues"


def spoken(turns: Dialogue) -> str:
    """A single turn as it is, a conversation as paragraphs that name the speaker, after the tools that it has."""
    if len(turns) == 1:
        return turns[0].content
    tools = [f"Tool: {json.dumps(tool, ensure_ascii=False)}" for tool in of_conversation(turns).get("tools", ())]
    paragraphs = (f"{turn.role.capitalize()}: {text}" for turn in turns if (text := as_text(turn)))
    return "\n\n".join((*tools, *paragraphs))
