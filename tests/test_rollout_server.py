"""A fixed model behind a server as producer: a server on this machine with the tiny policy's own model behind it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import flat, prompt_records, tiny_llama, tiny_tokenizer, tiny_world
from tiny_model_server import ModelServer
from tiny_server import Answer, failure

from uptake import methods
from uptake.annotators.base import Annotator, AnnotatorSpec
from uptake.errors import InputError, UptakeError
from uptake.judge.pairwise import PairwiseJudge
from uptake.models import LanguageModel
from uptake.rewards.base import Resources
from uptake.rollout import PolicySamples
from uptake.rollout.engines import engine
from uptake.rollout.server import ServerSamples
from uptake.types import Prompt, Rollout, Verdict
from uptake.world import World

GREEDY = {"n": 1, "temperature": 0.0, "max_new_tokens": 12}
OWN = {"n": 3, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 12}
Make = Callable[..., ServerSamples]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    """Says words and the end of its turn, hardly anything else, so that its text has the ids that it drew."""
    made = tiny_llama(seed=8)
    with torch.no_grad():
        made.head.weight[:4] = 0
    return made


@pytest.fixture
def server(lm: LanguageModel) -> Iterator[ModelServer]:
    with ModelServer(lm) as running:
        yield running


@pytest.fixture
def world(lm: LanguageModel, tmp_path: Path) -> World:
    return tiny_world(tmp_path, prompt_records(5), lm)


@pytest.fixture
def make(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return lambda **options: ServerSamples(**{"url": server.url, "model": "tiny", "retries": 1, **options})


@dataclass(frozen=True)
class Even(Annotator, AnnotatorSpec):
    """An annotator that prefers neither."""

    fingerprint: str = "even"

    def build(self, resources: Resources) -> "Even":
        return self

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        return [Verdict(0.5, (0.5, 0.5)) for _ in prompts]


def samples(producer: ServerSamples | PolicySamples, world: World, round_: int = 0) -> list[Rollout]:
    return flat(producer(world, world.rows, round_, 3))


def by_sample(rollouts: list[Rollout]) -> dict[tuple[str, int], tuple[int, ...]]:
    return {(one.prompt.key, one.sample): one.response_ids for one in rollouts}


def completions(server: ModelServer) -> list[dict[str, Any]]:
    """The requests for answers, without the look at what the server's model reads."""
    return [request for request in server.requests if "stop_token_ids" in request]


def at(wanted: Callable[[dict[str, Any]], bool], answer: Answer) -> Callable[[int, dict[str, Any]], Answer | None]:
    return lambda number, request: answer if wanted(request) else None


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", ["ids", "text"])
def test_greedy_answers_are_the_policys_own(exchange: str, make: Make, world: World) -> None:
    expected = samples(PolicySamples(**GREEDY), world)
    found = samples(make(exchange=exchange, **GREEDY), world)
    assert {(one.source, one.version) for one in found} == {("server", 3)}
    assert {one.finished for one in expected} == {True, False}
    if exchange == "ids":
        for one, other in zip(found, expected, strict=True):
            assert one.logps == pytest.approx(other.logps, abs=1e-5)
        assert found == [
            replace(one, source="server", logps=two.logps) for one, two in zip(expected, found, strict=True)
        ]
    else:
        assert found == [replace(one, source="server", logps=()) for one in expected]


def test_every_sample_has_a_seed_of_prompt_sample_and_round(make: Make, server: ModelServer, world: World) -> None:
    first = samples(make(**OWN), world)
    seeds = [request["seed"] for request in completions(server)]
    assert len(set(seeds)) == 15
    assert len({one.response_ids for one in first}) > 10
    later = samples(make(**OWN), world, round_=1)
    assert by_sample(later) != by_sample(first)
    # More samples of the same prompts in another order, from another run: the earlier ones are the same.
    other = replace(world, rows=world.rows[::-1], folder=world.folder / "other")
    assert by_sample(samples(make(**{**OWN, "n": 4}), other)).items() >= by_sample(first).items()


def test_what_is_sent(make: Make, server: ModelServer, world: World) -> None:
    one = replace(world, rows=world.rows[:1])
    samples(make(n=1, temperature=0.7, top_p=0.9, top_k=5, max_new_tokens=12), one)
    (request,) = completions(server)
    ids = request.pop("prompt")
    assert tuple(ids) == world.chat.prompt_ids(world.rows[0].turns)  # type: ignore[union-attr]
    del request["seed"]
    assert request == {
        **{"model": "tiny", "temperature": 0.7, "top_p": 0.9, "top_k": 5, "max_tokens": 12},
        # Nothing is left to the server's own defaults.
        **{"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
        **{"ignore_eos": True, "stop_token_ids": sorted(world.chat.end_ids)},
        **{"return_token_ids": True, "logprobs": 0},
    }


def test_log_probabilities_of_a_filtered_distribution_are_left_out(make: Make, world: World) -> None:
    """A server may give those before or after the filter, and does not say which."""
    assert all(one.logps for one in samples(make(**OWN), world))
    assert not any(one.logps for one in samples(make(**{**OWN, "top_p": 0.9}), world))


def test_a_resumed_round_needs_no_server(make: Make, world: World) -> None:
    first = samples(make(**OWN), world)
    assert samples(make(**OWN, url="http://127.0.0.1:1/v1", retries=0), world) == first
    assert (world.folder / "samples.sqlite").is_file()


def test_the_window_bounds_an_answer(make: Make, server: ModelServer, tmp_path: Path) -> None:
    small = tiny_world(tmp_path, prompt_records(3), tiny_llama(max_position_embeddings=24))
    found = samples(make(n=1, temperature=1.0, top_p=1.0, max_new_tokens=100, exchange="text"), small)
    assert max(len(one.prompt_ids) + len(one.response_ids) for one in found) <= 24
    samples(make(n=1, max_new_tokens=100), small)
    limits = [len(request["prompt"]) + request["max_tokens"] for request in completions(server)]
    assert limits == [24] * 3


def test_another_tokenizer_is_refused(make: Make, server: ModelServer, world: World) -> None:
    words = [*reversed(world.policy.tokenizer.get_vocab())]
    server.lm = tiny_llama(tokenizer=tiny_tokenizer([word for word in words if "<" not in word]))
    with pytest.raises(InputError, match=r"field 'exchange': tiny at .* reads a prompt as other token ids than tiny-8"):
        samples(make(**GREEDY), world)
    assert not completions(server)


def test_a_server_without_token_ids_is_refused(make: Make, server: ModelServer, world: World) -> None:
    server.ids = False
    with pytest.raises(InputError, match=r"field 'exchange': .* sends no token ids .*any other exchanges text"):
        samples(make(**GREEDY), world)
    assert samples(make(**GREEDY, exchange="text"), world)


# --- text -------------------------------------------------------------------------------------------------------------


def test_what_is_sent_as_text(make: Make, server: ModelServer, world: World) -> None:
    one = replace(world, rows=world.rows[:1])
    samples(make(n=1, temperature=0.7, top_p=0.9, max_new_tokens=12, exchange="text"), one)
    (request,) = server.requests
    assert request.pop("messages") == [{"role": "user", "content": world.rows[0].turns[0].content}]  # type: ignore[union-attr]
    assert isinstance(request.pop("seed"), int)
    assert request == {"model": "tiny", "temperature": 0.7, "top_p": 0.9, "max_tokens": 12}
    samples(make(n=1, top_k=4, max_new_tokens=12, exchange="text"), one)
    assert server.requests[-1]["top_k"] == 4


def test_a_limit_of_another_name(make: Make, server: ModelServer, world: World) -> None:
    server.plan = at(lambda request: "max_tokens" in request, failure(400, "unsupported: max_tokens"))
    assert samples(make(**GREEDY, exchange="text"), world) == [
        replace(one, source="server", logps=()) for one in samples(PolicySamples(**GREEDY), world)
    ]


@pytest.mark.parametrize(
    ("content", "reason", "finished"),
    [
        ("at eight", "stop", True),
        ("at eight", "length", False),
        ("at eight", "content_filter", False),
        ("at eight", "eos_token", True),
        ("at eight", "END_TURN", True),
        ("at eight", "max_tokens", False),
        ("at eight", None, False),
        ("", "stop", True),
        (None, "length", False),
    ],
)
def test_finish_reasons(
    content: str | None, reason: str | None, finished: bool, make: Make, server: ModelServer, world: World
) -> None:
    body = {"choices": [{"message": {"content": content}, "finish_reason": reason}]}
    server.plan = lambda number, request: Answer(json.dumps(body).encode())
    (one,) = samples(make(**GREEDY, exchange="text"), replace(world, rows=world.rows[:1]))
    words = world.policy.tokenizer(content or "", add_special_tokens=False)["input_ids"]
    assert one.response_ids == (*words, *(world.chat.end_ids if finished else ()))
    assert (one.response, one.finished) == (content or "", finished)


# --- a server that misbehaves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", ["ids", "text"])
def test_an_answer_that_never_comes_is_empty_and_dropped(
    exchange: str, make: Make, server: ModelServer, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    producer = make(**{**OWN, "n": 2}, exchange=exchange)
    whole = samples(producer, world)
    lost = next(request["seed"] for request in server.requests if "seed" in request)
    server.plan = at(lambda request: request.get("seed") == lost, failure(500, "out of memory"))
    found = samples(producer, replace(world, folder=world.folder / "other"))
    ((one, two),) = [(one, two) for one, two in zip(found, whole, strict=True) if one != two]
    assert one == replace(two, response="", response_ids=(), finished=False, logps=())
    assert caplog.text.count("no answer to a question: status 500: out of memory") == 1
    judged = PairwiseJudge(Even()).start(world)(list(zip(found[::2], found[1::2], strict=True)))
    assert [verdict.reason for verdict in judged if not verdict.valid] == ["empty"]


@pytest.mark.parametrize(
    ("exchange", "message"), [("ids", "sends no token ids"), ("text", "model tiny: no question was answered")]
)
def test_a_server_that_answers_nothing_ends_the_run(
    exchange: str, message: str, make: Make, server: ModelServer, world: World
) -> None:
    server.plan = lambda number, request: Answer(b"<html>")
    with pytest.raises(UptakeError, match=message):
        samples(make(**GREEDY, exchange=exchange), world)
    server.plan = lambda number, request: failure(404)
    with pytest.raises(UptakeError, match="no such model or address"):
        samples(make(**GREEDY, exchange=exchange), world)


# --- by name, in a recipe ---------------------------------------------------------------------------------------------


def test_unknown_engines_and_settings() -> None:
    with pytest.raises(InputError, match=r"field 'engine': no engine 'jax' \(allowed: transformers, vllm, server\)"):
        engine("jax")
    with pytest.raises(InputError, match=r"server needs a setting 'url'"):
        engine("server")
    with pytest.raises(InputError, match=r"transformers has no setting 'url' \(allowed: none\)"):
        engine({"transformers": {"url": "http://host/v1"}})
    # What the method's own options say is not said twice.
    with pytest.raises(InputError, match=r"server has no setting 'temperature' \(allowed: url, model"):
        engine({"server": {"url": "http://host/v1", "model": "m", "temperature": 2.0}})


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"url": "host:8000"}, "url"), ({"concurrency": 0}, "concurrency"), ({"n": 0}, "n"), ({"retries": -1}, "retries")],
)
def test_settings_out_of_range(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        ServerSamples(**{"url": "http://host/v1", "model": "m", **settings})
    assert caught.value.field == field


@pytest.mark.unchecked
def test_unknown_exchange() -> None:
    with pytest.raises(InputError, match=r"field 'exchange': 'tokens' \(allowed: ids, text\)"):
        ServerSamples(url="http://host/v1", model="m", exchange="tokens")  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "temperature"), [("oaif", 0.9), ("flr", 0.7)])
def test_methods_choose_their_engine(method: str, temperature: float) -> None:
    (stage,) = methods.build(method).stages
    assert isinstance(stage.produce, PolicySamples)
    choice = {"server": {"url": "http://host/v1", "model": "m", "exchange": "text"}}
    (stage,) = methods.build(method, {"engine": choice, "max_new_tokens": 7}).stages
    n = 2 if method == "oaif" else 8
    assert stage.produce == ServerSamples(
        url="http://host/v1", model="m", exchange="text", n=n, temperature=temperature, max_new_tokens=7,
        top_p=1.0 if method == "oaif" else 0.9,
    )  # fmt: skip
    assert "http://host/v1" in str(methods.build(method, {"engine": choice}))
