"""A server of OpenAI's chat protocol on this machine: an oracle that counts the word "good", and errs on demand."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import exp, log
from threading import Lock, Thread, Timer
from typing import Any

INSTRUCTIONS = "{prompt}\nA: {first}\nB: {second}\nBetter: "
DUEL = re.compile(r"\nA: (.*)\nB: (.*)\nBetter: ?\Z", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """What the server says; `cut` breaks the connection off after half of it, `drip` is the time from byte to byte."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    cut: bool = False
    drip: float = 0.0


# At the number of a request, counted from 0, another answer than the oracle's; called with the request.
Plan = Callable[[int, dict[str, Any]], Answer | None]


def told(body: Any, status: int = 200, **headers: str) -> Answer:
    """Any JSON at all."""
    return Answer(json.dumps(body).encode(), status, {name.replace("_", "-"): value for name, value in headers.items()})


def said(text: str, tops: Mapping[str, float] | None = None, read: int = 100) -> Answer:
    """An honest answer with the probabilities of some tokens in place of its only one."""
    content = [
        {
            "token": text,
            "logprob": -0.1,
            "top_logprobs": [{"token": token, "logprob": log(share)} for token, share in (tops or {}).items()],
        }
    ]
    choice = {"message": {"content": text}, "logprobs": {"content": content} if tops else None}
    return Answer(json.dumps({"choices": [choice], "usage": {"prompt_tokens": read, "completion_tokens": 1}}).encode())


def failure(status: int, message: str = "no", **headers: str) -> Answer:
    """An error as servers report it; the retry comes at once unless `headers` say another thing."""
    soon = {"retry-after-ms": "1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Answer(json.dumps({"error": {"message": message}}).encode(), status, soon)


def preference(text: str, bias: float = 0.0) -> float:
    """P(the response shown first is better), as the oracle sees it."""
    match = DUEL.search(text)
    assert match, text
    first, second = (shown.count("good") for shown in match.groups())
    return 1 / (1 + exp(-(first - second + bias)))


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # of connections at once; the library's 5 make a client wait for a second


class JudgeServer:
    """`with JudgeServer() as server`: `requests` holds all that came, `paid` the questions that were answered whole."""

    def __init__(self, plan: Plan = lambda number, request: None, *, bias: float = 0.0, logprobs: bool = True) -> None:
        self.plan, self.bias, self.logprobs = plan, bias, logprobs
        self.key: str | None = None
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.times: list[float] = []
        self.paid: list[str] = []
        self.open = self.most_open = self.port = 0
        self._lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "JudgeServer":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.handle(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = Listener(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def restart(self, after: float) -> None:
        """Goes away now and comes back later, at the same place."""
        self.stop()
        Timer(after, self.start).start()

    def handle(self, http: BaseHTTPRequestHandler) -> None:
        request = json.loads(http.rfile.read(int(http.headers["content-length"])))
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self.paths.append(http.path)
            self.headers.append({name.lower(): value for name, value in http.headers.items()})
            self.times.append(time.monotonic())
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        answer = self._refused(http) or self.plan(number, request) or self._honest(request)
        time.sleep(answer.wait)
        try:
            self._send(http, answer)
            with self._lock:
                if answer.status == 200 and not answer.cut and "messages" in request:
                    self.paid.append(request["messages"][0]["content"])
        except OSError:
            pass  # the client is gone
        finally:
            with self._lock:
                self.open -= 1

    def _refused(self, http: BaseHTTPRequestHandler) -> Answer | None:
        given = http.headers["authorization"]
        if self.key is None or given == f"Bearer {self.key}":
            return None
        return failure(401, f"the key in {given} is wrong")

    def _honest(self, request: dict[str, Any]) -> Answer:
        p = preference("\n".join(message["content"] for message in request["messages"]), self.bias)
        text = "1" if p >= 0.5 else "2"
        asked = self.logprobs and request.get("logprobs")
        return said(text, {"1": 0.9 * p, "2": 0.9 * (1 - p), "Both": 0.05} if asked else None)

    def _send(self, http: BaseHTTPRequestHandler, answer: Answer) -> None:
        http.send_response(answer.status)
        for name, value in {"content-type": "application/json", **answer.headers}.items():
            http.send_header(name, value)
        http.send_header("content-length", str(len(answer.body)))
        http.end_headers()
        for byte in answer.body if answer.drip else b"":
            http.wfile.write(bytes([byte]))
            time.sleep(answer.drip)
        if not answer.drip:
            http.wfile.write(answer.body[: len(answer.body) // 2] if answer.cut else answer.body)
