"""Surveys of a person: questions, the answers that are taken, and each of them on disk before it counts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any, final

from uptake.data.cache import Cache


@dataclass(frozen=True, slots=True)
class SurveyQuestion:
    """One question under its content key; `shown` is what the page needs to ask it."""

    key: str
    shown: Mapping[str, Any]


_STYLE = Path(__file__).with_name("survey.css")


@dataclass(frozen=True)
class SurveyForm:
    """A kind of question: the page that asks it, which answers it takes, and what it shows while one is written.

    `takes` says whether an answer, as JSON spells it, may be kept; `preview` is what POST /check gives back. Requests
    longer than `most_bytes` are refused. `noun` names the questions in messages: "pairs".
    """

    page: Path
    noun: str
    takes: Callable[[SurveyQuestion, Any], bool]
    preview: Callable[[SurveyQuestion, Any], Mapping[str, Any] | None] = lambda question, answer: None
    most_bytes: int = 10_000

    def whole_page(self) -> bytes:
        """The page with the style that all of them share."""
        return self.page.read_bytes().replace(b"/* survey.css */", _STYLE.read_bytes())


@final
class Survey:
    """Survey of a person: its open questions and its answers, each of which is kept before it counts."""

    def __init__(self, form: SurveyForm, questions: Sequence[SurveyQuestion], cache: Cache) -> None:
        self.form, self._questions, self._cache, self._lock = form, questions, cache, Lock()
        cached: dict[str, Any] = cache.get(question.key for question in questions)
        self._answers = {key: answer for key, answer in cached.items() if answer}
        self._latest: list[str] = []
        self.finished = Event()
        self._finish()

    def open(self) -> dict[str, Any]:
        """The first question without an answer, as the page wants it; none where all have one."""
        with self._lock:
            found: dict[str, Any] = {"done": len(self._questions) - self.waiting, "all": len(self._questions)}
            question = next((question for question in self._questions if question.key not in self._answers), None)
            return found if question is None else found | {"key": question.key, **question.shown}

    @property
    def waiting(self) -> int:
        """How many questions have no answer yet."""
        return sum(question.key not in self._answers for question in self._questions)

    def question(self, key: Any) -> SurveyQuestion | None:
        return next((question for question in self._questions if question.key == key), None)

    def say(self, key: str, answer: Any) -> bool:
        """Keep an answer; False, and nothing changes, where the question has one or is not on this survey."""
        with self._lock:
            if self.finished.is_set() or key in self._answers or self.question(key) is None:
                return False
            self._cache.put({key: answer})
            self._answers[key] = answer
            self._latest.append(key)
            self._finish()
            return True

    def undo(self) -> None:
        """Open the question of the latest answer of this sitting again."""
        with self._lock:
            if self._latest and not self.finished.is_set():
                key = self._latest.pop()
                self._cache.put({key: ""})
                del self._answers[key]

    def answers(self) -> list[Any]:
        """What was said to every question, in order."""
        return [self._answers[question.key] for question in self._questions]

    def _finish(self) -> None:
        if not self.waiting:
            self.finished.set()
