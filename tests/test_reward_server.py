"""A reward behind a server: the same numbers as a function's, and a real server that fails in every way servers do."""

import json
import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from tiny import one_group, prompt_records, read_jsonl, saved, started, tiny_llama, tiny_world, write_jsonl
from tiny_cli import Cli, sets
from tiny_server import Answer, JudgeServer, failure

from uptake import methods
from uptake.data import read as read_rows
from uptake.errors import InputError, UptakeError
from uptake.judge.registry import reward_spec
from uptake.rewards.function import FromFunction, Rewards
from uptake.rewards.server import RewardServer
from uptake.train.loop import Options, run
from uptake.types import Dropped, Judgement, Prompt, Rollout, Span, Turn, Where
from uptake.world import World

LM = tiny_llama()
TURNS = (Turn("system", "Be kind ."), Turn("user", "when does the bakery open ?"))
FAST: dict[str, Any] = {
    "prompts": 4,
    "n": 2,
    "max_new_tokens": 6,
    "rounds": 2,
    "epochs": 2,
    "minibatches": 2,
    "lr": 1e-2,
    "critic_lr": 1e-2,
    "critic_warmup": 0,
    "micro_tokens": 8192,
}


def rewards_of(text: str, ids: Sequence[int]) -> dict[str, Any]:
    """The reward of all these tests, of which no number has a short decimal form; as a server spells it."""
    places = [at for at in range(len(text)) if text.startswith("bread", at)]
    return {
        "score": len(text) / 7,
        "tokens": [(each % 5) / 3 for each in ids],
        "spans": [{"start": at, "end": at + 5, "score": -1 / 9} for at in places],
    }


def function(rollout: Rollout) -> Rewards:
    """The same in process."""
    found = rewards_of(rollout.response, rollout.response_ids)
    return Rewards(found["score"], found["tokens"], [Span(**each) for each in found["spans"]])


def says(**said: Any) -> Answer:
    return Answer(json.dumps(said).encode())


def honest(request: dict[str, Any]) -> Answer:
    return says(**rewards_of(request["response"], request["response_ids"]))


Fault = Callable[[int, dict[str, Any]], Answer | None]


def serving(fault: Fault = lambda number, request: None) -> JudgeServer:
    """A server that gives the reward, unless `fault` has another answer to the request of this number."""
    return JudgeServer(lambda number, request: fault(number, request) or honest(request))


def rollout(text: str, sample: int = 0, line: int = 3) -> Rollout:
    ids = (*LM.tokenizer(text, add_special_tokens=False)["input_ids"], LM.tokenizer.eos_token_id)
    prompt = Prompt(TURNS, "key", Where(Path("prompts.jsonl"), line))
    return Rollout(prompt, (1, 2), tuple(ids), text, finished=True, sample=sample)


SAID = [rollout("it does sell bread.", 0), rollout("bread bread", 1), rollout("at nine.", 2), rollout("thanks", 3)]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return tiny_world(tmp_path / "run", [], LM)


def judge(server: JudgeServer, **settings: Any) -> Callable[[World, Sequence[Rollout]], list[Judgement]]:
    """One question at a time, so that it is known which request is which."""
    return one_group(RewardServer(**{"url": server.url, "timeout": 5.0, "retries": 2, "concurrency": 1, **settings}))


def asked(server: JudgeServer) -> Counter[str]:
    return Counter(request["response"] for request in server.requests)


# --- a server that behaves --------------------------------------------------------------------------------------------


def test_judgements_are_those_of_the_function(world: World) -> None:
    with serving() as server:
        found = judge(server, concurrency=4)(world, SAID)
    assert found == one_group(FromFunction(function))(world, SAID)
    assert len({each.score for each in found}) == 4
    # By hand: "bread bread" with its end; the values of its ids, and the two marks.
    bread, _, end = SAID[1].response_ids
    assert found[1].tokens == pytest.approx(((bread % 5) / 3 - 1 / 9, (bread % 5) / 3 - 1 / 9, (end % 5) / 3))


@pytest.mark.parametrize("kind", ["score", "tokens", "spans"])
def test_any_of_the_three_may_be_left_out(kind: str, world: World) -> None:
    with JudgeServer(lambda number, request: says(**{kind: json.loads(honest(request).body)[kind]})) as server:
        found = judge(server)(world, SAID)
    assert found == one_group(FromFunction(lambda each: Rewards(**{kind: getattr(function(each), kind)})))(world, SAID)
    assert any(any(each.tokens) for each in found) == (kind != "score")


def test_what_is_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-you")
    with serving() as server:
        judge(server, model="mine", url=f"{server.url}/my/reward")(world, SAID[:1])
        assert server.requests == [
            {
                "model": "mine",
                "messages": [
                    {"role": "system", "content": "Be kind ."},
                    {"role": "user", "content": "when does the bakery open ?"},
                ],
                "response": "it does sell bread.",
                "response_ids": list(SAID[0].response_ids),
            }
        ]
        assert server.paths == ["/v1/my/reward"]
        assert "sk-not-for-you" not in str(server.headers)


def test_what_is_answered_is_not_asked_again(world: World) -> None:
    """Nor are equal responses to one prompt; another `model` is another question."""
    with serving() as server:
        first = judge(server)(world, [*SAID, replace(SAID[0], sample=9)])
        assert first[4] == first[0]
        assert len(server.requests) == 4
        assert judge(server)(world, SAID) == first[:4]
        assert len(server.requests) == 4
        judge(server, model="other")(world, SAID[:1])
        assert len(server.requests) == 5
    assert judge(server)(world, SAID) == first[:4]


def test_two_servers_in_one_folder_answer_for_themselves(world: World) -> None:
    """As those of a sum do, which share the file of answers."""
    with (
        JudgeServer(lambda number, request: says(score=1)) as one,
        JudgeServer(lambda number, request: says(score=2)) as other,
    ):
        found = [judge(server)(world, SAID[:1])[0].score for server in (one, other, one)]
        assert found == [1, 2, 1]
        assert (len(one.requests), len(other.requests)) == (1, 1)


# --- a server that misbehaves -----------------------------------------------------------------------------------------

WRONG = {
    b"<html>502 Bad Gateway</html>": "answer: Invalid JSON: expected value at line 1 column 1",
    b'{"score": 1': "answer: Invalid JSON: EOF while parsing an object at line 1 column 11",
    b"[1]": "answer: Input should be an object",
    b"{}": "no reward (allowed: some of score, tokens, spans)",
    b'{"tokens": null}': "no reward (allowed: some of score, tokens, spans)",
    b'{"result": {"score": 1}}': "no reward (allowed: some of score, tokens, spans)",
    b'{"score": NaN}': "a reward of nan",
    b'{"score": 1e999}': "a reward of inf",
    b'{"score": null}': "score: Input should be a valid number",
    b'{"score": "1"}': "score: Input should be a valid number",
    b'{"score": true}': "score: Input should be a valid number",
    b'{"tokens": [1, 2]}': "field 'tokens': 2 values for 3 tokens (allowed: one a token)",
    b'{"score": 1, "tokens": []}': "field 'tokens': 0 values for 3 tokens (allowed: one a token)",
    b'{"tokens": [1, 2, -Infinity]}': "a reward of -inf",
    b'{"tokens": [1, null, 3]}': "tokens.1: Input should be a valid number",
    b'{"spans": [{"start": 0, "end": 12, "score": 1}]}': "field 'spans': span 0 to 12 (allowed: places from 0 to 11)",
    b'{"spans": [{"start": 0, "score": 1}]}': "spans.0.end: Field required",
    b'{"spans": [{"start": 0, "end": 2, "score": NaN}]}': "field 'spans': a span with the score nan",
}


@pytest.mark.parametrize("body", WRONG, ids=bytes.decode)
def test_a_wrong_answer_is_never_guessed(body: bytes, world: World) -> None:
    """Asked again as often as stated, then the row is named. A mended server is asked for what is missing, only."""
    bad = lambda number, request: Answer(body) if request["response"] == "bread bread" else None  # noqa: E731
    with serving(bad) as server:
        with pytest.raises(InputError) as caught:
            judge(server)(world, SAID)
        place = f"prompts.jsonl:3, field 'reward': {server.url}, sample 1 of prompt key: WrongAnswer: "
        assert str(caught.value).startswith(f"{place}{WRONG[body]}")
        assert ", asked 3 times" in str(caught.value)
        assert asked(server) == {"bread bread": 3, **{each.response: 1 for each in SAID if each.sample != 1}}
        server.plan = lambda number, request: honest(request)
        assert judge(server)(world, SAID) == one_group(FromFunction(function))(world, SAID)
        assert asked(server)["bread bread"] == len(server.requests) - 3 == 4


@pytest.mark.parametrize(
    "answer",
    [failure(500), failure(503), failure(429), failure(408), Answer(b"}"), says(tokens=[]), replace(says(), cut=True)],
    ids=str,
)
def test_what_goes_wrong_once_is_asked_again(answer: Answer, world: World) -> None:
    with serving(lambda number, request: answer if number in (0, 3) else None) as server:
        assert judge(server)(world, SAID) == one_group(FromFunction(function))(world, SAID)
        assert len(server.requests) == 6


def test_a_response_without_a_reward_may_be_left_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def bad(number: int, request: dict[str, Any]) -> Answer | None:
        return {"thanks": failure(500), "at nine.": says(score=float("nan"))}.get(request["response"])

    with serving(bad) as server:
        found = judge(server, on_error="drop", retries=1, attempts=4)(world, SAID)
        assert asked(server) == {SAID[0].response: 1, "bread bread": 1, "at nine.": 4, "thanks": 2}
    assert found[:2] == one_group(FromFunction(function))(world, SAID[:2])
    assert found[2] == Judgement(0.0, reason=Dropped.FAILED, detail="WrongAnswer")
    assert found[3] == Judgement(0.0, reason=Dropped.FAILED, detail="NoAnswer")
    assert f"{server.url}, prompt key: WrongAnswer: a reward of nan, asked 4 times" in caplog.text
    assert "NoAnswer: sent 2 times" in caplog.text


@pytest.mark.parametrize("status", [401, 402, 404])
def test_what_hits_every_question_stops_at_once(status: int, world: World) -> None:
    """Even where single responses may be left out."""
    with serving(lambda number, request: failure(status)) as server:
        with pytest.raises(UptakeError, match=rf"{server.url}.* \(status {status}\)"):
            judge(server, on_error="drop")(world, SAID)
        assert len(server.requests) == 1


def test_a_key_goes_to_the_server_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even where the server repeats it, and everything is logged: neither into a file of the run nor into a log."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("REWARD_KEY", "sk-5ecret")
    with serving(lambda number, request: failure(500, "sk-5ecret is busy") if number == 3 else None) as server:
        server.key = "sk-5ecret"
        settings = {"url": server.url, "key_variable": "REWARD_KEY", "retries": 0, "on_error": "drop"}
        recipe = methods.build("ppo", {**FAST, "rounds": 1, "reward": {"server": settings}})
        run(recipe, tiny_world(tmp_path / "run", prompt_records(4)))
        assert {headers["authorization"] for headers in server.headers} == {"Bearer sk-5ecret"}
    assert "[key] is busy" in caplog.text
    assert "sk-5ecret" not in caplog.text + str(recipe)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"REWARD_KEY" in each for each in files)
    assert all(b"sk-5ecret" not in each for each in files)


# --- whole runs -------------------------------------------------------------------------------------------------------


def by_server(method: str, url: str, **settings: Any) -> Any:
    return methods.build(method, {**FAST, "reward": {"server": {"url": url, "timeout": 5.0, **settings}}})


@pytest.mark.parametrize("method", ["ppo", "fine_grained_ppo"])
def test_a_run_learns_from_a_server_what_it_learns_from_a_function(method: str, tmp_path: Path) -> None:
    with serving() as server:
        run(by_server(method, server.url), tiny_world(tmp_path / "server", prompt_records(8)))
    config = methods.configure(method, FAST)
    own = methods.find(method).build(config, FromFunction(function))
    run(own, tiny_world(tmp_path / "function", prompt_records(8)))
    for name in ("metrics.jsonl", "model/model.safetensors"):
        found = [(tmp_path / kind / name).read_bytes() for kind in ("server", "function")]
        assert found[0] == found[1], name
    lines = read_jsonl(tmp_path / "server/metrics.jsonl")
    assert len({line["loss"] for line in lines}) == len(lines) == 8


def train(folder: str, url: str, resume: bool) -> None:
    os.environ["NO_PROXY"] = "127.0.0.1"
    recipe = by_server("fine_grained_ppo", url, concurrency=1)
    run(recipe, tiny_world(Path(folder), prompt_records(8)), Options(resume=resume))


@pytest.mark.parametrize("number", [5, 11], ids=["first round", "second round"])
def test_killed_while_questions_are_open(number: int, tmp_path: Path) -> None:
    """The server kills who asks, in the middle of a round: all but this one question are asked once."""
    process: list[BaseProcess] = []

    def kill(at: int, request: dict[str, Any]) -> None:
        if at == number:
            os.kill(process[0].pid or 0, signal.SIGKILL)

    with serving(kill) as server:
        for resume in (False, True):
            process[:] = [started(train, str(tmp_path / "run"), server.url, resume)]
            process[0].join()
            assert process[0].exitcode == (0 if resume else -signal.SIGKILL)
        questions = [json.dumps(request) for request in server.requests]
        twice = [each for each, count in Counter(questions).items() if count > 1]
        assert twice == [questions[number]] == [questions[number + 1]]
    with serving() as server:
        train(str(tmp_path / "whole"), server.url, False)
        assert sorted(questions) == sorted([*map(json.dumps, server.requests), questions[number]])
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_run_that_was_stopped_by_a_wrong_answer_goes_on(tmp_path: Path) -> None:
    rows = read_rows(write_jsonl(tmp_path / "prompts.jsonl", prompt_records(8)))
    short = lambda number, request: says(tokens=[0.0]) if number >= 3 else None  # noqa: E731
    with serving(short) as server:
        recipe = by_server("fine_grained_ppo", server.url, concurrency=1)
        with pytest.raises(InputError, match=r"prompts\.jsonl:\d.*1 values for \d tokens.*asked 3 times"):
            run(recipe, replace(tiny_world(tmp_path / "run", []), rows=rows))
        server.plan = lambda number, request: honest(request)
        run(recipe, replace(tiny_world(tmp_path / "run", []), rows=rows), Options(resume=True))
        run(recipe, replace(tiny_world(tmp_path / "whole", []), rows=rows))
    name = "metrics.jsonl"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_mined_by_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uptake = Cli(tmp_path, capsys, monkeypatch)
    policy = saved(tiny_llama(), tmp_path / "policy")
    write_jsonl(Path("prompts.jsonl"), prompt_records(4))
    options = [
        "--policy",
        policy,
        "--out",
        "pairs.jsonl",
        *sets({"n": 4, "max_new_tokens": 6, "keep_unfinished": True}),
    ]
    with serving() as server:
        uptake("mine", "prompts.jsonl", *options, "--reward", "server", "--reward-set", f"url={server.url}")
    pairs = read_jsonl(Path("pairs.jsonl"))
    assert pairs
    for each in pairs:
        sizes = [len(each[side][0]["content"]) for side in ("chosen", "rejected")]
        assert each["margin"] == pytest.approx((sizes[0] - sizes[1]) / 7)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "field 'reward': server needs a setting 'url'"),
        ({"url": "localhost"}, "field 'url': 'localhost' (allowed: an address"),
        ({"url": "http://host", "attempts": 0}, "field 'attempts': 0 (allowed: a whole number from 1)"),
        (
            {"url": "http://host", "on_error": "guess"},
            "field 'reward': 'guess' as 'on_error' of server (allowed: 'stop' or 'drop')",
        ),
        ({"url": "http://host", "timeout": 0.0}, "field 'timeout': 0.0"),
        ({"url": "http://host", "key": "sk-5ecret"}, "field 'reward': server has no setting 'key'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        reward_spec({"server": settings})
    assert str(caught.value).startswith(message)
    assert "sk-5ecret" not in str(caught.value)
