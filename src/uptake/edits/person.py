"""A person as an editor: a page on this machine shows a response in a text field, with the edit marked beside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from uptake.annotators.page import ask, check_port
from uptake.annotators.survey import SurveyForm, SurveyQuestion
from uptake.data.cache import Cache
from uptake.data.turns import as_text
from uptake.edits.edit import Checked, Draft, Proposal
from uptake.edits.rules import Rules
from uptake.edits.runs import runs
from uptake.edits.units import pieces
from uptake.support.keys import content_key

SKIP = "skip"
# What the page does not let pass: there would be nothing to keep.
_REFUSED = ("empty", "length")


@final
@dataclass(frozen=True)
class PersonEditor:
    """Shows every response on a page served to this machine only, and waits until all are edited or skipped.

    Beside the field the page shows what is changed, and what the `rules` say of it. An edit is in the file `answers`
    before the next response is shown, and a response that has one is not shown again, so the work can be stopped at any
    moment. `port` 0 takes a free one; the address goes to the log. Raises InputError for a port that cannot be had.
    """

    answers: str = "person.sqlite"
    port: int = 0
    rules: Rules = Rules()

    def __post_init__(self) -> None:
        check_port(self.port)

    @property
    def name(self) -> str:
        return "person"

    @property
    def fingerprint(self) -> str:
        return f"PersonEditor({self.answers!r})"

    def __call__(self, drafts: Sequence[Draft]) -> Sequence[Proposal]:
        questions = [_question(draft) for draft in drafts]
        by_key = {question.key: draft for question, draft in zip(questions, drafts, strict=True)}

        def preview(question: SurveyQuestion, answer: Any) -> Mapping[str, Any] | None:
            return _preview(self.rules, by_key[question.key], answer["text"]) if _is_edit(answer) else None

        def takes(question: SurveyQuestion, answer: Any) -> bool:
            if not _is_edit(answer):
                return bool(answer == SKIP)
            return self.rules(by_key[question.key], answer["text"]).reason not in _REFUSED

        # No edit has more than some times its response's length, and a line break or quote is sent as two characters.
        most_bytes = 10_000 + 4 * max((len(draft.response.encode(errors="replace")) for draft in drafts), default=0)
        page = Path(__file__).with_name("person.html")
        form = SurveyForm(page, "responses", takes, preview, most_bytes)
        answers = ask(form, questions, Cache(self.answers), self.port)
        return [Proposal(reason="skipped") if one == SKIP else Proposal(one["text"]) for one in answers]


def _is_edit(answer: Any) -> bool:
    return isinstance(answer, dict) and isinstance(answer.get("text"), str)


def _question(draft: Draft) -> SurveyQuestion:
    turns = [{"role": turn.role, "content": as_text(turn)} for turn in draft.prompt.turns]
    shown = {"turns": turns, "response": draft.response, "better": draft.better, "finished": draft.finished}
    return SurveyQuestion(content_key("edit", shown), shown)


def _preview(rules: Rules, draft: Draft, text: str) -> dict[str, Any]:
    """What the rules say of an edit, with its words marked as kept, removed and added."""
    checked = rules(draft, text)
    return {
        "reason": checked.reason,
        "refused": checked.reason in _REFUSED,
        "ratio": checked.ratio,
        "length": checked.length,
        "limits": [rules.max_edit_ratio, rules.min_length, rules.max_length],
        "marks": list(marks(draft.response, checked)),
    }


def marks(response: str, checked: Checked) -> Iterator[tuple[str, str]]:
    """Stretches of both texts in reading order: "=" kept, "-" removed, "+" added; by words, whatever the units are."""
    old, new = pieces(response), pieces(checked.text)
    for equal, mine, theirs in runs(old, new):
        removed = "".join(old[mine.start : mine.stop])
        added = "".join(new[theirs.start : theirs.stop])
        if equal:
            yield "=", removed
            continue
        if removed:
            yield "-", removed
        if added:
            yield "+", added
