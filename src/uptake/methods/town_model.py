"""A tiny model that learns the town from scratch: next-token prediction on whole conversations, every turn of them.

It is policy and follow-up model of the demonstration at once: it answers as the town's assistants do, faults and all,
and knows what the town's users say to such answers. Nothing is downloaded; every round brings fresh conversations.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from uptake.data.chat import ChatFormat
from uptake.methods import MethodConfig, fill
from uptake.models import LanguageModel, Node, TokenTree
from uptake.models.words import tiny_llama, word_tokenizer
from uptake.objective import NextToken
from uptake.recipe import Recipe, Stage
from uptake.support.token_ids import compact
from uptake.town import CHAT_TEMPLATE, SPECIAL_TOKENS, Town
from uptake.types import Dialogue, RoundData, Turn
from uptake.update import Optimization
from uptake.world import World

ALIASES = ("town",)


class Config(MethodConfig):
    town: int = 0
    rounds: int = Field(20, ge=1)
    conversations: int = Field(4096, ge=1)
    users: int = Field(3, ge=1)
    lr: float = 4e-3
    batch_size: int = 32
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: float = 0.05
    weight_decay: float = 0.01


@dataclass(frozen=True)
class TownConversations:
    """Fresh conversations of the town, each with the next lines of several users; the world's rows do not matter.

    Every conversation becomes one tree: question and answer as the stem, all users' next lines as branches. All of it
    is trained on. What users say is a small and noisy part of a conversation, and several of them cost little on a stem
    that is computed once.
    """

    town: int
    conversations: int
    users: int

    def __call__(self, world: World, round_: int) -> RoundData:
        town, rng = Town(self.town), random.Random(f"{world.seed} {round_}")
        trees = []
        for _ in range(self.conversations):
            *answered, reaction = town.conversation(rng)
            lines = [reaction.content, *(town.react(tuple(answered), rng) for _ in range(self.users - 1))]
            trees.append(_tree(world.chat, tuple(answered), lines))
        return RoundData(trees, {"samples": self.conversations * self.users})


def _tree(chat: ChatFormat, answered: Dialogue, lines: Sequence[str]) -> TokenTree:
    """An answered question with what users say after it, each line with the end of its turn."""
    after = (chat.text((*answered, Turn("user", line))) for line in lines)
    stem, *whole = chat.tokenize([chat.text(answered), *after])
    return TokenTree((Node(compact(stem)), *(Node(compact(ids[len(stem) :]), 0) for ids in whole)))


def init_town_model(seed: int = 0, *, width: int = 128, layers: int = 3) -> LanguageModel:
    """A tiny Llama with random weights whose words are the town's, with the town's chat template."""
    words = Town().vocabulary()
    tokenizer = word_tokenizer(words, SPECIAL_TOKENS, end="<end>", chat_template=CHAT_TEMPLATE)
    return tiny_llama(tokenizer, seed=seed, width=width, layers=layers)


def build(config: Config) -> Recipe:
    examples, update = fill(TownConversations, config), fill(Optimization, config)
    stage = Stage(examples=examples, objective=NextToken(), update=update, rounds=config.rounds)
    return Recipe((stage,))
