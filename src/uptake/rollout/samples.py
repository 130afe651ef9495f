"""Samples, as all producers have them in common: the options, a seed for every round, and prompts as token ids."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from uptake.data import ChatFormat, prompts
from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel
from uptake.sampling.answer import PromptIds
from uptake.sampling.draw import Sampling, round_seed
from uptake.types import Dialogue, Group, Prompt, Rollout, Row
from uptake.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Samples(ABC):
    """`n` samples for each prompt; the options are those of `Sampling`.

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
        self.sampling(seed=0)
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < 1:
            problem = f"max_prompt_tokens is {self.max_prompt_tokens}"
            raise InputError(problem, field="max_prompt_tokens", allowed="at least 1, or none")

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Group]:
        """Samples for the prompts of rows, a group for each; every round draws anew."""
        drawn = iter(self.draw(world, prompts(rows), round_seed(world.seed, round_), version))
        return [tuple(islice(drawn, self.n)) for _ in rows]

    @abstractmethod
    def draw(self, world: World, prompts: Sequence[Prompt], seed: int, version: int) -> Sequence[Rollout]:
        """Samples ordered by prompt, then sample."""

    def sampling(self, seed: int) -> Sampling:
        return Sampling(self.n, self.temperature, self.top_p, self.top_k, self.max_new_tokens, seed)

    def prompt_ids(self, lm: LanguageModel, prompts: Sequence[Prompt], chat: ChatFormat) -> list[PromptIds]:
        """Prompts as token ids; ModelError where no token would end a response, InputError where not all ends would."""
        chat.check_ends(lm)
        if not chat.end_ids:
            raise ModelError(f"{lm.name}: the chat format has no end-of-turn token, so no response would ever finish")
        fitted = [self.fitted(prompt, chat) for prompt in prompts]
        cut = sum(len(turns) < len(prompt.turns) for turns, prompt in zip(fitted, prompts, strict=True))
        if cut:
            log.warning("%d of %d prompts lost their oldest turns to max_prompt_tokens", cut, len(prompts))
        return [PromptIds(one, chat.prompt_ids(turns)) for one, turns in zip(prompts, fitted, strict=True)]

    def fitted(self, prompt: Prompt, chat: ChatFormat) -> Dialogue:
        """The turns of a prompt that `max_prompt_tokens` leaves."""
        if self.max_prompt_tokens is None:
            return prompt.turns
        return chat.fit(prompt.turns, self.max_prompt_tokens, where=prompt.where)[0]
