"""What experiments on token rewards share: rewards of held-out rows, what a sequence model says of tokens, one arm."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from uptake import ChatFormat, Options, World, methods, run
from uptake.data.write import replacing
from uptake.evaluate import ScoredTokens, token_reward_metrics
from uptake.judge.edit_labels import EditLabels
from uptake.models import LanguageModel
from uptake.recipe import Recipe
from uptake.rewards.token_reward import reward_tokens
from uptake.rollout.edited import EditedRows
from uptake.signal.edits import Edits
from uptake.types import Edit, Edited, Judgement, Rollout, Row

# Rewards of the tokens of some responses.
Rewards = Sequence[tuple[float, ...]]


@dataclass(frozen=True)
class ShuffledLabels:
    """The labels of another judge, in a random order inside every response: as many, in the wrong places."""

    labels: EditLabels = EditLabels()

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        return [
            replace(each, tokens=tuple(_rng(world, rollout).sample(each.tokens, len(each.tokens))))
            for each, rollout in zip(self.labels(world, rollouts), rollouts, strict=True)
        ]


def _rng(world: World, rollout: Rollout) -> random.Random:
    return random.Random(f"{world.seed} {rollout.prompt.key} {rollout.sample} {rollout.response_ids}")


def shuffled(recipe: Recipe) -> Recipe:
    """The recipe with its labels in the wrong places."""
    return Recipe(tuple(replace(stage, judge=ShuffledLabels()) for stage in recipe.stages))


@dataclass(frozen=True)
class EditIsBetter:
    """Score 1 for an edit, 0 for what it edits."""

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        return [Judgement(float(rollout.sample == 1)) for rollout in rollouts]


def on_edits(recipe: Recipe, max_tokens: int) -> Recipe:
    """The recipe of a sequence reward model with edited rows as its pairs, cut as a token reward model's are."""
    produce, judge = EditedRows(max_tokens), EditIsBetter()
    return Recipe(tuple(replace(stage, produce=produce, judge=judge) for stage in recipe.stages))


def with_edit(rows: Sequence[Edited]) -> list[Row]:
    """The rows that are pairs of texts."""
    return [row for row in rows if row.edited not in (None, row.response)]


def token_scores(lm: LanguageModel, chat: ChatFormat, rollouts: Sequence[Rollout]) -> Rewards:
    """What a token reward model says of every token."""
    return [_values(each) for each in reward_tokens(lm, chat, rollouts)]


def score_steps(lm: LanguageModel, chat: ChatFormat, rollouts: Sequence[Rollout]) -> Rewards:
    """By how much every token changes what the head of a sequence reward model says."""
    # The last token of the prompt goes with the response, so that the first step has where to start from.
    moved = [
        replace(each, prompt_ids=each.prompt_ids[:-1], response_ids=each.prompt_ids[-1:] + each.response_ids)
        for each in rollouts
    ]
    scores = [_values(each) for each in reward_tokens(lm, chat, moved)]
    return [tuple(after - before for before, after in pairwise(each)) for each in scores]


def _values(rewards: tuple[float, ...] | str) -> tuple[float, ...]:
    if isinstance(rewards, str):
        raise ValueError(rewards)
    return rewards


def measured(world: World, rows: Sequence[Edited], scores: Callable[..., Rewards], max_tokens: int) -> dict[str, Any]:
    """The figures of a model on held-out rows, whose labels are those of the rows themselves.

    Of several edits of one response, a token is faulty where at least half say so, and the first is the better text.
    """
    held = replace(world, rows=rows)
    rollouts = EditedRows(max_tokens)(held, rows, 0, 0)
    examples: Sequence[Edit] = Edits()(rollouts, EditLabels()(held, rollouts)).examples
    sides = [each.rollout for example in examples for each in (example.response, *example.edits[:1])]
    rewards = iter(scores(world.policy, world.chat, sides))
    found = [
        ScoredTokens(
            next(rewards),
            tuple(-float(label <= -0.5) for label in example.response.labels),
            next(rewards) if example.edits else (),
        )
        for example in examples
    ]
    return asdict(token_reward_metrics(found))


@dataclass(frozen=True)
class Arm:
    """One model to train and measure: by which method, with its labels shuffled or not."""

    name: str
    method: str
    options: Mapping[str, Any]
    shuffle: bool = False
    max_tokens: int = 512

    @property
    def by_sequence(self) -> bool:
        return self.method == "reward_model"

    def recipe(self) -> Recipe:
        if self.by_sequence:
            return on_edits(methods.build(self.method, self.options), self.max_tokens)
        recipe = methods.build(self.method, {**self.options, "max_tokens": self.max_tokens})
        return shuffled(recipe) if self.shuffle else recipe


def figures(arm: Arm, world: World, rows: Sequence[Edited], tests: Mapping[str, Sequence[Edited]]) -> dict[str, Any]:
    """The figures of an arm by test set, kept beside its run; what is on disk is not done again."""
    kept = world.folder.with_suffix(".json")
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    given: Sequence[Row] = with_edit(rows) if arm.by_sequence else rows
    options = Options(title=arm.name, resume=world.folder.exists(), save_every=0)
    trained = run(arm.recipe(), replace(world, rows=given), options)
    scores = score_steps if arm.by_sequence else token_scores
    result = {name: measured(trained, test, scores, arm.max_tokens) for name, test in tests.items()}
    result["summary"] = json.loads((world.folder / "rounds" / "0-0" / "summary.json").read_text())
    with replacing(kept, overwrite=True) as partial:
        partial.write_text(json.dumps(result))
    return result


def one_thread() -> None:
    torch.set_num_threads(1)
