"""A tiny model that learns the town from scratch: next-token prediction on whole conversations, every turn of them.

It is policy and follow-up model of the demonstration at once: it answers as the town's assistants do, faults and all,
and knows what the town's users say to such answers. Nothing is downloaded; every round brings fresh conversations.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from uptake.data.chat import ChatFormat
from uptake.judge.recorded import Recorded
from uptake.methods import MethodConfig, fill
from uptake.models import LanguageModel, Node, TokenTree
from uptake.models.words import tiny_llama, word_tokenizer
from uptake.objective import NextToken
from uptake.recipe import Recipe, Stage
from uptake.signal import Examples
from uptake.support.keys import prompt_key
from uptake.town import CHAT_TEMPLATE, SPECIAL_TOKENS, Town
from uptake.types import Dialogue, Judgement, Prompt, Rollout, Row, Turn
from uptake.update import Optimization
from uptake.world import World

ALIASES = ("town",)


class Config(MethodConfig):
    town: int = 0
    rounds: int = Field(12, ge=1)
    conversations: int = Field(4096, ge=1)
    users: int = Field(3, ge=1)
    lr: float = 6e-3
    batch_size: int = 64
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: float = 0.05
    weight_decay: float = 0.01


@dataclass(frozen=True)
class TownConversations:
    """Fresh conversations of the town, each with the next lines of several users; the world's rows do not matter."""

    town: int
    conversations: int
    users: int

    def __call__(self, world: World, rows: Sequence[Row], round_: int, version: int) -> Sequence[Rollout]:
        town, rng = Town(self.town), random.Random(f"{world.seed} {round_}")
        rollouts = []
        for _ in range(self.conversations):
            *answered, said = town.conversation(rng)
            lines = [said.content, *(town.react(tuple(answered), rng) for _ in range(self.users - 1))]
            rollouts += [_next_line(world.chat, tuple(answered), line) for line in lines]
        return rollouts


def _next_line(chat: ChatFormat, answered: Dialogue, line: str) -> Rollout:
    """What a user says after an answered question, with the end of the turn; the rest is the prompt."""
    stem = tuple(chat.tokenizer(chat.render(answered), add_special_tokens=False)["input_ids"])
    whole = tuple(chat.tokenizer(chat.render((*answered, Turn("user", line))), add_special_tokens=False)["input_ids"])
    prompt = Prompt(answered, prompt_key(answered))
    return Rollout(prompt, stem, whole[len(stem) :], line, finished=True, source="dataset")


@dataclass(frozen=True)
class ConversationBranches:
    """Every conversation becomes one tree: question and answer as the stem, all users' next lines as branches.

    All of it is trained on. What users say is a small and noisy part of a conversation, and several of them cost little
    on a stem that is computed once.
    """

    users: int

    def __call__(self, rollouts: Sequence[Rollout], judgements: Sequence[Judgement]) -> Examples:
        groups = [rollouts[start : start + self.users] for start in range(0, len(rollouts), self.users)]
        trees = tuple(
            TokenTree((Node(group[0].prompt_ids), *(Node(each.response_ids, 0) for each in group))) for group in groups
        )
        return Examples(trees, {"samples": len(rollouts)})


@dataclass(frozen=True)
class OneRow:
    """A single row, for a producer that needs none."""

    def __call__(self, world: World, round_: int) -> Sequence[Row]:
        return world.rows[:1]


def init_town_model(seed: int = 0, town: int = 0, *, width: int = 128, layers: int = 3) -> LanguageModel:
    """A tiny Llama with random weights whose words are the town's, with the town's chat template."""
    words = Town(town).vocabulary()
    tokenizer = word_tokenizer(words, SPECIAL_TOKENS, end="<end>", chat_template=CHAT_TEMPLATE)
    return tiny_llama(tokenizer, seed=seed, width=width, layers=layers)


def build(config: Config) -> Recipe:
    return Recipe(
        stages=(
            Stage(
                select=OneRow(),
                produce=fill(TownConversations, config),
                judge=Recorded(),
                signal=ConversationBranches(config.users),
                objective=NextToken(),
                update=fill(Optimization, config),
                rounds=config.rounds,
            ),
        )
    )
