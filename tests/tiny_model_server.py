"""A server on this machine that speaks as vLLM does, with a tiny model of ours behind it."""

import json
from collections.abc import Collection
from threading import Lock
from typing import Any

from tiny_server import Answer, JudgeServer, Plan

from uptake.data import ChatFormat
from uptake.models import LanguageModel, load
from uptake.sampling import PromptIds, Sampling, sample
from uptake.types import Prompt, Rollout, Turn


class ModelServer(JudgeServer):
    """A model behind those of vLLM's endpoints that Uptake uses; it samples by itself, from the seed of a request.

    With `ids` false it reads and writes text alone, as other servers do; `deaf`, it says yes to new weights and goes on
    with those it has, and `busy`, it does not empty its prefix cache. `cached` counts the prompts in that cache.
    """

    def __init__(self, lm: LanguageModel, plan: Plan = lambda number, request: None, *, ids: bool = True) -> None:
        super().__init__(plan)
        self.lm, self.ids = lm, ids
        self.adapters: dict[str, LanguageModel] = {}
        self.deaf = self.busy = False
        self.cached: set[tuple[int, ...]] = set()
        self._turn = Lock()

    def _honest(self, request: dict[str, Any]) -> Answer:
        with self._turn:
            return Answer(json.dumps(self._done(request)).encode())

    def _done(self, request: dict[str, Any]) -> dict[str, Any]:
        match request:
            case {"prompt": prompt}:
                return {"choices": [self._completed(request, prompt)]}
            case {"messages": messages}:
                return {"choices": [self._said(request, messages)]}
            case {"method": "reload_weights", "kwargs": {"weights_path": folder}}:
                self.lm = self.lm if self.deaf else load(folder, device="cpu")
                return {"results": [None]}
            case {"lora_name": name, "lora_path": folder}:
                self.adapters[name] = load(folder, device="cpu")
            case {"lora_name": name}:
                del self.adapters[name]
            case _:
                self.cached = self.cached if self.busy else set()
                return {"success": not self.busy}
        return {}

    def _completed(self, request: dict[str, Any], prompt: str | list[int]) -> dict[str, Any]:
        ids = self.lm.tokenizer(prompt, add_special_tokens=False)["input_ids"] if isinstance(prompt, str) else prompt
        self.cached.add(tuple(ids))
        one = self._sampled(request, tuple(ids), request.get("stop_token_ids", ()))
        choice: dict[str, Any] = {"text": one.response, "finish_reason": "stop" if one.finished else "length"}
        if self.ids and request.get("return_token_ids"):
            choice |= {"token_ids": one.response_ids, "prompt_token_ids": ids}
        return choice | ({"logprobs": {"token_logprobs": one.logps}} if "logprobs" in request else {})

    def _said(self, request: dict[str, Any], messages: list[dict[str, str]]) -> dict[str, Any]:
        chat = ChatFormat.of(self.lm)
        turns = tuple(Turn(message["role"], message["content"]) for message in messages)  # type: ignore[arg-type]
        one = self._sampled(request, chat.prompt_ids(turns), chat.end_ids)
        return {"message": {"content": one.response}, "finish_reason": "stop" if one.finished else "length"}

    def _sampled(self, request: dict[str, Any], ids: tuple[int, ...], ends: Collection[int]) -> Rollout:
        limit = request.get("max_tokens") or request["max_completion_tokens"]
        how = request.get("temperature", 1.0), request.get("top_p", 1.0), request.get("top_k", 0)
        sampling = Sampling(1, *how, limit, request.get("seed", 0))
        (one,) = sample(self.adapters.get(request["model"], self.lm), [PromptIds(Prompt((), ""), ids)], sampling, ends)
        return one
