"""A page served to this machine only that asks a person one question after another, and keeps every answer."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, final

from uptake.data.cache import Cache
from uptake.errors import InputError

log = logging.getLogger(__name__)

# What is in the page itself may run, and nothing from elsewhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


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


def check_port(port: int) -> None:
    """Raise InputError unless the port is one that a server can be given."""
    if not 0 <= port < 1 << 16:
        raise InputError(f"{port}", field="port", allowed="0 to 65535; 0 takes a free one")


def ask(form: SurveyForm, questions: Sequence[SurveyQuestion], cache: Cache, port: int = 0) -> list[Any]:
    """What a person says to every question, from the cache or else by the page, which is served until all are answered.

    The address goes to the log. Raises InputError for a port that cannot be had.
    """
    survey = Survey(form, questions, cache)
    if not survey.finished.is_set():
        with _serving(survey, port) as address:
            log.warning("%d %s wait at %s for a person on this machine", survey.waiting, form.noun, address)
            survey.finished.wait()
    return survey.answers()


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


@contextmanager
def _serving(survey: Survey, port: int) -> Iterator[str]:
    """Serve a survey to this machine for as long as the block runs; gives the address."""
    try:
        server = _Server(("127.0.0.1", port), _Page)
    except OSError as error:
        problem = f"port {port} cannot be had: {error.strerror}"
        raise InputError(problem, field="port", allowed="a free port, or 0 for any") from error
    server.survey = survey
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@final
class _Server(ThreadingHTTPServer):
    # The answer to the last request is on its way when the survey is finished; closing waits for it.
    daemon_threads = False
    survey: Survey


@final
class _Page(BaseHTTPRequestHandler):
    """Gives the page and the open question, takes answers, and talks to pages of this very server only."""

    server: _Server
    # Browsers open connections that they may never use.
    timeout = 5

    def do_GET(self) -> None:
        if not self._from_here():
            self._refuse(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.survey.form.whole_page())
        elif self.path == "/open":
            self._show()
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        survey, told = self.server.survey, self._told()
        question, answer = survey.question(told.get("key")), told.get("answer")
        if not self._from_here():
            self._refuse(HTTPStatus.FORBIDDEN)
        elif self.path == "/undo":
            survey.undo()
            self._show()
        elif self.path == "/check" and question and (seen := survey.form.preview(question, answer)) is not None:
            self._give(seen)
        elif self.path == "/say" and question and survey.form.takes(question, answer):
            self._show(HTTPStatus.OK if survey.say(question.key, answer) else HTTPStatus.CONFLICT)
        else:
            self._refuse(HTTPStatus.BAD_REQUEST)

    def _from_here(self) -> bool:
        """Whether a page of this server asks, and not one that another site has put into the browser."""
        hosts = {f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")}
        origins = {None, *(f"http://{host}" for host in hosts)}
        return self.headers.get("Host") in hosts and self.headers.get("Origin") in origins

    def _told(self) -> dict[str, Any]:
        try:
            length = int(self.headers.get("Content-Length") or 0)
            told = json.loads(self.rfile.read(max(0, min(length, self.server.survey.form.most_bytes))))
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    def _show(self, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._give(self.server.survey.open(), status)

    def _refuse(self, status: HTTPStatus) -> None:
        self._give({"error": status.phrase}, status)

    def _give(self, told: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, "application/json", json.dumps(told).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""
