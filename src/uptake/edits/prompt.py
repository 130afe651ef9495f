"""Prompts of an editing model, in texts that anyone can change, and how its edit is found in the answer."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from uptake.annotators.question import spoken
from uptake.data.cache import content_key
from uptake.data.presets import Presets
from uptake.data.where import bad_row
from uptake.edits.edit import Draft, Proposal
from uptake.errors import InputError

DEFAULT = "minimal"
OPENING, CLOSING = "<edited>", "</edited>"

_PRESETS = Presets(Path(__file__).with_name("prompts"), "prompt")
presets = _PRESETS.names
_FIELD = re.compile(r"{(prompt|response|better)}")
_FORMAT = f"a text with {{prompt}}, {{response}}, the tags {OPENING} and {CLOSING}, and {{better}} if it is wanted"


@dataclass(frozen=True, slots=True)
class EditPrompt:
    """Instructions with the fields {prompt} and {response}, and {better} if the editor is to see the preferred one.

    The text must tell the editor to put its edit between the tags <edited> and </edited>. Other braces are text. Raises
    InputError for a field or a tag that is missing.
    """

    text: str

    def __post_init__(self) -> None:
        for needed in ("{prompt}", "{response}", OPENING, CLOSING):
            if needed not in self.text:
                raise InputError(f"no {needed} in the text", field="prompt", allowed=_FORMAT)

    @classmethod
    def load(cls, source: str | Path = DEFAULT) -> Self:
        """The prompt of a preset's name or of a text file; raises InputError where it cannot be read."""
        return _PRESETS.load(source, cls)

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of a hash of the content."""
        return content_key(self.text)[:16]

    def __call__(self, draft: Draft) -> str:
        """The text, filled; what stands in a field is text, whatever braces it has. InputError without a {better}."""
        if draft.better is None and "{better}" in self.text:
            allowed = "rows with chosen and rejected, or a prompt without {better}"
            raise bad_row(
                "the prompt shows the better response, and there is none", draft.prompt.where, allowed=allowed
            )
        values = {"prompt": spoken(draft.prompt.turns), "response": draft.response, "better": draft.better or ""}
        return _FIELD.sub(lambda field: values[field[1]], self.text)


def proposal(answer: str, tokens: int = 0, cost: float = 0.0) -> Proposal:
    """The edit in what a model said: what stands between its one pair of tags, or the reason "parse".

    A line break after the first tag and one before the last belong to the tags.
    """
    before, opened, rest = answer.partition(OPENING)
    text, closed, after = rest.partition(CLOSING)
    if not (opened and closed) or any(tag in other for other in (before, text, after) for tag in (OPENING, CLOSING)):
        return Proposal(reason="parse", answer=answer, tokens=tokens, cost=cost)
    return Proposal(text.removeprefix("\n").removesuffix("\n"), tokens=tokens, cost=cost)


def better(first: Proposal, second: Proposal) -> Proposal:
    """The second of two proposals, or the first where the second is no edit or blank; both were paid for."""
    taken = second if second.text.strip() else first
    return replace(taken, tokens=first.tokens + second.tokens, cost=first.cost + second.cost)
