"""vLLM, in this process or behind a server, as something that loads weights from a folder and answers prompts."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, final

from uptake.client import Server
from uptake.errors import InputError, ModelError, UptakeError
from uptake.models import LanguageModel
from uptake.sampling.answer import PromptIds, Written, answer_limit
from uptake.sampling.completions import complete
from uptake.sampling.draw import Sampling, sample_seed

# The ranks that vLLM has room for.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class Engine(Protocol):
    """Samples from the weights that were loaded last."""

    def load(self, lm: LanguageModel, folder: Path) -> None:
        """Take over the weights of a model, or of its adapter, which lie in a folder of a name never used before."""
        ...

    def write(
        self, lm: LanguageModel, prompts: Sequence[PromptIds], sampling: Sampling, end_ids: Collection[int]
    ) -> list[Written]:
        """Responses ordered by prompt, then sample."""
        ...


@final
class Served:
    """A vLLM server that reads the folders that this process writes."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def load(self, lm: LanguageModel, folder: Path) -> None:
        server = self._server
        if adapter_rank(lm):
            needs = "--enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in the server's environment, the same disk"
            name = folder.parent.name
            server.command("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, needs)
            self._server = replace(server, model=name)
            if server.model:
                server.command("/v1/unload_lora_adapter", {"lora_name": server.model}, needs)
            return
        needs = "VLLM_SERVER_DEV_MODE=1 in the server's environment, and the same disk"
        weights = {"weights_path": str(folder)}
        server.command("/collective_rpc", {"method": "reload_weights", "kwargs": weights}, needs)
        # What prompts became under the old weights is not forgotten by itself.
        if not json.loads(server.command("/reset_prefix_cache", {}, needs))["success"]:
            raise UptakeError(f"{server.url}: the prefix cache is in use (needed: a server for this run alone)")

    def write(
        self, lm: LanguageModel, prompts: Sequence[PromptIds], sampling: Sampling, end_ids: Collection[int]
    ) -> list[Written]:
        return complete(self._server, lm, prompts, sampling, end_ids)


@final
class InProcess:
    """A vLLM engine of this process, started at the first weights with `options` of `vllm.LLM`."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._llm: Any = None
        self._adapter: Any = None
        self._loaded = 0

    def load(self, lm: LanguageModel, folder: Path) -> None:
        try:
            self._load(lm, folder)
        except UptakeError:
            raise
        # vLLM passes on whatever its workers raise, down to bare Exception.
        except Exception as error:
            raise ModelError(f"{lm.name}: vLLM cannot load it: {error}") from error

    def _load(self, lm: LanguageModel, folder: Path) -> None:
        if self._llm is None:
            self._llm = _start(lm, folder, self._options)
        elif not adapter_rank(lm):
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            # What prompts became under the old weights is not forgotten by itself.
            if not self._llm.reset_prefix_cache():
                raise ModelError(f"{lm.name}: vLLM does not let go of its prefix cache")
        if adapter_rank(lm):
            from vllm.lora.request import LoRARequest  # noqa: PLC0415

            self._loaded += 1
            self._adapter = LoRARequest(folder.parent.name, self._loaded, str(folder))

    def write(
        self, lm: LanguageModel, prompts: Sequence[PromptIds], sampling: Sampling, end_ids: Collection[int]
    ) -> list[Written]:
        from vllm import SamplingParams  # noqa: PLC0415

        pairs = [(prompt, sample) for prompt in prompts for sample in range(sampling.n)]
        settings = [
            SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=answer_limit(lm, prompt, sampling),
                seed=sample_seed(sampling.seed, prompt.prompt.key, sample),
                ignore_eos=True,
                stop_token_ids=sorted(end_ids),
                logprobs=0,
                detokenize=False,
            )
            for prompt, sample in pairs
        ]
        inputs = [{"prompt_token_ids": list(prompt.ids)} for prompt, _ in pairs]
        outputs = self._llm.generate(inputs, settings, lora_request=self._adapter, use_tqdm=False)
        return [_written(output.outputs[0], end_ids) for output in outputs]


def adapter_rank(lm: LanguageModel) -> int:
    """The rank of the LoRA adapter that is saved of the model, 0 where the model itself is; of an ensemble all ranks.

    Raises ModelError for an adapter of another kind.
    """
    adapters: Any = getattr(lm.model, "peft_config", {}) if lm.source else {}
    for adapter in adapters.values():
        if not getattr(adapter, "r", 0):
            raise ModelError(f"{lm.name}: vLLM runs LoRA adapters only, not {type(adapter).__name__}")
    return sum(int(adapter.r) for adapter in adapters.values())


def _start(lm: LanguageModel, folder: Path, options: Mapping[str, Any]) -> Any:
    try:
        from vllm import LLM  # noqa: PLC0415
    except ImportError as error:
        allowed = 'vLLM (pip install "uptake[vllm]"), or a server by its url'
        raise InputError(f"vLLM cannot be imported: {error}", field="engine", allowed=allowed) from error
    rank, model = adapter_rank(lm), str(folder)
    if rank:
        model = lm.source
        room = min((each for each in RANKS if each >= rank), default=RANKS[-1])
        options = {"enable_lora": True, "max_lora_rank": room, **options}
    dtype = str(lm.compute_dtype).removeprefix("torch.")
    fixed = {"dtype": dtype, "skip_tokenizer_init": True, "logprobs_mode": "processed_logprobs"}
    return LLM(model=model, **fixed, **options)


def _written(output: Any, end_ids: Collection[int]) -> Written:
    ids = tuple(output.token_ids)
    logps = tuple(float(step[token].logprob) for step, token in zip(output.logprobs, ids, strict=True))
    return Written(ids, logps, bool(ids) and ids[-1] in end_ids)
