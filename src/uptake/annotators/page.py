"""A page served to this machine only that asks a person one question after another, and keeps every answer."""

import json
import logging
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import compare_digest, token_urlsafe
from threading import Condition, Thread
from time import monotonic
from typing import Any, final

from uptake.annotators.survey import Survey, SurveyForm, SurveyQuestion
from uptake.data.cache import Cache
from uptake.errors import InputError

log = logging.getLogger(__name__)

# What is in the page itself may run, and nothing from elsewhere; no other page may show it in a frame.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Requests that may be on their way at once, and the seconds that one may take to arrive.
MOST_ARRIVING = 32
LONGEST_ARRIVAL = 10.0
# Seconds that the last answers have to go out when all questions are answered.
_LAST_ANSWERS = 1.0

_Response = tuple[HTTPStatus, str, bytes]


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


@cache
def _token() -> str:
    """The last part of the address, which other users of the machine do not know.

    It is the same for as long as the process runs, so that an open page finds the next survey at a fixed port.
    """
    return token_urlsafe(16)


@contextmanager
def _serving(survey: Survey, port: int) -> Iterator[str]:
    """Serve a survey to this machine for as long as the block runs; gives the address."""
    try:
        server = _Server(survey, port)
    except OSError as error:
        problem = f"port {port} cannot be had: {error.strerror}"
        raise InputError(problem, field="port", allowed="a free port, or 0 for any") from error
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{_token()}/"
    finally:
        server.shutdown()
        server.finish()
        server.server_close()


@final
class _Server(ThreadingHTTPServer):
    """Server of one survey that nobody can keep: requests arrive in a bounded time, or their connection is cut."""

    daemon_threads = True
    # Connections that wait to be taken; where there is no room for one, it tries again a second later.
    request_queue_size = 128

    def __init__(self, survey: Survey, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Page)
        self.survey = survey
        # Connections whose request is on its way, the oldest first, each with the time it began; the count of requests
        # that are being answered.
        self._arriving: dict[Any, float] = {}
        self._answering = 0
        self._changed = Condition()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            if len(self._arriving) == MOST_ARRIVING:
                self._cut(next(iter(self._arriving)))
            self._arriving[request] = monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        with self._changed:
            for request, begin in list(self._arriving.items()):
                if monotonic() - begin > LONGEST_ARRIVAL:
                    self._cut(request)

    def shutdown_request(self, request: Any) -> None:
        with self._changed:
            self._arriving.pop(request, None)
        super().shutdown_request(request)

    @contextmanager
    def answering(self, request: Any) -> Iterator[None]:
        """A request has arrived and is answered in the block."""
        with self._changed:
            self._arriving.pop(request, None)
            self._answering += 1
        try:
            yield
        finally:
            with self._changed:
                self._answering -= 1
                self._changed.notify_all()

    def finish(self) -> None:
        """Let the last answers go out, and wait for nothing else."""
        with self._changed:
            self._changed.wait_for(lambda: not self._answering, _LAST_ANSWERS)
            for request in list(self._arriving):
                self._cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a connection of the page broke off", exc_info=True)

    def _cut(self, request: Any) -> None:
        self._arriving.pop(request)
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


@final
class _Page(BaseHTTPRequestHandler):
    """Gives the page and the open question, takes answers, and talks to pages of this very server only."""

    server: _Server
    # Browsers open connections that they may never use.
    timeout = 5

    def do_GET(self) -> None:
        self._respond(b"")

    def do_POST(self) -> None:
        stated = self.headers.get("Content-Length", "")
        if not (stated.isascii() and stated.isdecimal()):
            self._send(*_refusal(HTTPStatus.LENGTH_REQUIRED))
            return self._read_past()
        if len(stated) > 12 or int(stated) > self.server.survey.form.most_bytes:
            self._send(*_refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
            return self._read_past()
        try:
            body = self.rfile.read(int(stated))
        except TimeoutError:
            return self._send(*_refusal(HTTPStatus.REQUEST_TIMEOUT))
        return self._respond(body)

    def _respond(self, body: bytes) -> None:
        with self.server.answering(self.connection):
            try:
                response = self._response(body)
            # The page is told of whatever happens here, a full disk for one; a thread has nobody else to tell.
            except Exception as error:
                log.warning("a request of the page could not be answered: %s: %s", type(error).__name__, error)
                response = _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)
            self._send(*response)

    def _response(self, body: bytes) -> _Response:
        survey, root = self.server.survey, f"/{_token()}/"
        if not self._from_here():
            return _refusal(HTTPStatus.FORBIDDEN)
        if not compare_digest(self.path[: len(root)].encode(), root.encode()):
            where = "The whole address of this page, with its last part, is in the terminal."
            return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", where.encode()
        path = self.path.removeprefix(root)
        if self.command == "POST":
            return _answered(survey, path, _told(body))
        if path == "":
            return HTTPStatus.OK, "text/html; charset=utf-8", survey.form.whole_page()
        return _json(survey.open()) if path == "open" else _refusal(HTTPStatus.NOT_FOUND)

    def _from_here(self) -> bool:
        """Whether a page of this server asks, and not one that another site has put into the browser."""
        hosts = {f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")}
        origins = {None, *(f"http://{host}" for host in hosts)}
        return self.headers.get("Host") in hosts and self.headers.get("Origin") in origins

    def _read_past(self) -> None:
        """Take what is still sent, until the connection is cut: closed before, it would take the answer with it."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while self.rfile.read1(1 << 16):
                pass

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        return "uptake"

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""


def _answered(survey: Survey, path: str, told: Mapping[str, Any]) -> _Response:
    """What becomes of something that the page tells."""
    question, answer = survey.question(told.get("key")), told.get("answer")
    if path == "undo":
        survey.undo()
        return _json(survey.open())
    if path == "check" and question and (preview := survey.form.preview(question, answer)) is not None:
        return _json(preview)
    if path == "say" and question and survey.form.takes(question, answer):
        is_new = survey.say(question.key, answer)
        return _json(survey.open(), HTTPStatus.OK if is_new else HTTPStatus.CONFLICT)
    return _refusal(HTTPStatus.BAD_REQUEST)


def _told(body: bytes) -> Mapping[str, Any]:
    """The object that a body spells, all of it text that can be written; else nothing."""
    try:
        told = json.loads(body)
        json.dumps(told, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _json(told: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> _Response:
    return status, "application/json", json.dumps(told).encode()


def _refusal(status: HTTPStatus) -> _Response:
    return _json({"error": status.phrase}, status)
