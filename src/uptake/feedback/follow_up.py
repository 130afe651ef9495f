"""Follow-up likelihood as reward: how likely is it that the user's next line approves of the response?

Source: arXiv 2409.13948. The reward is the mean log-probability of approving follow-ups minus that of disapproving
ones, per category, then averaged over categories. All follow-ups to a response are branches of one token tree, so the
conversation is computed once whatever their number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from uptake.data.chat import ChatFormat
from uptake.data.place import bad_row
from uptake.data.turns import conversation
from uptake.errors import InputError, ModelError
from uptake.feedback.combine import Combine, Polarity, Standardize
from uptake.feedback.followup_set import FollowUpSet
from uptake.feedback.released import released_logits
from uptake.keys import prompt_key
from uptake.models import LanguageModel, branches, load, score_trees
from uptake.types import Dialogue, Judgement, Rollout, Turn, Where
from uptake.world import World

Reduction = Literal["mean", "sum"]
ScoreMode = Literal["log_likelihood", "legacy_released"]

# Tokens of one forward call, and dialogues between two signs of progress.
BUDGET = 8192
CHUNK = 16


@dataclass(frozen=True)
class FollowUpScores:
    """The rewards of N responses under K follow-ups, with every part they are made of.

    `logps` are mean log-probabilities per token of each follow-up's own words as the next user turn, in nats, columns
    in the order of `followups`; `lengths` are the tokens per follow-up. `dropped_turns` counts the oldest turns that
    did not fit the model's window.
    """

    rewards: Float[Tensor, " responses"]
    by_category: Mapping[str, Float[Tensor, " responses"]]
    logps: Float[Tensor, "responses followups"]
    lengths: Int[Tensor, "responses followups"]
    followups: tuple[str, ...]
    dropped_turns: tuple[int, ...]


@final
class FollowUpReward:
    """Rates responses by what a user would say next, with any causal language model and no labels.

    `reduction` takes the mean (default) or the sum over a follow-up's tokens; `polarity` leaves out one side;
    `standardize="within_prompt"` z-scores each follow-up over the candidates of one prompt; `mode="legacy_released"`
    is what the authors' released code computes (not a likelihood). Compare rewards of responses to one prompt; they
    mean little across prompts or chat templates.
    """

    def __init__(
        self,
        lm: LanguageModel,
        followups: FollowUpSet,
        *,
        reduction: Reduction = "mean",
        polarity: Polarity = "both",
        standardize: Standardize = "none",
        mode: ScoreMode = "log_likelihood",
        chat: ChatFormat | None = None,
    ) -> None:
        self.lm, self.followups, self.reduction, self.mode = lm, followups, reduction, mode
        self.chat = ChatFormat.of(lm.tokenizer) if chat is None else chat
        self.combine = Combine(followups, polarity, standardize)

    @classmethod
    def from_pretrained(
        cls, model: str | Path | LanguageModel, followups: str | Path | FollowUpSet | None = None, **options: Any
    ) -> Self:
        """The reward of a Transformers folder, a Hub name or a loaded model; the default follow-ups if none are given.

        `options` are those of the class and, for a model that is to be loaded, of `uptake.load`.
        """
        loading = {name: options.pop(name) for name in ("dtype", "device", "adapter") if name in options}
        lm = model if isinstance(model, LanguageModel) else load(model, **loading)
        chosen = followups if isinstance(followups, FollowUpSet) else FollowUpSet.load(followups)
        return cls(lm, chosen, **options)

    def score(
        self,
        dialogues: Sequence[Sequence[Any]],
        *,
        where: Sequence[Where | None] | None = None,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> FollowUpScores:
        """Score dialogues, each a list of messages that ends with the response to rate.

        Messages are `{"role": ..., "content": ...}` or `Turn`. `where` names the rows in error messages; `on_progress`
        is told how many more dialogues are done. Raises InputError for a dialogue that cannot be scored and ModelError
        where the model gives not-a-number.
        """
        places = list(where) if where is not None else [None] * len(dialogues)
        turns = [answered_turns(messages, place) for messages, place in zip(dialogues, places, strict=True)]
        exact = torch.promote_types(self.lm.dtype, torch.float32)
        logps = torch.zeros(len(turns), len(self.followups.sentences), dtype=exact)
        lengths = torch.zeros(logps.shape, dtype=torch.long)
        dropped: list[int] = []
        for start in range(0, len(turns), CHUNK):
            rows = slice(start, start + CHUNK)
            fitted = [self._fit(each, place) for each, place in zip(turns[rows], places[rows], strict=True)]
            logps[rows], lengths[rows] = self._logps([kept for kept, _ in fitted], places[rows])
            dropped.extend(count for _, count in fitted)
            on_progress(len(fitted))
        values = logps * lengths if self.reduction == "sum" else logps
        prompts = {key: index for index, key in enumerate(dict.fromkeys(prompt_key(each[:-1]) for each in turns))}
        groups = torch.tensor([prompts[prompt_key(each[:-1])] for each in turns], dtype=torch.long)
        rewards, by_category = self.combine(values, groups)
        return FollowUpScores(rewards, by_category, logps, lengths, self.followups.sentences, tuple(dropped))

    def _fit(self, turns: Dialogue, where: Where | None) -> tuple[Dialogue, int]:
        """The conversation without the oldest turns that do not fit the window beside the longest follow-up."""
        if self.lm.window is None:
            return turns, 0
        return self.chat.fit(turns, self.lm.window, reserve=self._longest, where=where)

    @cached_property
    def _longest(self) -> int:
        """Tokens of the longest follow-up with its user header."""
        turns = (Turn("user", "Hello"), Turn("assistant", "Hello."))
        stem, branches_ = self.chat.follow_ups(turns, self.followups.sentences)
        return len(stem) - len(self.chat.prompt_ids(turns[:1])) + max(map(len, branches_))

    def _logps(self, dialogues: Sequence[Dialogue], places: Sequence[Where | None]) -> tuple[Tensor, Tensor]:
        """Mean log-probability (or released score) and token count of every follow-up to every dialogue."""
        texts = self.followups.sentences
        parts = [
            self.chat.follow_ups(turns, texts, where=place) for turns, place in zip(dialogues, places, strict=True)
        ]
        lengths = torch.tensor([[len(branch) for branch in each] for _, each in parts])
        if self.mode == "legacy_released":
            values = torch.stack([released_logits(self.lm, self.chat, turns, texts) for turns in dialogues])
        else:
            scored = score_trees(self.lm, [branches(stem, *each) for stem, each in parts], BUDGET)
            values = torch.stack([torch.stack([node.mean() for node in nodes]) for nodes in scored])
        for row, place in zip(values, places, strict=True):
            if not bool(row.isfinite().all()):
                at = f"{place.path}:{place.line}: " if place else ""
                raise ModelError(f"{at}{self.lm.name} gives not-a-number for the follow-ups to this response")
        return values, lengths


def answered_turns(messages: Sequence[Any], where: Where | None = None) -> Dialogue:
    """Messages, as dictionaries or turns, that end with a response; raises InputError for any others."""
    spelled = [
        {"role": each.role, "content": each.content} if isinstance(each, Turn) else each for each in messages
    ]
    turns = conversation(spelled, where, "messages")
    if turns[-1].role != "assistant":
        raise bad_row("the last turn is the user's", where, field="messages", allowed="a response to rate at the end")
    if not turns[-1].content.strip():
        raise bad_row("the response is empty", where, field="messages", allowed="some text")
    return turns


@dataclass(frozen=True)
class FollowUps:
    """The judge of a recipe: follow-up likelihood under the world's model called `model`.

    `followups` is the path of a follow-up set, or None for the set that comes with Uptake.
    """

    followups: str | None = None
    reduction: Reduction = "mean"
    polarity: Polarity = "both"
    standardize: Standardize = "none"
    model: str = "follow_up"

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        reward = FollowUpReward.from_pretrained(
            world.model(self.model),
            self.followups,
            reduction=self.reduction,
            polarity=self.polarity,
            standardize=self.standardize,
        )
        answered = [rollout for rollout in rollouts if rollout.response.strip()]
        dialogues = [(*rollout.prompt.turns, Turn("assistant", rollout.response)) for rollout in answered]
        scores = reward.score(dialogues, where=[rollout.prompt.where for rollout in answered])
        judged = iter(judgements(scores))
        empty = Judgement(0.0, valid=False, reason="empty response")
        return [next(judged) if rollout.response.strip() else empty for rollout in rollouts]


def judgements(scores: FollowUpScores) -> list[Judgement]:
    """Follow-up scores as judgements, one a response, with the categories as parts."""
    return [
        Judgement(float(reward), parts={name: float(column[row]) for name, column in scores.by_category.items()})
        for row, reward in enumerate(scores.rewards)
    ]
