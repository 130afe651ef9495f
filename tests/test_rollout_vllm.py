"""vLLM as the policy's sampler: its protocol against a server of ours, and the real thing where there is one.

`UPTAKE_VLLM_PYTHON` names the Python of an environment that has vLLM and what Uptake needs; without it the tests marked
slow are skipped. `docs/online-ai-feedback.md` says how to make one.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch
from tiny import flat, prompt_records, read_jsonl, saved, tiny_llama, tiny_tokenizer, tiny_world
from tiny_model_server import ModelServer
from tiny_server import INSTRUCTIONS, failure

from uptake import methods
from uptake.annotators.server import ServerJudge
from uptake.data import ChatFormat
from uptake.data import prompts as prompts_of
from uptake.errors import InputError, ModelError, UptakeError
from uptake.models import LanguageModel, add_lora, load
from uptake.rollout import PolicySamples
from uptake.rollout.vllm import VLLMSamples
from uptake.sampling.vllm_engines import adapter_rank
from uptake.train.loop import run
from uptake.types import Prompt, Rollout, Turn
from uptake.world import World

# PEFT asks Transformers for an old name.

GREEDY = {"n": 1, "temperature": 0.0, "top_p": 1.0, "max_new_tokens": 12}
# Seconds that vLLM may take to start: half a minute alone, minutes where others use the machine too.
PATIENCE = 1200
# As large as vLLM wants the head of an attention to be.
WIDE = {"hidden_size": 64, "intermediate_size": 64}
ENVIRONMENT = {
    **{"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"},
    **{"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
    **{"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model that ends its texts with either of two tokens, as most chat models do."""
    lm = tiny_llama(seed=8, **WIDE)
    lm.base.generation_config.eos_token_id = lm.tokenizer.convert_tokens_to_ids(["<end>", "<user>"])
    return saved(lm, tmp_path / "base")


@pytest.fixture
def policy(base: Path) -> LanguageModel:
    return load(base, device="cpu")


@pytest.fixture
def server(base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ModelServer(load(base, device="cpu")) as running:
        yield running


@pytest.fixture
def world(policy: LanguageModel, tmp_path: Path) -> World:
    return tiny_world(tmp_path / "run", prompt_records(6), policy)


def moved(lm: LanguageModel, seed: int, by: float = 0.3) -> LanguageModel:
    """The same model after a step of training: of its adapter, where it has one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in lm.model.parameters():
            if weight.requires_grad:
                weight.add_(by * torch.randn(weight.shape, generator=generator))
    return lm


def own(world: World, round_: int, version: int) -> list[Rollout]:
    return flat(PolicySamples(**GREEDY)(world, world.rows, round_, version))


def by_ids(rollouts: list[Rollout]) -> list[tuple[tuple[int, ...], int, str]]:
    return [(one.response_ids, one.version, one.source) for one in rollouts]


def follows(producer: VLLMSamples, world: World) -> None:
    """Over three rounds, greedy samples are those of the policy as it is by then."""
    before: list[Rollout] = []
    for round_ in range(3):
        expected = own(world, round_, 10 * round_)
        found = flat(producer(world, world.rows, round_, 10 * round_))
        assert by_ids(found) == by_ids(expected)
        assert [one.response_ids for one in expected] != [one.response_ids for one in before]
        for one, other in zip(found, expected, strict=True):
            assert one.logps == pytest.approx(other.logps, abs=2e-3)
        before = expected
        moved(world.policy, round_)


# --- a server of ours -------------------------------------------------------------------------------------------------


def test_all_weights_follow_the_policy(server: ModelServer, world: World) -> None:
    follows(VLLMSamples(url=server.url, **GREEDY), world)
    commands = [path for path in server.paths if path != "/v1/completions"]
    assert commands == ["/collective_rpc", "/reset_prefix_cache"] * 3
    folders = [request["kwargs"]["weights_path"] for request in server.requests if "kwargs" in request]
    assert len(set(folders)) == 3
    # What an engine has read is not needed any more, but for the last.
    assert [Path(folder).is_dir() for folder in folders] == [False, False, True]
    assert Path(folders[-1]).is_relative_to(world.folder)


def test_an_adapter_follows_the_policy(server: ModelServer, policy: LanguageModel, world: World) -> None:
    adapted_policy = moved(add_lora(policy), seed=9)
    follows(VLLMSamples(url=server.url, **GREEDY), replace(world, policy=adapted_policy))
    commands = [
        (path, request["lora_name"])
        for path, request in zip(server.paths, server.requests, strict=True)
        if "lora_name" in request
    ]
    first, second, third = dict.fromkeys(name for _, name in commands)
    load_, unload = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
    assert commands == [(load_, first), (load_, second), (unload, first), (load_, third), (unload, second)]
    assert [*server.adapters] == [third]
    assert not any("kwargs" in request for request in server.requests)


def test_a_second_adapter_goes_with_its_base(server: ModelServer, policy: LanguageModel, world: World) -> None:
    """Into which the first one was merged, so that no server has it."""
    torch.manual_seed(8)
    twice = moved(add_lora(moved(add_lora(policy), seed=9, by=0.1)), seed=10, by=0.1)
    assert adapter_rank(twice) == 0
    follows(VLLMSamples(url=server.url, **GREEDY), replace(world, policy=twice))
    assert server.paths.count("/collective_rpc") == 3
    assert not any("lora_name" in request for request in server.requests)


def test_weights_go_once_a_round(server: ModelServer, world: World, tmp_path: Path) -> None:
    """And not with every chunk of rows; elsewhere where a person says so."""
    producer = VLLMSamples(url=server.url, weights=str(tmp_path / "shm"), **GREEDY)
    for round_, half in ((0, world.rows[:3]), (0, world.rows[3:]), (1, world.rows[:3])):
        producer(world, half, round_, 0)
    assert server.paths.count("/collective_rpc") == 2
    assert [path.name.startswith("weights-") for path in (tmp_path / "shm").iterdir()] == [True]
    # Another run is another policy, whatever its rounds are called.
    producer(replace(world, folder=tmp_path / "other"), world.rows[:3], 1, 0)
    assert server.paths.count("/collective_rpc") == 3
    assert producer(world, [], 5, 0) == []


def test_a_server_that_keeps_its_weights_is_found_out(server: ModelServer, world: World) -> None:
    producer = VLLMSamples(url=server.url, **GREEDY)
    producer(world, world.rows, 0, 0)
    server.deaf = True
    moved(world.policy, seed=1, by=0.03)
    with pytest.raises(ModelError, match=r"vLLM answers by other weights: log-probabilities differ by .* weights that"):
        producer(world, world.rows, 1, 5)


def test_a_prefix_cache_in_use(server: ModelServer, world: World) -> None:
    server.busy = True
    with pytest.raises(UptakeError, match="prefix cache is in use"):
        VLLMSamples(url=server.url, **GREEDY)(world, world.rows, 0, 0)


@pytest.mark.parametrize(("lora", "needed"), [(False, "VLLM_SERVER_DEV_MODE=1"), (True, "VLLM_ALLOW_RUNTIME_LORA")])
def test_a_server_started_without_what_it_needs(
    lora: bool, needed: str, server: ModelServer, policy: LanguageModel, world: World
) -> None:
    server.plan = lambda number, request: None if "prompt" in request else failure(404, "Not Found")
    asking = replace(world, policy=add_lora(policy)) if lora else world
    with pytest.raises(UptakeError, match=rf"status 404: Not Found \(needed: .*{needed}"):
        VLLMSamples(url=server.url, **GREEDY)(asking, world.rows, 0, 0)
    assert len(server.requests) == 1


def test_the_key_of_a_command_is_not_shown(server: ModelServer, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_KEY", "sk-5ecret")
    server.plan = lambda number, request: failure(500, "sk-5ecret met an error")
    with pytest.raises(UptakeError, match=r"\[key\] met an error") as caught:
        VLLMSamples(url=server.url, key_variable="VLLM_KEY", **GREEDY)(world, world.rows, 0, 0)
    assert "sk-5ecret" not in str(caught.value)
    assert server.headers[0]["authorization"] == "Bearer sk-5ecret"


def test_a_run_on_such_a_server(server: ModelServer, world: World) -> None:
    """Online learning through the server: the samples of every round are those of the run without it."""
    options = {
        **{
            "steps": 3,
            "batch_size": 2,
            "max_new_tokens": 8,
            "lr": 1e-2,
            "warmup": 0,
            "temperature": 1.0,
            "label": "soft",
        },
        "judge": {"follow_up": {"temperature": 1.0}},
    }
    run(methods.build("oaif", {**options, "engine": {"vllm": {"url": server.url}}}), world)
    sampled = [read_jsonl(path)[0]["groups"] for path in sorted(world.folder.glob("rounds/0-*/judged.jsonl"))]
    assert [{one["version"] for group in groups for one in group} for groups in sampled] == [{0}, {1}, {2}]
    assert [line["age"] for line in read_jsonl(world.folder / "metrics.jsonl")] == [0, 0, 0]
    # The model behind the server is that of the last round's beginning, two steps on, and no longer the first.
    trained, served = (lm.model.state_dict() for lm in (world.policy, server.lm))
    assert any(not torch.equal(served[name], trained[name]) for name in trained)
    assert server.paths.count("/collective_rpc") == 3


# --- in process -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm(world: World) -> None:
    with pytest.raises(InputError, match=r"field 'engine': vLLM cannot be imported: .*pip install \"uptake\[vllm\]\""):
        VLLMSamples(**GREEDY)(world, world.rows, 0, 0)


def test_settings_out_of_range() -> None:
    with pytest.raises(InputError, match="options beside a url"):
        VLLMSamples(url="http://host/v1", options={"max_num_seqs": 8})
    with pytest.raises(InputError, match="field 'url': 'host'"):
        VLLMSamples(url="host")
    with pytest.raises(InputError, match="temperature"):
        VLLMSamples(temperature=-1.0)


def test_adapters_that_vllm_does_not_run(policy: LanguageModel, base: Path) -> None:
    from peft import IA3Config, get_peft_model  # noqa: PLC0415

    assert (adapter_rank(policy), adapter_rank(add_lora(policy))) == (0, 16)
    targets: dict[str, Any] = {"target_modules": ["k_proj"], "feedforward_modules": []}
    fresh = load(base, device="cpu")
    other = replace(fresh, model=get_peft_model(fresh.base, IA3Config(task_type="CAUSAL_LM", **targets)))
    with pytest.raises(ModelError, match="LoRA adapters only, not IA3Config"):
        adapter_rank(other)


# --- vLLM itself ------------------------------------------------------------------------------------------------------

needs_vllm = pytest.mark.skipif("UPTAKE_VLLM_PYTHON" not in os.environ, reason="UPTAKE_VLLM_PYTHON is not set")

Serve = Callable[[Path], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a vLLM server on a model folder and returns its address."""
    running: list[subprocess.Popen[bytes]] = []

    def start(model: Path) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [os.environ["UPTAKE_VLLM_PYTHON"], "-m", "vllm.entrypoints.openai.api_server"]
        options = (
            f"--host 127.0.0.1 --port {port} --served-model-name tiny --dtype float32 --enforce-eager --enable-lora"
        )
        with (tmp_path / "server.log").open("wb") as log:
            arguments = [*command, "--model", str(model), *options.split()]
            running.append(subprocess.Popen(arguments, env=os.environ | ENVIRONMENT, stdout=log, stderr=log))
        for _ in range(2 * PATIENCE):
            try:
                urlopen(f"http://127.0.0.1:{port}/health").close()
                return f"http://127.0.0.1:{port}/v1"
            except URLError:
                assert running[-1].poll() is None, (tmp_path / "server.log").read_text()[-3000:]
                time.sleep(0.5)
        raise TimeoutError((tmp_path / "server.log").read_text()[-3000:])

    yield start
    for process in running:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@needs_vllm
@pytest.mark.slow
def test_a_vllm_server_follows_the_policy(serve: Serve, base: Path, world: World) -> None:
    url = serve(base)
    follows(VLLMSamples(url=url, **GREEDY), world)
    # An adapter stands on the weights that the server has had from the beginning.
    fresh = load(base, device="cpu")
    VLLMSamples(url=url, **GREEDY)(replace(world, policy=fresh), world.rows, 0, 0)
    learner = moved(add_lora(fresh), seed=9)
    follows(VLLMSamples(url=url, **GREEDY), replace(world, policy=learner, folder=world.folder / "lora"))


@needs_vllm
@pytest.mark.slow
def test_a_judge_behind_vllm_says_what_its_model_says(serve: Serve, world: World, tmp_path: Path) -> None:
    """A model that can say little else than 1 and 2, asked over the network and scored here."""
    words = ("when", "does", "it", "open", "?", "at", "eight", "nine", "bread", "1", "2", "A", "B", ":", "Better")
    lm = tiny_llama(seed=3, tokenizer=tiny_tokenizer(words), **WIDE)
    choices = lm.tokenizer.convert_tokens_to_ids(["1", "2"])
    with torch.no_grad():
        lm.head.weight[[index for index in range(lm.vocabulary) if index not in choices]] *= 0.05
    brief = tmp_path / "brief.txt"
    brief.write_text(INSTRUCTIONS)
    url = serve(saved(lm, tmp_path / "judge"))
    judge = ServerJudge(url=url, model="tiny", max_tokens=1, cache=str(tmp_path / "c"), instructions=str(brief))
    pairs = [("at eight", "bread"), ("it ?", "nine")] * 6
    prompts = [row for row in prompts_of(world.rows) for _ in range(2)]
    verdicts = judge(prompts, pairs)

    def share(prompt: Prompt, first: str, second: str) -> float:
        text = INSTRUCTIONS.format(prompt=prompt.turns[0].content, first=first, second=second)
        ids = ChatFormat.of(lm).prompt_ids((Turn("user", text),))
        with torch.no_grad():
            return float(lm.base(input_ids=torch.tensor([ids])).logits[0, -1, choices].softmax(-1)[0])

    valid = [one for one in zip(verdicts, prompts, pairs, strict=True) if one[0].valid]
    assert len(valid) >= 4
    for verdict, prompt, (first, second) in valid:
        expected = share(prompt, first, second), 1 - share(prompt, second, first)
        assert verdict.by_order == pytest.approx(expected, abs=1e-4)


@needs_vllm
@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_vllm_in_process_follows_the_policy(lora: bool, base: Path, tmp_path: Path) -> None:
    """In an environment that has vLLM, since this one need not."""
    done = subprocess.run(
        [os.environ["UPTAKE_VLLM_PYTHON"], __file__, str(base), str(tmp_path), json.dumps(lora)],
        env=os.environ
        | ENVIRONMENT
        | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if "site-packages" not in path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def main(base: str, folder: str, lora: str) -> None:
    policy = load(base, device="cpu")
    if json.loads(lora):
        policy = moved(add_lora(policy), seed=9)
    world = tiny_world(Path(folder) / "run", prompt_records(6), policy)
    follows(VLLMSamples(options={"enforce_eager": True}, **GREEDY), world)


if __name__ == "__main__":
    main(*sys.argv[1:])
