"""A person as annotator: a page on this machine shows two responses and takes the verdict, by keyboard if one likes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import final

from uptake.annotators.base import Annotator, AnnotatorSpec
from uptake.annotators.page import ask, check_port
from uptake.annotators.survey import SurveyForm, SurveyQuestion
from uptake.data.cache import Cache
from uptake.data.turns import as_text
from uptake.rewards.base import Resources
from uptake.support.keys import content_key
from uptake.types import Dialogue, Dropped, Prompt, Verdict

# P(the response shown as 1 is better), by what was said; nothing for a pair that was skipped.
PREFERENCES: dict[str, float | None] = {"1": 1.0, "2": 0.0, "tie": 0.5, "skip": None}

_FORM = SurveyForm(
    Path(__file__).with_name("person.html"),
    "pairs",
    lambda question, answer: isinstance(answer, str) and answer in PREFERENCES,
)


@final
@dataclass(frozen=True)
class PersonAnnotator(Annotator, AnnotatorSpec):
    """Person annotator: shows every pair on a page served to this machine only, and waits until all have their verdict.

    Which response stands first depends on `seed` and the pair. Every verdict is in the file `answers` before the next
    pair is shown, and a pair that has one is not shown again, so the work can be stopped at any moment. A skipped pair
    is invalid with the reason "skipped". `port` 0 takes a free one; the address goes to the log. Raises InputError for
    a port that cannot be had.
    """

    answers: str = "person.sqlite"
    port: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_port(self.port)

    def build(self, resources: Resources) -> "PersonAnnotator":
        """The annotator that keeps its answers in the folder at hand."""
        return replace(self, answers=str(resources.file(self.answers)))

    @property
    def fingerprint(self) -> str:
        return repr((self.answers, self.seed))

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        shown = [ShownPair.of(prompt.turns, pair, self.seed) for prompt, pair in zip(prompts, pairs, strict=True)]
        answers = ask(_FORM, [pair.question() for pair in shown], Cache(self.answers), self.port)
        return [_verdict(one, pair.swapped) for one, pair in zip(answers, shown, strict=True)]


@dataclass(frozen=True, slots=True)
class ShownPair:
    """Pair of responses as a person is shown them; `swapped` says that the second one stands first."""

    key: str
    turns: Dialogue
    shown: tuple[str, str]
    swapped: bool

    @classmethod
    def of(cls, turns: Dialogue, pair: tuple[str, str], seed: int) -> "ShownPair":
        content = [(turn.role, turn.content) for turn in turns]
        swapped = bool(sha256(content_key(seed, content, sorted(pair)).encode()).digest()[0] % 2) == (pair[0] < pair[1])
        shown = (pair[1], pair[0]) if swapped else pair
        # The same two responses in the other order are the same question.
        return cls(content_key(content, shown), turns, shown, swapped)

    def question(self) -> SurveyQuestion:
        """The pair as the page shows it."""
        turns = [{"role": turn.role, "content": as_text(turn)} for turn in self.turns]
        return SurveyQuestion(self.key, {"turns": turns, "answers": list(self.shown)})


def _verdict(answer: str, swapped: bool) -> Verdict:
    p = PREFERENCES[answer]
    if p is None:
        return Verdict(0.5, (0.5, 0.5), reason=Dropped.SKIPPED)
    p = 1 - p if swapped else p
    return Verdict(p, (p, p))
