"""The policy as producer: fresh samples for every prompt, drawn in this process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from uptake.data import ChatFormat
from uptake.models import LanguageModel
from uptake.rollout.samples import Samples
from uptake.sampling.sampler import sample
from uptake.types import Prompt, Rollout
from uptake.world import World


@final
@dataclass(frozen=True)
class PolicySamples(Samples):
    """Samples of the policy, by our own sampler."""

    def draw(self, world: World, prompts: Sequence[Prompt], seed: int, version: int) -> Sequence[Rollout]:
        return self.of(world.policy, prompts, world.chat, seed, version)

    def of(
        self, lm: LanguageModel, prompts: Sequence[Prompt], chat: ChatFormat, seed: int, version: int
    ) -> list[Rollout]:
        """Samples of any model, ordered by prompt, then sample; ModelError where no token would end a response."""
        return sample(lm, self.prompt_ids(lm, prompts, chat), self.sampling(seed), chat.end_ids, version=version)
