"""Questions to a server: what stands beside an answer costs nothing, and nothing is read or waited for without end."""

import asyncio
import gzip
import json
import logging
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from math import log
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import pytest
from tiny_server import INSTRUCTIONS, Answer, JudgeServer, failure, said, told

from uptake.annotators.completion import ChatCompletion, first_preferred
from uptake.annotators.server import ServerJudge
from uptake.client import Server, held_by, let_go
from uptake.client.server import _open, _run
from uptake.edits.edit import Draft, Proposal
from uptake.edits.server import ServerEditor
from uptake.errors import InputError, UptakeError
from uptake.support.keys import prompt_key
from uptake.support.stop import Stopped, stopped_by_signals
from uptake.types import Dropped, Prompt, Turn, Verdict

TURNS = (Turn("user", "How is it?"),)
Make = Callable[..., ServerJudge]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Judges that ask one question at a time, with answers in a file of their own."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    path = tmp_path / "brief.txt"
    path.write_text(INSTRUCTIONS)

    def judge(url: str, **settings: Any) -> ServerJudge:
        files = {"instructions": str(path), "cache": str(tmp_path / f"{time.monotonic_ns()}.sqlite")}
        short = {"timeout": 5.0, "retries": 0, "attempts": 1, "concurrency": 1}
        return ServerJudge(**{"url": url, "model": "m", **short, **files, **settings})

    return judge


def verdict(judge: ServerJudge) -> Verdict:
    return judge.compare([Prompt(TURNS, prompt_key(TURNS))], [("good good", "bad")])[0]


def answering(make: Make, answer: Answer, **settings: Any) -> Verdict:
    """The verdict where every question has the same answer."""
    with JudgeServer(lambda number, request: answer) as server:
        return verdict(make(server.url, **settings))


# --- what stands beside an answer -------------------------------------------------------------------------------------

# 1 has three times the probability of 2.
TOPS = [{"token": "1", "logprob": log(0.6)}, {"token": "2", "logprob": log(0.2)}]
TOKEN = {"token": "1", "logprob": log(0.6), "top_logprobs": TOPS}
WHOLE: dict[str, Any] = {
    "choices": [{"message": {"content": "1"}, "finish_reason": "stop", "logprobs": {"content": [TOKEN]}}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 1},
}


def whole(**changes: Any) -> dict[str, Any]:
    """An honest answer with other details: `usage`, `finish_reason`, `content`, `logprobs`, `tops` or `more`."""
    body = deepcopy(WHOLE)
    (choice,) = body["choices"]
    for name, value in changes.items():
        if name == "usage":
            body[name] = value
        elif name == "content":
            choice["message"][name] = value
        elif name == "tops":
            choice["logprobs"]["content"][0]["top_logprobs"] = value
        elif name == "more":
            body["choices"] += value
        else:
            choice[name] = value
    return body


@pytest.mark.parametrize(
    ("changes", "p"),
    [
        ({}, 0.75),
        ({"usage": None}, 0.75),
        ({"usage": []}, 0.75),
        ({"usage": {"prompt_tokens": None, "completion_tokens": "many"}}, 0.75),
        ({"finish_reason": "eos"}, 0.75),
        ({"finish_reason": None}, 0.75),
        ({"finish_reason": {"type": "stop"}}, 0.75),
        ({"content": [{"type": "text", "text": "1"}]}, 0.75),
        ({"content": ["1", {"type": "image"}, {"type": "text", "text": None}]}, 0.75),
        ({"more": [None, {"message": 3}]}, 0.75),
        ({"tops": {"1": log(0.6), "2": log(0.2)}}, 0.75),
        ({"tops": [*TOPS, None, {"token": 3}, {"token": "x", "logprob": None}, {"token": "2", "logprob": 1e9}]}, 0.75),
        ({"tops": [*TOPS, {"token": "y", "logprob": float("nan")}]}, 0.75),
        # Without alternatives, or with none that can be read, the text decides.
        ({"tops": None}, 1.0),
        ({"tops": 3}, 1.0),
        ({"logprobs": None}, 1.0),
        ({"logprobs": [1]}, 1.0),
        ({"logprobs": {"content": None}}, 1.0),
        ({"logprobs": {"content": [{"id": 3}]}}, 1.0),
        ({"logprobs": {"tokens": ["1"], "token_logprobs": [-0.1]}}, 1.0),
    ],
)
def test_what_stands_beside_an_answer_never_costs_the_verdict(make: Make, changes: dict[str, Any], p: float) -> None:
    """Asked once in each order; whichever response is shown first is preferred, so both orders together are even."""
    with JudgeServer(lambda number, request: told(whole(**changes))) as server:
        found = verdict(make(server.url, attempts=3))
        assert len(server.requests) == 2
    assert found.valid
    assert found.by_order == pytest.approx((p, 1 - p), abs=1e-12)
    assert found.tokens == (0 if "usage" in changes else 202)


def test_it_is_read_from_disk_as_it_was_read_from_the_server(make: Make) -> None:
    answer = told(whole(tops=[*TOPS, None], content=[{"type": "text", "text": "1"}], usage=None))
    with JudgeServer(lambda number, request: answer) as server:
        judge = make(server.url)
        assert verdict(judge) == verdict(judge)
        assert len(server.requests) == 2


# --- thoughts, and answers that are cut off ---------------------------------------------------------------------------


def read(text: str | None, *tokens: tuple[str, dict[str, float]], **message: Any) -> float | None:
    content = [
        {"token": token, "top_logprobs": [{"token": t, "logprob": log(p)} for t, p in tops.items()]}
        for token, tops in tokens
    ]
    choice = {"message": {"content": text, **message}, "logprobs": {"content": content}}
    return first_preferred(ChatCompletion.model_validate({"choices": [choice]}), "Preferred Response=")


ONE, TWO = {"1": 0.9, "2": 0.1}, {"1": 0.2, "2": 0.6}
THOUGHT = [("<think>", {}), ("Response", {}), (" 2", ONE), (" is", {}), (" worse", {}), ("</think>", {})]


@pytest.mark.parametrize(
    ("text", "p"),
    [
        ("<think>2 is worse than 1.</think>\n\n1", 1.0),
        ("\n<think>\n</think>\n2", 0.0),
        # The template has opened the thoughts in the question.
        ("1 and 2 are alike, but</think> 2", 0.0),
        ("<think>1</think> 1 or 2", None),
        ("<think>1</think>", None),
        # Thoughts without an end are no answer, nor is a word beside them.
        ("<think>1", None),
        ("1 <think>2", None),
    ],
)
def test_thoughts_are_read_past(text: str, p: float | None) -> None:
    assert read(text) == p


@pytest.mark.parametrize("closing", [[], [("<|im_end|>", {"1": 1e-9})]])
def test_evidence_is_that_of_the_answer_and_not_of_its_thoughts(closing: list[tuple[str, dict[str, float]]]) -> None:
    """Whether the thoughts are in the text, or a server has taken them out of it, and not out of the tokens."""
    tokens = [*THOUGHT, ("\n\n", {}), ("2", TWO), *closing]
    text = "".join(token for token, _ in tokens[:-1] if token != "<|im_end|>") if closing else None
    text = "<think>Response 2 is worse</think>\n\n2" if text is None else text
    assert read(text, *tokens) == pytest.approx(0.25)
    assert read("\n\n2", *tokens, reasoning_content="Response 2 is worse") == pytest.approx(0.25)


def test_tokens_that_do_not_spell_the_answer_are_no_evidence() -> None:
    assert read("2", *THOUGHT[:2], ("1", ONE)) == 0.0


@pytest.mark.parametrize(
    ("message", "reason", "detail"),
    [
        ({"content": "Let me think"}, "length", "not 1 or 2 but 'Let me think', cut off by max_tokens"),
        ({"content": "<think>Well, 1"}, "max_tokens", "not 1 or 2 but '<think>Well, 1', cut off by max_tokens"),
        ({"content": None, "reasoning_content": "I see"}, "length", "not 1 or 2 but 'I see', cut off by max_tokens"),
        ({"content": "", "reasoning": "I see"}, "model_length", "not 1 or 2 but 'I see', cut off by max_tokens"),
        ({"content": None}, "length", "not 1 or 2 but '', cut off by max_tokens"),
        ({"content": "Both"}, "stop", "not 1 or 2 but 'Both'"),
        ({"content": None}, "stop", ""),
    ],
)
def test_an_answer_that_is_cut_off_says_so_and_is_quoted(
    make: Make, message: dict[str, Any], reason: str, detail: str
) -> None:
    found = answering(make, told({"choices": [{"message": message, "finish_reason": reason}]}))
    assert (found.reason, found.detail) == (Dropped.NO_CHOICE, detail)


def test_a_choice_is_a_choice_though_the_limit_has_ended_it(make: Make) -> None:
    assert answering(make, told(whole(finish_reason="length"))).valid


@pytest.mark.parametrize(
    ("content", "finish", "expected"),
    [
        ("<think><edited>No.</edited></think><edited>At nine.</edited>", "stop", Proposal("At nine.", tokens=5)),
        ("<edited>At", "stop", Proposal(reason="parse", answer="<edited>At", tokens=10)),
        ("<edited>At", "length", Proposal(reason="cut_off", answer="<edited>At", tokens=10)),
        ("<think>Well", "max_tokens", Proposal(reason="cut_off", answer="<think>Well", tokens=10)),
        # A limit that has been met after the edit takes nothing from it.
        ("<edited>At nine.</edited> I have", "length", Proposal("At nine.", tokens=5)),
    ],
)
def test_thoughts_and_ends_of_an_edit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, finish: str, expected: Proposal
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    choice = {"message": {"content": content}, "finish_reason": finish}
    answer = told({"choices": [choice], "usage": {"prompt_tokens": 4, "completion_tokens": 1}})
    with JudgeServer(lambda number, request: answer) as server:
        editor = ServerEditor(url=server.url, model="m", retries=0, cache=str(tmp_path / "a.sqlite"))
        assert list(editor([Draft(Prompt(TURNS, prompt_key(TURNS)), "At eight.")])) == [expected]


# --- errors under another status --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        {"code": 429, "message": "slow down"},
        {"code": "503", "message": "loading"},
        {"type": "overloaded", "code": None},
        "the model is busy",
    ],
)
def test_an_error_in_a_body_is_that_error(make: Make, error: Any) -> None:
    """Sent again after as long as the server asks for, and no answer that is none."""
    busy = told({"error": error}, retry_after_ms="300")
    with JudgeServer(lambda number, request: busy if number == 0 else None) as server:
        found = verdict(make(server.url, retries=1))
        assert (found.valid, len(server.requests)) == (True, 3)


def test_what_hits_every_question_stops_at_once_under_any_status(make: Make) -> None:
    answer = told({"error": {"code": 402, "message": "no credit"}})
    with JudgeServer(lambda number, request: answer) as server:
        with pytest.raises(UptakeError, match=r"model m: payment is required \(status 402\)"):
            verdict(make(server.url))
        assert len(server.requests) == 1


def test_a_setting_that_is_refused_in_a_body_is_left_out(make: Make) -> None:
    refused = told({"error": {"code": 400, "message": "unsupported: logprobs"}})
    with JudgeServer(lambda number, request: refused if "logprobs" in request else None) as server:
        found = verdict(make(server.url))
    assert found.by_order == (1.0, 1.0)


def test_an_answer_beside_an_empty_error_is_an_answer(make: Make) -> None:
    assert answering(make, told(whole() | {"error": None})).valid
    assert answering(make, told(whole() | {"error": {"code": 500}})).valid


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"error": {"message": "too\\nlong"}}', "status 500: too long"),
        (b'{"error": "too long"}', "status 500: too long"),
        (b'{"detail": "too long"}', "status 500: too long"),
        (b'{"message": ["too", 1]}', "status 500: ['too', 1]"),
        (b"<h1>Oh no</h1>", "status 500: <h1>Oh no</h1>"),
        (b"", "status 500: "),
        (b"\xff", "status 500: \ufffd"),
        (b"[" * 100_000, "status 500: [[["),
    ],
)
def test_what_the_server_says_of_an_error(
    make: Make, body: bytes, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert answering(make, Answer(body, 500)).reason is Dropped.NO_ANSWER
    assert f"no answer to a question: {problem}" in caplog.text


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 500])
def test_a_time_out_bounds_the_whole_request(make: Make, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """A byte every 50 ms: none is late, and all of them would take a minute."""
    drip = Answer(json.dumps(whole()).encode().ljust(1200), status, drip=0.05)
    begin = time.monotonic()
    assert answering(make, drip, timeout=0.4, retries=0).reason is Dropped.NO_ANSWER
    assert time.monotonic() - begin < 5
    assert "no answer to a question: no whole answer in 0.4 seconds" in caplog.text


@pytest.mark.parametrize(("extra", "reason"), [(0, None), (1, Dropped.NO_ANSWER)])
def test_an_answer_has_a_largest_size(
    make: Make, extra: int, reason: Dropped | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps(whole()).encode()
    monkeypatch.setattr("uptake.client.post.LARGEST_ANSWER", len(body) + 1000)
    assert answering(make, Answer(body.ljust(len(body) + 1000 + extra)), retries=3).reason is reason
    assert ("an answer of more than 0 MiB" in caplog.text) == bool(extra)


def test_an_answer_that_is_packed_is_never_unpacked(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A small one may become a large one; servers are asked for plain answers."""
    packed = Answer(gzip.compress(json.dumps(whole()).encode()), headers={"content-encoding": "gzip"})
    with JudgeServer(lambda number, request: packed) as server:
        assert verdict(make(server.url, retries=3)).reason is Dropped.NO_ANSWER
        assert server.headers[0]["accept-encoding"] == "identity"
    assert "an answer packed by 'gzip', which was not asked for" in caplog.text


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_question_goes_to_another_host(make: Make, status: int) -> None:
    with JudgeServer() as elsewhere:
        # Another port, and the same port by another name.
        for there in (elsewhere.url, None):
            with JudgeServer() as server:
                moved = there or server.url.replace("127.0.0.1", "localhost")
                answer = told({}, status, location=f"{moved}/chat/completions?key=sk-5ecret")
                server.plan = lambda number, request, answer=answer: answer  # type: ignore[misc]
                with pytest.raises(InputError) as caught:
                    verdict(make(server.url, retries=3))
                assert len(server.requests) == 1
            host = moved.removesuffix("/v1")
            expected = f"field 'url': {server.url}: it sends its questions on to {host}"
            assert str(caught.value) == f"{expected} (allowed: the address of the server itself)"
        assert elsewhere.requests == []


def test_on_its_own_host_a_server_may_move_a_question(make: Make) -> None:
    moved = told({}, 307, location="/v2/chat/completions")
    with JudgeServer(lambda number, request: moved if len(server.paths) % 2 else None) as server:
        assert verdict(make(server.url)).valid
        assert server.paths == ["/v1/chat/completions", "/v2/chat/completions"] * 2
        assert server.requests[0] == server.requests[1]


def test_a_redirect_without_end(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    assert answering(make, told({}, 307, location="/v1/chat/completions")).reason is Dropped.NO_ANSWER
    assert "redirects" in caplog.text


@pytest.mark.parametrize("pause", [{"retry_after": "Thu, 01 Jan 2026 00:00:00 GMT"}, {"retry_after_ms": "-5"}])
def test_a_server_that_asks_for_no_pause(make: Make, pause: dict[str, str]) -> None:
    """A date that has passed: sooner than the first pause that is made unasked."""
    with JudgeServer(lambda number, request: told({}, 503, **pause) if number == 0 else None) as server:
        assert verdict(make(server.url, retries=1)).valid
        assert server.times[1] - server.times[0] < 0.3


# --- at the door ------------------------------------------------------------------------------------------------------


def test_blanks_around_a_key_are_none_of_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", " sk-5ecret\r\n")
    with JudgeServer() as server:
        server.key = "sk-5ecret"
        assert verdict(make(server.url, key_variable="JUDGE_KEY")).valid


@pytest.mark.parametrize(
    "key", ["sk-5ecret\nX-More: 1", "sk 5ecret", "sk-5ecr\u00e9t", "sk-5ecret\u200b", "sk-\x7f", " "]
)
def test_a_key_that_can_be_none_is_refused_before_anything_is_sent(
    make: Make, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JUDGE_KEY", key)
    with JudgeServer() as server:
        judge = make(server.url, key_variable="JUDGE_KEY")
        for act in (lambda: verdict(judge), judge.key):
            with pytest.raises(InputError, match="field 'key_variable'") as caught:
                act()
            assert "5ecr" not in str(caught.value)
        assert server.requests == []


def test_without_a_key_none_is_sent(make: Make) -> None:
    with JudgeServer() as server:
        verdict(make(server.url))
    assert all("authorization" not in headers for headers in server.headers)


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://", "http:///v1", "ftp://h/v1", "http://h:0/v1", "http://h:99999/v1", "http://h:x/v1",
     "http://h /v1", "http://h/v1\n", "http://h\x00/v1"],
)  # fmt: skip
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(InputError, match=r"field 'url'.*allowed: an address like"):
        Server(url=url, model="m")


def test_a_model_s_name_is_text() -> None:
    with pytest.raises(InputError, match=r"field 'model'.*allowed: a name in Unicode"):
        Server(url="http://h/v1", model="a\ud800")


def test_a_command_has_the_bounds_of_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with JudgeServer(lambda number, request: Answer(b'"done"'.ljust(1000), drip=0.05)) as server:
        plain = Server(url=server.url, model="m", timeout=0.3)
        with pytest.raises(UptakeError, match=r"/reset: no whole answer in 0.3 seconds \(needed: patience\)"):
            plain.command("/reset", {}, "patience")
        server.plan = lambda number, request: Answer(b"done")
        assert plain.command("/reset", {"a": 1}, "patience") == "done"
        assert (server.paths[-1], server.requests[-1]) == ("/reset", {"a": 1})
        server.plan = lambda number, request: failure(404, "no such thing")
        with pytest.raises(UptakeError, match=r"/reset: status 404: no such thing \(needed: patience\)"):
            plain.command("/reset", {}, "patience")


def test_nothing_of_a_question_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert answering(make, replace(said("1"), wait=0.0)).valid
    assert "good good" not in caplog.text


async def connected(wait: Callable[[], Any]) -> None:
    """What comes while a connection is opened, in a group of tasks as the library has it."""

    async def opened() -> None:
        wait()

    async with anyio.create_task_group() as group:
        group.start_soon(opened)
        await asyncio.sleep(5)


def test_a_signal_while_connections_are_opened_ends_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Tasks of the library hold it in a group of errors, which the loop would log when it closes."""
    with pytest.raises(Stopped), stopped_by_signals():
        _run(connected(lambda: signal.raise_signal(signal.SIGHUP)))
    assert caplog.messages == []


def test_a_holder_lets_go_of_its_calls_alone() -> None:
    """Of a thread's, and of those that a loop of the thread makes in another thread."""
    ended, holders = Event(), (object(), object())

    async def waiting() -> str:
        while not ended.is_set():
            await asyncio.sleep(0.01)
        return "whole"

    async def within() -> str:
        return _run(waiting())

    def call(holder: object, work: Callable[[], Any]) -> Any:
        held_by(holder)
        return asyncio.run(work()) if work is within else _run(work())

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(call, holder, work) for holder in holders for work in (waiting, within)]
        while len(_open) < 4:
            time.sleep(0.01)
        let_go(holders[0])
        for each in calls[:2]:
            with pytest.raises(asyncio.CancelledError):
                each.result()
        ended.set()
        assert [each.result() for each in calls[2:]] == ["whole", "whole"]


def test_other_errors_of_a_loop_are_still_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)

    _run(failing())
    assert "ZeroDivisionError" in caplog.text
