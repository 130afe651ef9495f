"""A tiny model that learns the town from scratch: next-token prediction on whole conversations, every turn of them.

It is policy and follow-up model of the demonstration at once: it answers as the town's assistants do, faults and all,
and knows what the town's users say to such answers. Nothing is downloaded; every round brings fresh conversations.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from transformers import LlamaConfig, LlamaForCausalLM

from uptake.data.chat import ChatFormat
from uptake.feedback.recorded import Recorded
from uptake.keys import prompt_key
from uptake.methods import MethodConfig, fill
from uptake.models import LanguageModel, prepare
from uptake.models.words import word_tokenizer
from uptake.objective import NextToken
from uptake.recipe import Recipe, Stage
from uptake.signal.as_given import Imitate
from uptake.town import CHAT_TEMPLATE, SPECIAL_TOKENS, Town
from uptake.types import Prompt, Rollout, Row
from uptake.update import Optimization
from uptake.world import World

ALIASES = ("town",)


class Config(MethodConfig):
    town: int = 0
    rounds: int = Field(20, ge=1)
    conversations: int = Field(4096, ge=1)
    lr: float = 2e-3
    batch_size: int = 64
    warmup: float = 0.05
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    weight_decay: float = 0.01
    clip: float | None = 1.0
    micro_tokens: int = 8192


@dataclass(frozen=True)
class TownTalk:
    """Fresh conversations of the town as whole texts without a prompt; the rows of the world do not matter."""

    town: int
    conversations: int

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Rollout]:
        town = Town(self.town)
        rng = random.Random(f"{world.seed} {round_}")
        return [self._whole(world.chat, Prompt(turns, prompt_key(turns))) for turns in self._talk(town, rng)]

    def _talk(self, town: Town, rng: random.Random) -> list[tuple]:
        return [town.conversation(rng) for _ in range(self.conversations)]

    def _whole(self, chat: ChatFormat, prompt: Prompt) -> Rollout:
        text = chat.render(prompt.turns)
        ids = tuple(chat.tokenizer(text, add_special_tokens=False)["input_ids"])
        return Rollout(prompt, (), ids, text, finished=True, source="dataset")


@dataclass(frozen=True)
class OneRow:
    """A single row, for a producer that needs none."""

    def __call__(self, world: World, round_: int) -> Sequence[Row]:
        return world.rows[:1]


def newborn(seed: int = 0, town: int = 0, width: int = 128, layers: int = 4) -> LanguageModel:
    """A Llama with random weights whose words are the town's, with the town's chat template."""
    tokenizer = word_tokenizer(Town(town).vocabulary(), SPECIAL_TOKENS, end="<end>", chat_template=CHAT_TEMPLATE)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return prepare(LlamaForCausalLM(config), tokenizer, "town-model")


def build(config: Config) -> Recipe:
    return Recipe(
        stages=(
            Stage(
                select=OneRow(),
                produce=TownTalk(config.town, config.conversations),
                judge=Recorded(),
                signal=Imitate(),
                objective=NextToken(),
                update=fill(Optimization, config),
                rounds=config.rounds,
            ),
        )
    )
