"""Edits as records: what an editor is given, what it gives back, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from uptake.types import Prompt, Verdict

# Why an edit is not taken as it is. "ratio" and "moved" make it a preference of whole texts; the others a reject.
NoText = Literal["", "parse", "cut_off", "no_answer", "too_long", "skipped"]
ComparisonReason = Literal["", "empty", "no_edit", "length", "moved", "ratio"]
Reason = NoText | ComparisonReason | Literal["not_better", "not_judged"]
DEMOTED: tuple[Reason, ...] = ("ratio", "moved")

Status = Literal["accepted", "no_edit", "demoted", "rejected"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A response to edit: `Draft(prompt, "The cat sat.", better="The dog sat.")`.

    `better` is a response that was preferred to it, where one is known. `finished` is false for one that was cut off.
    """

    prompt: Prompt
    response: str
    better: str | None = None
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Proposal:
    """Proposal of an editor: `Proposal("The dog sat.", tokens=61)`, or `reason` why there is no text.

    `answer` is the editor's, where no edit could be read from it. `tokens` counts what was read and written, `cost` is
    in the currency of the configured prices.
    """

    text: str = ""
    reason: NoText = ""
    answer: str = ""
    tokens: int = 0
    cost: float = 0.0


class Editor(Protocol):
    """One proposal for every draft, in order, which depends on nothing but the draft and the editor."""

    @property
    def name(self) -> str:
        """Who edits and in which version, for the rows: "large@3f2a90c1d4e5b677"."""
        ...

    @property
    def fingerprint(self) -> str:
        """A text that differs wherever proposals may."""
        ...

    def __call__(self, drafts: Sequence[Draft]) -> Sequence[Proposal]: ...


@dataclass(frozen=True, slots=True)
class Checked:
    """A proposal in the response's own spelling, and what comparing the two says.

    `ops` aligns the units of both texts (U unchanged, S substituted, D deleted, A added); `ratio` is the share of
    changed ones among those of the longer text, `length` the length of the edit in units of the response's, and
    `ambiguous` says that there is another alignment as short.
    """

    text: str
    reason: ComparisonReason = ""
    ops: str = ""
    ratio: float = 0.0
    length: float = 1.0
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a draft; `checked` where there was a text, `verdict` where an annotator was asked."""

    draft: Draft
    proposal: Proposal
    checked: Checked | None = None
    verdict: Verdict | None = None

    @property
    def reason(self) -> Reason:
        """Why the edit is not accepted; empty where it is."""
        if self.verdict is not None and not self.verdict.valid:
            return "not_judged"
        if self.verdict is not None and min(self.verdict.by_order) <= 0.5:
            return "not_better"
        return self.proposal.reason if self.checked is None else self.checked.reason

    @property
    def status(self) -> Status:
        if not self.reason:
            return "accepted"
        if self.reason in DEMOTED:
            return "demoted"
        return "no_edit" if self.reason == "no_edit" else "rejected"
