"""The policy as producer: n fresh samples for every prompt."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from uptake.data import ChatFormat, prompts
from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel
from uptake.rollout.answer import PromptIds
from uptake.rollout.engine import sample
from uptake.rollout.sampling import Sampling
from uptake.types import Prompt, Rollout, Row
from uptake.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PolicySamples:
    """`n` samples of the policy for each prompt; the options are those of `Sampling`.

    With `max_prompt_tokens`, the oldest whole turns of a longer prompt are left out, which a warning counts; without, a
    prompt that the model's window cannot hold is an InputError. A rollout keeps the whole prompt beside the ids used.
    """

    n: int = 8
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    max_new_tokens: int = 256
    max_prompt_tokens: int | None = None

    def __post_init__(self) -> None:
        self._sampling(seed=0)
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 1:
            problem = f"max_prompt_tokens is {self.max_prompt_tokens}"
            raise InputError(problem, field="max_prompt_tokens", allowed="at least 1, or none")

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Rollout]:
        """Samples of the world's policy for the prompts of rows; every round draws anew."""
        seed = int.from_bytes(sha256(f"{world.seed} {round_}".encode()).digest()[:7], "big")
        return self.of(world.policy, prompts(rows), world.chat, seed, version)

    def of(
        self, lm: LanguageModel, asked: Sequence[Prompt], chat: ChatFormat, seed: int, version: int
    ) -> list[Rollout]:
        """Samples of any model, ordered by prompt, then sample; ModelError where no token would end a response."""
        if not chat.end_ids:
            raise ModelError(f"{lm.name}: the chat format has no end-of-turn token, so no response would ever finish")
        ids = [self._ids(prompt, chat) for prompt in asked]
        cut = sum(dropped > 0 for _, dropped in ids)
        if cut:
            log.warning("%d of %d prompts lost their oldest turns to max_prompt_tokens", cut, len(asked))
        return sample(lm, [one for one, _ in ids], self._sampling(seed), chat.end_ids, version=version)

    def _sampling(self, seed: int) -> Sampling:
        return Sampling(self.n, self.temperature, self.top_p, self.top_k, self.max_new_tokens, seed)

    def _ids(self, prompt: Prompt, chat: ChatFormat) -> tuple[PromptIds, int]:
        """The prompt's ids, and the number of turns left out."""
        turns, dropped = prompt.turns, 0
        if self.max_prompt_tokens is not None:
            turns, dropped = chat.fit(turns, self.max_prompt_tokens, where=prompt.where)
        return PromptIds(prompt, chat.prompt_ids(turns)), dropped
