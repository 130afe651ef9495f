"""What experiments on token rewards share: rewards of held-out rows, what a sequence model says of tokens, one arm."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from uptake import Options, World, methods, run
from uptake.data.response_tokens import ResponseTokens
from uptake.data.write import replacing
from uptake.errors import InputError
from uptake.evaluate import ScoredTokens, token_reward_metrics
from uptake.examples.edit_labels import EditCounts, EditLabels, SideLabels
from uptake.examples.edits import EditedRows
from uptake.models import LanguageModel
from uptake.recipe import Recipe
from uptake.rewards.token_reward import TokenValues, rewards_of_ids
from uptake.types import Edit, Edited, Pair, RoundData, Row

# Rewards of the tokens of some responses, and prompts with responses as token ids.
Rewards = Sequence[tuple[float, ...]]
Sides = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class ShuffledLabels:
    """The labels of a row in a random order inside every response: as many, in the wrong places."""

    labels: EditLabels
    seed: int = 0

    def __call__(self, row: Edited, sides: Sequence[ResponseTokens]) -> tuple[SideLabels, EditCounts]:
        found, counts = self.labels(row, sides)
        return [self._shuffled(row, place, each, sides[place]) for place, each in enumerate(found)], counts

    def _shuffled(self, row: Edited, place: int, labels: tuple[float, ...], side: ResponseTokens) -> tuple[float, ...]:
        rng = random.Random(f"{self.seed} {row.prompt.key} {place} {side.ids}")
        return tuple(rng.sample(labels, len(labels)))


def shuffled(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with its labels in the wrong places."""
    (stage,) = recipe.stages
    rows: Any = stage.examples
    return Recipe((replace(stage, examples=replace(rows, labels=ShuffledLabels(rows.labels, seed))),))


@dataclass(frozen=True)
class EditPairs:
    """An edit against what it edits, as a pair."""

    max_tokens: int

    def __call__(self, world: World, round_: int) -> RoundData:
        data = EditedRows(max_tokens=self.max_tokens, multi_edit="rows")(world, round_)
        pairs = [Pair(row.prompt_ids, edit.ids, row.response.ids, 1.0) for row in data.examples for edit in row.edits]
        kept = [pair for pair in pairs if pair.chosen_ids != pair.rejected_ids]
        return RoundData(kept, {"samples": 2 * data.summary["samples"], "pairs": len(kept)})


def on_edits(recipe: Recipe, max_tokens: int) -> Recipe:
    """The recipe of a sequence reward model with edited rows as its pairs, cut as a token reward model's are."""
    return Recipe(tuple(replace(stage, examples=EditPairs(max_tokens)) for stage in recipe.stages))


def with_edit(rows: Sequence[Edited]) -> list[Row]:
    """The rows that are pairs of texts."""
    return [row for row in rows if row.edited not in (None, row.response)]


def token_scores(lm: LanguageModel, sides: Sides) -> Rewards:
    """What a token reward model says of every token."""
    return [_values(each) for each in rewards_of_ids(lm, sides)]


def score_steps(lm: LanguageModel, sides: Sides) -> Rewards:
    """By how much every token changes what the head of a sequence reward model says."""
    # The last token of the prompt goes with the response, so that the first step has where to start from.
    moved = [(prompt[:-1], prompt[-1:] + response) for prompt, response in sides]
    scores = [_values(each) for each in rewards_of_ids(lm, moved)]
    return [tuple(after - before for before, after in pairwise(each)) for each in scores]


def _values(rewards: TokenValues) -> tuple[float, ...]:
    if isinstance(rewards, InputError):
        raise rewards
    return rewards


def measured(world: World, rows: Sequence[Edited], scores: Callable[..., Rewards], max_tokens: int) -> dict[str, Any]:
    """The figures of a model on held-out rows, whose labels are those of the rows themselves.

    Of several edits of one response, a token is faulty where at least half say so, and the first is the better text.
    """
    held = replace(world, rows=rows)
    examples: Sequence[Edit] = EditedRows(max_tokens=max_tokens)(held, 0).examples
    sides = [
        (tuple(example.prompt_ids), tuple(each.ids))
        for example in examples
        for each in (example.response, *example.edits[:1])
    ]
    rewards = iter(scores(world.policy, sides))
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

    def recipe(self, seed: int = 0) -> Recipe:
        if self.by_sequence:
            return on_edits(methods.build(self.method, self.options), self.max_tokens)
        recipe = methods.build(self.method, {**self.options, "max_tokens": self.max_tokens})
        return shuffled(recipe, seed) if self.shuffle else recipe


def figures(arm: Arm, world: World, rows: Sequence[Edited], tests: Mapping[str, Sequence[Edited]]) -> dict[str, Any]:
    """The figures of an arm by test set, kept beside its run; what is on disk is not done again."""
    kept = world.folder.with_suffix(".json")
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    given: Sequence[Row] = with_edit(rows) if arm.by_sequence else rows
    options = Options(title=arm.name, resume=world.folder.exists(), save_every=0)
    trained = run(arm.recipe(world.seed), replace(world, rows=given), options)
    scores = score_steps if arm.by_sequence else token_scores
    result = {name: measured(trained, test, scores, arm.max_tokens) for name, test in tests.items()}
    result["summary"] = json.loads((world.folder / "rounds" / "0-0" / "summary.json").read_text())
    with replacing(kept, overwrite=True) as partial:
        partial.write_text(json.dumps(result))
    return result


def one_thread() -> None:
    torch.set_num_threads(1)
