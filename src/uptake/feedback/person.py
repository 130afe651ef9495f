"""A person as annotator: a page on this machine shows two responses and takes the verdict, by keyboard if one likes."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, final

from uptake.data.cache import Cache, content_key
from uptake.errors import InputError
from uptake.types import Dialogue, Prompt, Verdict
from uptake.world import World

log = logging.getLogger(__name__)

# P(the response shown as 1 is better), by what was said; nothing for a pair that was skipped.
SAID: dict[str, float | None] = {"1": 1.0, "2": 0.0, "tie": 0.5, "skip": None}

_FILE = Path(__file__).with_name("person.html")
# What is in the page itself may run, and nothing from elsewhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
# A verdict is a few bytes.
_MOST_BYTES = 10_000


@final
@dataclass(frozen=True)
class PersonAnnotator:
    """Shows every pair on a page served to this machine only, and waits until all have their verdict.

    Which response stands first depends on `seed` and the pair. Every verdict is in the file `answers` before the next
    pair is shown, and a pair that has one is not shown again, so the work can be stopped at any moment. A skipped pair
    is invalid with the reason "skipped". `port` 0 takes a free one; the address goes to the log. Raises InputError for
    a port that cannot be had.
    """

    answers: str = "person.sqlite"
    port: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise InputError(f"{self.port}", field="port", allowed="0 to 65535; 0 takes a free one")

    def start(self, world: World) -> "PersonAnnotator":
        """The annotator of a run, which keeps its answers in the run's folder."""
        return replace(self, answers=str(world.folder / self.answers))

    @property
    def fingerprint(self) -> str:
        return repr((self.answers, self.seed))

    def __call__(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        duels = [Duel.of(prompt.turns, pair, self.seed) for prompt, pair in zip(prompts, pairs, strict=True)]
        desk = Desk(duels, Cache(self.answers))
        if not desk.finished.is_set():
            with _serving(desk, self.port) as address:
                log.warning("%d pairs wait at %s for a person on this machine", desk.waiting, address)
                desk.finished.wait()
        return desk.verdicts()


@dataclass(frozen=True, slots=True)
class Duel:
    """Two responses as a person is shown them; `turned` says that the second one stands first."""

    key: str
    turns: Dialogue
    shown: tuple[str, str]
    turned: bool

    @classmethod
    def of(cls, turns: Dialogue, pair: tuple[str, str], seed: int) -> "Duel":
        content = [(turn.role, turn.content) for turn in turns]
        turned = bool(sha256(content_key(seed, content, sorted(pair)).encode()).digest()[0] % 2) == (pair[0] < pair[1])
        shown = (pair[1], pair[0]) if turned else pair
        # The same two responses in the other order are the same question.
        return cls(content_key(content, shown), turns, shown, turned)


@final
class Desk:
    """What is open and what was said; every verdict is kept before it counts."""

    def __init__(self, duels: Sequence[Duel], cache: Cache) -> None:
        self._duels, self._cache, self._lock = duels, cache, Lock()
        self._said: dict[str, str] = {key: said for key, said in cache.get(duel.key for duel in duels).items() if said}
        self._latest: list[str] = []
        self.finished = Event()
        self._finish()

    def open(self) -> dict[str, Any]:
        """The first pair without a verdict, as the page wants it; none where all have one."""
        with self._lock:
            found: dict[str, Any] = {"done": len(self._duels) - self.waiting, "all": len(self._duels)}
            duel = next((duel for duel in self._duels if duel.key not in self._said), None)
            if duel is not None:
                turns = [{"role": turn.role, "content": turn.content} for turn in duel.turns]
                found |= {"key": duel.key, "turns": turns, "answers": list(duel.shown)}
            return found

    @property
    def waiting(self) -> int:
        """How many duels have no verdict yet."""
        return sum(duel.key not in self._said for duel in self._duels)

    def say(self, key: str, said: str) -> bool:
        """Keep a verdict; False, and nothing changes, where the pair has one or is not on this desk."""
        with self._lock:
            if self.finished.is_set() or key in self._said or all(duel.key != key for duel in self._duels):
                return False
            self._cache.put({key: said})
            self._said[key] = said
            self._latest.append(key)
            self._finish()
            return True

    def undo(self) -> None:
        """Open the pair of the latest verdict of this sitting again."""
        with self._lock:
            if self._latest and not self.finished.is_set():
                key = self._latest.pop()
                self._cache.put({key: ""})
                del self._said[key]

    def verdicts(self) -> list[Verdict]:
        """One verdict for every duel, of the first response as it was handed in."""
        return [_verdict(self._said[duel.key], duel.turned) for duel in self._duels]

    def _finish(self) -> None:
        if not self.waiting:
            self.finished.set()


def _verdict(said: str, turned: bool) -> Verdict:
    p = SAID[said]
    if p is None:
        return Verdict(0.5, (0.5, 0.5), valid=False, reason="skipped")
    p = 1 - p if turned else p
    return Verdict(p, (p, p))


@contextmanager
def _serving(desk: Desk, port: int) -> Iterator[str]:
    """Serve a desk to this machine for as long as the block runs; gives the address."""
    try:
        server = _Server(("127.0.0.1", port), _Page)
    except OSError as error:
        problem = f"port {port} cannot be had: {error.strerror}"
        raise InputError(problem, field="port", allowed="a free port, or 0 for any") from error
    server.desk = desk
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@final
class _Server(ThreadingHTTPServer):
    # The answer to the last verdict is on its way when the desk is finished; closing waits for it.
    daemon_threads = False
    desk: Desk


@final
class _Page(BaseHTTPRequestHandler):
    """Gives the page and the open pair, takes verdicts, and talks to pages of this very server only."""

    server: _Server
    # Browsers open connections that they may never use.
    timeout = 5

    def do_GET(self) -> None:
        if not self._from_here():
            self._refuse(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", _FILE.read_bytes())
        elif self.path == "/open":
            self._show()
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        told = self._told()
        if not self._from_here():
            self._refuse(HTTPStatus.FORBIDDEN)
        elif self.path == "/undo":
            self.server.desk.undo()
            self._show()
        elif self.path == "/say" and isinstance(told.get("key"), str) and told.get("said") in SAID:
            kept = self.server.desk.say(told["key"], told["said"])
            self._show(HTTPStatus.OK if kept else HTTPStatus.CONFLICT)
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
            told = json.loads(self.rfile.read(max(0, min(length, _MOST_BYTES))))
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    def _show(self, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, "application/json", json.dumps(self.server.desk.open()).encode())

    def _refuse(self, status: HTTPStatus) -> None:
        self._send(status, "application/json", json.dumps({"error": status.phrase}).encode())

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
