"""The judge behind a server: a real server on this machine that misbehaves in every way that servers do."""

import asyncio
import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from math import exp, log
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tiny import tiny_world
from tiny_server import INSTRUCTIONS, Answer, JudgeServer, failure, said

from uptake.annotators.completion import ChatCompletion, first_preferred
from uptake.annotators.server import ServerJudge
from uptake.errors import InputError, UptakeError
from uptake.recipe import describe
from uptake.rewards.base import Resources
from uptake.support.keys import prompt_key
from uptake.types import Dropped, Prompt, Turn, Verdict

PAIRS = [("good good", "bad"), ("bad", "good"), ("so so", "good good good"), ("fine", "well")]
NO_ANSWER = Verdict(0.5, (0.5, 0.5), reason=Dropped.NO_ANSWER)
Make = Callable[..., ServerJudge]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Judges of a server that wait for nothing."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    path = tmp_path / "brief.txt"
    path.write_text(INSTRUCTIONS)

    def judge(server: JudgeServer, **settings: Any) -> ServerJudge:
        files = {"instructions": str(path), "cache": str(tmp_path / "judge.sqlite")}
        return ServerJudge(**{"url": server.url, "model": "oracle", "timeout": 5.0, "retries": 2, **files, **settings})

    return judge


def verdicts(judge: ServerJudge, pairs: list[tuple[str, str]] = PAIRS) -> list[Verdict]:
    turns = (Turn("user", "How is it?"),)
    return list(judge.compare([Prompt(turns, prompt_key(turns))] * len(pairs), pairs))


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def at(*numbers: int, answer: Answer) -> Callable[[int, dict[str, Any]], Answer | None]:
    """The same answer to the requests of some numbers."""
    return lambda number, request: answer if number in numbers else None


# --- a server that behaves --------------------------------------------------------------------------------------------


def test_probabilities_are_those_of_the_server(make: Make) -> None:
    with JudgeServer(bias=0.8) as server:
        found = verdicts(make(server, input_price=2.0, output_price=10.0))
    for (first, second), verdict in zip(PAIRS, found, strict=True):
        contrast = first.count("good") - second.count("good")
        by_order = sigmoid(contrast + 0.8), sigmoid(contrast - 0.8)
        assert verdict.by_order == pytest.approx(by_order, abs=1e-12)
        assert verdict.p == pytest.approx(sum(by_order) / 2, abs=1e-12)
        assert (verdict.valid, verdict.tokens) == (True, 202)
        assert verdict.cost == pytest.approx((200 * 2.0 + 2 * 10.0) / 1e6)


def test_the_mean_of_logits_cancels_the_bias(make: Make) -> None:
    with JudgeServer(bias=0.8) as biased, JudgeServer() as plain:
        one = verdicts(make(biased, order_average="logit", model="a"))
        other = verdicts(make(plain, order_average="logit", model="b"))
    assert [each.p for each in one] == pytest.approx([each.p for each in other], abs=1e-12)
    assert [each.by_order for each in one] != [each.by_order for each in other]


@pytest.mark.parametrize(("order_average", "p"), [("prob", 0.65), ("logit", 0.651669)])
def test_both_averages_of_two_readings(order_average: str, p: float, make: Make) -> None:
    """Whatever is shown first has 0.7 in one order and 0.4 in the other."""

    def plan(number: int, request: dict[str, Any]) -> Answer:
        first = "A: one" in request["messages"][0]["content"]
        return said("1", {"1": 0.7, "2": 0.3} if first else {"1": 0.4, "2": 0.6})

    with JudgeServer(plan) as server:
        (verdict,) = verdicts(make(server, order_average=order_average), [("one", "two")])
    assert verdict.by_order == pytest.approx((0.7, 0.6))
    assert verdict.p == pytest.approx(p, abs=1e-6)


def test_label_swap_costs_nothing(make: Make) -> None:
    """The other way round, the same two questions are asked: they are in the cache."""
    with JudgeServer(bias=0.3) as server:
        one = verdicts(make(server))
        other = verdicts(make(server), [(b, a) for a, b in PAIRS])
        assert len(server.requests) == 8
    for x, y in zip(one, other, strict=True):
        assert y.p == pytest.approx(1 - x.p, abs=1e-12)
        assert y.by_order == pytest.approx((1 - x.by_order[1], 1 - x.by_order[0]), abs=1e-12)


def test_without_log_probabilities_the_text_decides(make: Make) -> None:
    with JudgeServer(logprobs=False) as server:
        found = verdicts(make(server), PAIRS[:3])
    assert [(each.p, each.by_order) for each in found] == [(1, (1, 1)), (0, (0, 0)), (0, (0, 0))]


def test_what_is_sent(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-you")
    with JudgeServer() as server:
        verdicts(make(server), PAIRS[:1])
        bodies = sorted(server.requests, key=lambda body: str(body["messages"]))
        assert [body.pop("messages") for body in bodies] == [
            [
                {"role": "user", "content": f"How is it?\nA: {first}\nB: {second}"},
                {"role": "assistant", "content": "Better:"},
            ]
            for first, second in (("bad", "good good"), ("good good", "bad"))
        ]
        settings = {"model": "oracle", "max_tokens": 8, "temperature": 0, "logprobs": True, "top_logprobs": 20}
        going_on = {"continue_final_message": True, "add_generation_prompt": False}
        assert bodies == [settings | going_on] * 2
        assert "sk-not-for-you" not in str(server.headers)
        verdicts(make(server, top_logprobs=0), PAIRS[:1])
        assert "logprobs" not in server.requests[-1]


def test_equal_responses_and_repeated_duels_are_not_paid_for(make: Make) -> None:
    with JudgeServer() as server:
        found = verdicts(make(server), [("fine", "fine"), PAIRS[0], PAIRS[0], ("fine", "fine")])
        assert len(server.requests) == 2
    assert found[0] == found[3] == Verdict(0.5, (0.5, 0.5))
    assert found[1] == found[2]


def test_no_more_questions_are_open_than_allowed(make: Make) -> None:
    """And as many as allowed: eight questions of 50 ms, three at a time, wait for one another."""
    slow = lambda number, request: replace(said("1"), wait=0.05)  # noqa: E731
    with JudgeServer(slow) as server:
        verdicts(make(server, concurrency=3))
        assert server.most_open == 3


def test_inside_a_running_loop(make: Make) -> None:
    async def notebook() -> list[Verdict]:
        return verdicts(make(server))

    with JudgeServer() as server:
        inside = asyncio.run(notebook())
        assert inside == verdicts(make(server))
        assert len(server.requests) == 8


# --- the cache --------------------------------------------------------------------------------------------------------


def test_a_second_run_pays_nothing_and_needs_no_server(make: Make) -> None:
    with JudgeServer() as server:
        judge = make(server, key_variable=None)
        first = verdicts(judge)
    assert verdicts(judge) == first
    assert verdicts(replace(judge, url="http://127.0.0.1:1/v1", concurrency=1, input_price=0.0)) == first


@pytest.mark.parametrize("change", [{"model": "other"}, {"max_tokens": 3}, {"top_logprobs": 5}])
def test_other_settings_are_other_questions(change: dict[str, Any], make: Make) -> None:
    with JudgeServer() as server:
        verdicts(make(server), PAIRS[:1])
        verdicts(make(server, **change), PAIRS[:1])
        assert len(server.requests) == 4


def test_answers_are_kept_before_the_next_one_comes(make: Make, tmp_path: Path) -> None:
    """Whenever a question arrives, all answers before it are on disk: the server looks."""
    kept: list[int] = []

    def plan(number: int, request: dict[str, Any]) -> None:
        with closing(sqlite3.connect(tmp_path / "judge.sqlite")) as base:
            kept.append(base.execute("SELECT count(*) FROM answers").fetchone()[0])

    with JudgeServer(plan) as server:
        verdicts(make(server, concurrency=1))
    assert kept == list(range(8))


# --- a server that misbehaves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        failure(500),
        failure(503),
        failure(429),
        failure(408),
        replace(said("1"), cut=True),
        Answer(b"<html>502 Bad Gateway</html>", headers={"content-type": "text/html"}),
        Answer(b'{"choices": [{"mess'),
        Answer(b'{"choices": []}'),
        Answer(b"[1, 2]"),
        said("3"),
        said(""),
        said("1 or 2"),
    ],
    ids=str,
)
def test_what_goes_wrong_once_is_asked_again(answer: Answer, make: Make) -> None:
    with JudgeServer(at(0, 3, answer=answer)) as server:
        found = verdicts(make(server, retries=3), PAIRS[:3])
        assert len(server.requests) == 8
    assert [each.p for each in found] == pytest.approx([sigmoid(2), sigmoid(-1), sigmoid(-3)], abs=1e-12)


def test_retry_after_is_waited_for(make: Make) -> None:
    """Twice as long as any pause that the client would make on its own account."""
    with JudgeServer(at(0, answer=Answer(b"{}", 429, {"retry-after": "1"}))) as server:
        (verdict,) = verdicts(make(server, concurrency=1), PAIRS[:1])
        assert verdict.valid
        assert server.requests[0] == server.requests[1]
        assert 1.0 <= server.times[1] - server.times[0] < 1.5


def test_time_outs_are_asked_again_and_then_invalid(make: Make) -> None:
    def plan(number: int, request: dict[str, Any]) -> Answer | None:
        stuck = "so so" in request["messages"][0]["content"]
        return replace(said("1"), wait=0.4) if number == 0 or stuck else None

    with JudgeServer(plan) as server:
        found = verdicts(make(server, timeout=0.15, retries=1, concurrency=8))
        stuck = Counter(str(body["messages"]) for body in server.requests if "so so" in str(body))
        assert set(stuck.values()) == {2}
    assert [each.valid for each in found] == [True, True, False, True]
    assert found[2] == NO_ANSWER


def test_a_server_that_restarts(make: Make) -> None:
    """It goes down in the middle of an answer, is not there for a while, and comes back."""

    def plan(number: int, request: dict[str, Any]) -> Answer | None:
        if number == 3:
            Thread(target=server.restart, args=(0.3,)).start()
            return replace(said("1"), wait=0.1, cut=True)
        return None

    with JudgeServer(plan) as server:
        found = verdicts(make(server, concurrency=1, retries=5))
        assert all(each.valid for each in found)
        assert Counter(server.paid).most_common(1)[0][1] == 1
        assert len(server.paid) == 8


def test_errors_that_stay_make_a_verdict_invalid_and_are_not_kept(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    bad = lambda number, request: failure(500, "out of memory") if "so so" in str(request) else None  # noqa: E731
    with JudgeServer(bad) as server:
        found = verdicts(make(server))
        assert found[2] == NO_ANSWER
        assert [each.valid for each in found] == [True, True, False, True]
        assert caplog.text.count("no answer to a question: status 500: out of memory") == 1
        asked = len(server.requests)
        server.plan = lambda number, request: None
        assert all(each.valid for each in verdicts(make(server)))
        assert len(server.requests) == asked + 2


@pytest.mark.parametrize("text", ["3", "", "1 or 2", "12", "Response 1 is better than 2", "Not 1", "neither"])
def test_an_answer_that_is_no_choice_is_never_guessed(text: str, make: Make) -> None:
    """Asked again as often as stated, then invalid; all of it is paid, once."""
    with JudgeServer(lambda number, request: said(text, {"1": 0.6, "2": 0.3})) as server:
        judge = make(server, attempts=3)
        (verdict,) = verdicts(judge, PAIRS[:1])
        detail = f"not 1 or 2 but {text!r}" if text else ""
        assert verdict == Verdict(0.5, (0.5, 0.5), Dropped.NO_CHOICE, detail, tokens=606)
        assert [body["temperature"] for body in server.requests] == [0, 0, 1, 1, 1, 1]
        assert verdicts(judge, PAIRS[:1]) == [verdict]
        assert len(server.requests) == 6


def test_a_second_attempt_counts_both(make: Make) -> None:
    with JudgeServer(lambda number, request: said("?") if request["temperature"] == 0 else None) as server:
        (verdict,) = verdicts(make(server), PAIRS[:1])
        assert (verdict.valid, verdict.tokens, len(server.requests)) == (True, 404, 4)


@pytest.mark.parametrize(("refused", "asked"), [("logprobs", 1 + 8), ("max_tokens", 4 + 8)])
def test_settings_that_a_server_refuses_are_left_out(refused: str, asked: int, make: Make) -> None:
    plan = lambda number, request: failure(400, f"unsupported: {refused}") if refused in request else None  # noqa: E731
    with JudgeServer(plan) as server:
        found = verdicts(make(server, concurrency=1))
        assert len(server.requests) == asked
        assert server.requests[-1].get("max_completion_tokens") == (8 if refused == "max_tokens" else None)
    assert [each.p for each in found[:3]] == [1, 0, 0]


def test_a_server_that_lets_nobody_begin_its_answer_reads_the_cue_as_the_last_line(make: Make) -> None:
    refuses = lambda number, request: failure(400, "extra fields") if "continue_final_message" in request else None  # noqa: E731
    with JudgeServer() as server:
        begun = verdicts(make(server, model="begun"))
    with JudgeServer(refuses) as server:
        assert verdicts(make(server, concurrency=1)) == begun
        assert len(server.requests) == 2 + 8
        last = server.requests[-1]
        assert [turn["role"] for turn in last["messages"]] == ["user"]
        assert last["messages"][0]["content"].endswith("\nBetter: ")
        assert last["top_logprobs"] == 20


def test_an_answer_that_went_on_unreadably_is_asked_for_in_the_user_s_turn(make: Make) -> None:
    """A server that takes the settings and does not know them."""
    with JudgeServer(lambda number, request: said("?") if "continue_final_message" in request else None) as server:
        (verdict,) = verdicts(make(server), PAIRS[:1])
        assert (verdict.valid, verdict.p) == (True, pytest.approx(sigmoid(2)))
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("readable", "quoted"),
    [([], True), ([0, 4], True), ([2, 4], True), ([2, 5], False), ([0, 1, 2, 3, 4, 5, 6, 7], False)],
)
def test_three_unreadable_answers_in_a_row_are_quoted(
    readable: list[int], quoted: bool, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, whatever comes after; places are those of the eight questions, each asked once."""
    plan = lambda number, request: None if number in readable else said(f"You are {number}, correct")  # noqa: E731
    with JudgeServer(plan) as server:
        verdicts(make(server, concurrency=1, attempts=1))
        first = next((place for place in range(6) if not {place, place + 1, place + 2} & {*readable}), None)
        message = f"{server.url}, model oracle: not 1 or 2 but 'You are {first}, correct'"
        assert (message in caplog.text) == quoted
        assert caplog.text.count("not 1 or 2 but") == quoted


def test_of_several_unreadable_answers_the_first_is_quoted(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with JudgeServer(lambda number, request: said(f"You are {number}, correct")) as server:
        verdicts(make(server, concurrency=1, attempts=2))
    assert "not 1 or 2 but 'You are 0, correct'" in caplog.text


def test_a_question_that_is_refused_is_invalid(make: Make) -> None:
    plan = lambda number, request: failure(400, "too long") if "so so" in str(request) else None  # noqa: E731
    with JudgeServer(plan) as server:
        found = verdicts(make(server, concurrency=1))
    assert found[2] == NO_ANSWER
    assert [each.by_order[0] not in (0, 1) for each in found] == [True, True, True, True]


@pytest.mark.parametrize(
    ("status", "message"),
    [(402, "payment is required"), (404, "no such model or address"), (429, "too many requests, or no credit left")],
)
def test_what_hits_every_question_stops_at_once(status: int, message: str, make: Make) -> None:
    with JudgeServer(lambda number, request: failure(status)) as server:
        with pytest.raises(UptakeError, match=rf"{server.url}, model oracle: {message} \(status {status}\)"):
            verdicts(make(server, concurrency=1, retries=1))
        assert len(server.requests) == (2 if status == 429 else 1)


def test_no_server_at_all(make: Make) -> None:
    with JudgeServer() as server:
        judge = make(server, retries=0)
    with pytest.raises(UptakeError, match=rf"{server.url} cannot be reached: "):
        verdicts(judge)


# --- the key ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JUDGE_KEY", "sk-5ecret")
    return "sk-5ecret"


def test_a_key_goes_to_the_server_and_nowhere_else(
    make: Make, key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even where the server repeats it in an error, and everything is logged."""
    caplog.set_level(logging.DEBUG)
    echo = lambda number, request: failure(500, f"key {key} met an error") if "so so" in str(request) else None  # noqa: E731
    with JudgeServer(echo) as server:
        server.key = key
        judge = make(server, key_variable="JUDGE_KEY", retries=0)
        assert [each.valid for each in verdicts(judge)] == [True, True, False, True]
        assert all(headers["authorization"] == f"Bearer {key}" for headers in server.headers)
    assert "key [key] met an error" in caplog.text
    shown = caplog.text + repr(judge) + judge.fingerprint + json.dumps(describe(judge))
    assert key not in shown
    assert "JUDGE_KEY" in repr(judge)
    assert all(key.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_stops_at_once(status: int, make: Make, key: str) -> None:
    with JudgeServer(lambda number, request: failure(status, f"no entry with {key}")) as server:
        with pytest.raises(InputError) as caught:
            verdicts(make(server, key_variable="JUDGE_KEY", concurrency=2), PAIRS * 5)
        assert len(server.requests) <= 2
    expected = f"field 'key_variable': {server.url} refuses the key (status {status})"
    assert str(caught.value) == f"{expected} (allowed: a valid key in the environment variable JUDGE_KEY)"


def test_a_key_that_is_not_there(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "")
    with JudgeServer() as server:
        with pytest.raises(InputError, match="field 'key_variable': no environment variable JUDGE_KEY"):
            verdicts(make(server, key_variable="JUDGE_KEY"))
        assert server.requests == []


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "localhost:8000"}, "field 'url': 'localhost:8000' (allowed: an address"),
        ({"url": "http://me:sk-5ecret@host/v1"}, "field 'url': a name or key in the address"),
        ({"concurrency": 0}, "field 'concurrency': 0 (allowed: a whole number from 1)"),
        ({"timeout": 0.0}, "field 'timeout': 0.0 (allowed: seconds above 0)"),
        ({"retries": -1}, "field 'retries': -1"),
        ({"max_tokens": 0}, "field 'max_tokens': 0"),
        ({"top_logprobs": 21}, "field 'top_logprobs': 21 (allowed: a whole number from 0 to 20)"),
        ({"input_price": -1.0}, "field 'input_price': -1.0"),
        ({"attempts": 0}, "field 'attempts': 0"),
        ({"instructions": "helpfull"}, "helpfull: no such instructions"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        ServerJudge(**{"url": "http://host/v1", "model": "m", **settings})
    assert str(caught.value).startswith(message)
    assert "sk-5ecret" not in str(caught.value)


@pytest.mark.unchecked
def test_unknown_average() -> None:
    with pytest.raises(InputError, match=r"field 'order_average': 'mean' \(allowed: prob, logit\)"):
        ServerJudge(url="http://host/v1", model="m", order_average="mean")  # type: ignore[arg-type]


def test_as_a_part_of_a_recipe(make: Make, tmp_path: Path) -> None:
    """It keeps its answers in the run's folder, and its settings are plain values."""
    with JudgeServer() as server:
        part = make(server, cache="judge.sqlite")
        annotator = part.build(Resources.of(tiny_world(tmp_path / "run", [])))
        assert verdicts(annotator)[0].p > 0.5
    assert (tmp_path / "run" / "judge.sqlite").is_file()
    assert all(isinstance(getattr(part, field.name), str | int | float | None) for field in fields(part))


def test_fingerprints_differ_wherever_verdicts_may(make: Make) -> None:
    with JudgeServer() as server:
        changes = [{}, {"model": "b"}, {"instructions": "summary"}, {"order_average": "logit"}, {"attempts": 1}]
        judges = [make(server, **change) for change in [*changes, {"max_tokens": 2}, {"top_logprobs": 0}]]
        assert len({judge.fingerprint for judge in judges}) == 7
        elsewhere = make(server, url="http://elsewhere/v1", timeout=1.0, concurrency=2)
        assert elsewhere.fingerprint == judges[0].fingerprint


# --- reading an answer ------------------------------------------------------------------------------------------------


def read(text: str | None, *tokens: tuple[str, dict[str, float]]) -> float | None:
    content = [
        {"token": token, "logprob": 0.0, "top_logprobs": [{"token": t, "logprob": log(p)} for t, p in tops.items()]}
        for token, tops in tokens
    ]
    choice = {"message": {"content": text}, "logprobs": {"content": content}}
    return first_preferred(ChatCompletion.model_validate({"choices": [choice]}), "Preferred Response=")


@pytest.mark.parametrize(
    ("text", "p"),
    [
        ("1", 1.0), (" 2\n", 0.0), ("**1**.", 1.0), ("Preferred Response=2", 0.0), ("Response 1", 1.0),
        ("12", None), ("1 2", None), ("1 1", None), ("1/10", None), ("one", None), ("", None), (None, None),
        ("The first", None), ("Not 1", None), ("Response", None),
    ],
)  # fmt: skip
def test_strict_verdicts(text: str | None, p: float | None) -> None:
    assert read(text) == p


def test_shares_of_the_alternatives() -> None:
    assert read("1", ("1", {"1": 0.6, "2": 0.2, "x": 0.1})) == pytest.approx(0.75)
    # Written in several ways, and after other tokens.
    tops = {" 2": 0.3, "2": 0.3, "1": 0.2, " 1": 0.1}
    assert read("Response 2", ("Response", {"1": 0.9}), (" 2", tops)) == pytest.approx(1 / 3)
    # What is not listed is at most as likely as the last that is listed, or as all the rest.
    assert read("1", ("1", {"1": 0.7, "x": 0.1})) == pytest.approx(0.7 / 0.8)
    assert read("2", ("2", {"2": 0.96})) == pytest.approx(0.04 / 1.0)
    assert read("2", ("2", {"2": 1.0})) == 0.0
    # Alternatives that do not say, or not at all.
    assert read("1", ("1", {"x": 0.5})) == 1.0
    assert read("1", ("1", {})) == 1.0


@pytest.mark.parametrize("settings", [{"key_variable": "sk-secret"}, {"url": "http://localhost:1/v1?key=sk-secret"}])
def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        ServerJudge(**{"url": "http://localhost:1/v1", "model": "m", **settings})
    assert "sk-secret" not in str(refused.value)
    assert refused.value.field in settings


def test_a_cue_that_names_the_choices(make: Make) -> None:
    """What the cue says is no answer, but for the choices themselves."""
    reply = ChatCompletion.model_validate({"choices": [{"message": {"content": "1"}}]})
    assert first_preferred(reply, "Better response (1 or 2):") == 1.0
