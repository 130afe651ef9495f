"""The policy as producer: fresh samples for every prompt, drawn in this process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from uptake.data import ChatFormat, prompts
from uptake.models import LanguageModel
from uptake.rollout.samples import Samples
from uptake.sampling.draw import round_seed
from uptake.sampling.sampler import sample, stream
from uptake.types import Group, Prompt, Rollout, Row
from uptake.world import World

# Responses that are sampled together. A model of 135 M takes a fifth more CPU time for each of 64 than of 128.
TOGETHER = 256


@final
@dataclass(frozen=True)
class PolicySamples(Samples):
    """Samples of the policy, by our own sampler."""

    def draw(self, world: World, prompts: Sequence[Prompt], seed: int, version: int) -> Sequence[Rollout]:
        return self.of(world.policy, prompts, world.chat, seed, version)

    @property
    def pool(self) -> int:
        return max(1, TOGETHER // self.n)

    def stream(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Iterator[tuple[int, Group]]:
        """The number of each row and its samples, as soon as the last of them is done."""
        prompt_ids = self.prompt_ids(world.policy, prompts(rows), world.chat)
        drawn = self.sampling(round_seed(world.seed, round_))
        return stream(world.policy, prompt_ids, drawn, world.chat.end_ids, version=version)

    def of(
        self, lm: LanguageModel, prompts: Sequence[Prompt], chat: ChatFormat, seed: int, version: int
    ) -> list[Rollout]:
        """Samples of any model, ordered by prompt, then sample; ModelError where no token would end a response."""
        return sample(lm, self.prompt_ids(lm, prompts, chat), self.sampling(seed), chat.end_ids, version=version)
