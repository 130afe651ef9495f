"""The policy as producer, sampled by vLLM, whose weights follow the policy's from round to round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, final
from weakref import WeakKeyDictionary, finalize

import torch
from torch import nn

from uptake.client import Server
from uptake.data.write import disk_errors
from uptake.errors import InputError, ModelError
from uptake.models import branches, pack, save_model, token_logps
from uptake.rollout.samples import Samples
from uptake.sampling.answer import PromptIds, check_prompts, rollouts
from uptake.sampling.draw import Sampling
from uptake.sampling.vllm_engines import Engine, InProcess, Served
from uptake.types import Prompt, Rollout
from uptake.world import World

# The largest mean difference of log-probabilities, in nats, between policy and engine, in single and in half precision:
# rounding stays well below.
CLOSE, HALF = 2e-3, 0.1

# Random and short enough to cost nothing: the answer by which an engine is compared with the policy.
_PROBE = Sampling(n=1, temperature=1.0, top_p=1.0, max_new_tokens=64)


@final
@dataclass(frozen=True, kw_only=True)
class VLLMSamples(Samples):
    """Samples of the policy, by vLLM in this process or, with `url`, by a vLLM server of this run alone.

    Before every round the policy's weights go through a folder in `weights` (default: in the run's folder) to the
    engine: of a policy with a LoRA adapter that adapter alone, else all of them. The engine and the policy are then
    compared on an answer of the engine, and a ModelError is raised where their log-probabilities differ by more than
    rounding. `options` are those of `vllm.LLM`; a server has been started with its own. Log-probabilities are those of
    the distribution drawn from, and left out where a server does not say which it gives. Raises as `Server` does.
    """

    url: str | None = None
    key_variable: str | None = None
    concurrency: int = 256
    timeout: float = 600.0
    weights: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.url is not None and self.options:
            raise InputError("options beside a url", field="options", allowed="the one or the other")
        self._engine()

    def draw(self, world: World, prompts: Sequence[Prompt], seed: int, version: int) -> Sequence[Rollout]:
        prompt_ids = self.prompt_ids(world.policy, prompts, world.chat)
        check_prompts(world.policy, prompt_ids)
        if not prompt_ids:
            return []
        follower = _followers(world.policy.base).setdefault(self._address, Follower(self._engine()))
        follower.follow(world, prompt_ids[0], (world.folder, seed, version), Path(self.weights or world.folder))
        written = follower.engine.write(world.policy, prompt_ids, self.sampling(seed), world.chat.end_ids)
        return rollouts(world.policy, prompt_ids, written, version=version, source="policy")

    @property
    def _address(self) -> str:
        return repr((self.url, self.options))

    def _engine(self) -> Engine:
        """An engine that has not started yet."""
        if self.url is None:
            return InProcess(self.options)
        return Served(
            Server(
                url=self.url,
                model="",
                key_variable=self.key_variable,
                concurrency=self.concurrency,
                timeout=self.timeout,
            )
        )


# The engines of a policy, which live as long as it does: starting one takes longer than a round.
_ENGINES: WeakKeyDictionary[nn.Module, dict[str, "Follower"]] = WeakKeyDictionary()


def _followers(policy: nn.Module) -> dict[str, "Follower"]:
    return _ENGINES.setdefault(policy, {})


@final
class Follower:
    """An engine, and which weights it has."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._stamp: tuple[Path, int, int] | None = None
        self._forget: Callable[[], object] = lambda: None

    def follow(self, world: World, prompt: PromptIds, stamp: tuple[Path, int, int], weights: Path) -> None:
        """Bring the engine to the policy's weights; the same `stamp` (run, round, version) says the same weights."""
        if stamp == self._stamp:
            return
        with disk_errors(weights):
            weights.mkdir(parents=True, exist_ok=True)
            folder = Path(mkdtemp(prefix="weights-", dir=weights.resolve()))
        forget = finalize(self, rmtree, folder, ignore_errors=True)
        save_model(world.policy, world.chat.template, folder / "model")
        self.engine.load(world.policy, folder / "model")
        # The weights before go only now, since an engine may come back to those that it has.
        self._forget()
        self._forget = forget
        _compare(self.engine, world, prompt)
        self._stamp = stamp


def _compare(engine: Engine, world: World, prompt: PromptIds) -> None:
    """Raise ModelError unless the engine's log-probabilities of an answer of its own are the policy's."""
    lm = world.policy
    [answer] = engine.write(lm, [prompt], _PROBE, world.chat.end_ids)
    with torch.no_grad():
        expected = token_logps(lm, pack([branches(prompt.ids, answer.ids)])).cpu()
    difference = float((torch.tensor(answer.logps) - expected).abs().mean())
    close = HALF if lm.compute_dtype.itemsize == 2 else CLOSE
    if not difference <= close:
        problem = f"vLLM answers by other weights: log-probabilities differ by {difference:.2g} nats on average"
        cause = "another base model, another precision, or weights that vLLM did not take over"
        raise ModelError(f"{lm.name}: {problem} (allowed: {close}): {cause}")
