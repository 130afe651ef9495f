"""Two kinds of judges: a reward rates one response, an annotator prefers one of two."""

from collections.abc import Sequence
from typing import Protocol

from uptake.types import Dialogue, Judgement, Prompt, Verdict


class Reward(Protocol):
    """One judgement for every dialogue that ends with a response, in order; a higher score is better.

    A dialogue that cannot be rated is judged `valid=False` with the reason. A score depends on nothing but the dialogue
    and the reward: not on the other dialogues, their order, or how they are batched.
    """

    @property
    def fingerprint(self) -> str:
        """A text that differs wherever scores may: model, precision, template, settings."""
        ...

    def __call__(self, dialogues: Sequence[Dialogue]) -> Sequence[Judgement]: ...


class Annotator(Protocol):
    """One verdict for every prompt with its two responses, in order."""

    @property
    def fingerprint(self) -> str:
        """A text that differs wherever verdicts may."""
        ...

    def __call__(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]: ...
