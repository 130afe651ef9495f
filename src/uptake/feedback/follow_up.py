"""Follow-up likelihood as reward: how likely is it that the user's next line approves of the response?

Source: arXiv 2409.13948. The reward is the mean log-probability of approving follow-ups minus that of disapproving
ones, per category, then averaged over categories. All follow-ups to a response are branches of one token tree, so the
conversation is computed once whatever their number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, final, get_args

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
from uptake.models import LanguageModel, TokenTree, branches, load, score_trees
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
        for name, value, known in (("reduction", reduction, Reduction), ("mode", mode, ScoreMode)):
            if value not in get_args(known):
                raise InputError(repr(value), field=name, allowed=", ".join(get_args(known)))
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
        unscored: dict[int, InputError] | None = None,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> FollowUpScores:
        """Score dialogues, each a list of messages that ends with the response to rate.

        Messages are `{"role": ..., "content": ...}` or `Turn`. `where` names the rows in error messages; `on_progress`
        is told how many more dialogues are done. Raises InputError for a dialogue that cannot be scored (too long for
        the model's window, roles out of order, no response) and ModelError where the model gives not-a-number. Where a
        dictionary is given as `unscored`, the error goes there by index instead and the scores of the row are
        not-a-number.
        """
        places = list(where) if where is not None else [None] * len(dialogues)
        asked: list[_Asked] = []
        for index, (messages, place) in enumerate(zip(dialogues, places, strict=True)):
            try:
                asked.append(self._ask(index, messages, place))
            except InputError as error:
                if unscored is None:
                    raise
                unscored[index] = error
        exact = torch.promote_types(self.lm.dtype, torch.float32)
        logps = torch.full((len(places), len(self.followups.sentences)), torch.nan, dtype=exact)
        lengths = torch.zeros(logps.shape, dtype=torch.long)
        for start in range(0, len(asked), CHUNK):
            chunk = asked[start : start + CHUNK]
            rows = torch.tensor([each.index for each in chunk])
            values, lengths[rows] = self._logps(chunk)
            logps[rows] = values.to(exact)
            on_progress(len(chunk))
        return self._scores(asked, logps, lengths)

    def _scores(self, asked: Sequence["_Asked"], logps: Tensor, lengths: Tensor) -> FollowUpScores:
        """Combine the log-probabilities of the rows that were scored; the others stay not-a-number."""
        rows = torch.tensor([each.index for each in asked], dtype=torch.long)
        numbers = {key: number for number, key in enumerate(dict.fromkeys(each.prompt for each in asked))}
        groups = torch.tensor([numbers[each.prompt] for each in asked], dtype=torch.long)
        values = logps[rows] * lengths[rows] if self.reduction == "sum" else logps[rows]
        combined = self.combine(values, groups)

        def placed(column: Tensor) -> Tensor:
            return column.new_full((len(logps),), torch.nan).index_copy(0, rows, column)

        by_category = {name: placed(column) for name, column in combined.by_category.items()}
        dropped = [0] * len(logps)
        for each in asked:
            dropped[each.index] = each.dropped
        total = placed(combined.total)
        return FollowUpScores(total, by_category, logps, lengths, self.followups.sentences, tuple(dropped))

    def _ask(self, index: int, messages: Sequence[Any], where: Where | None) -> "_Asked":
        """One dialogue as stem and branches; the oldest turns go where the window is too small."""
        turns, dropped = answered_turns(messages, where), 0
        prompt = prompt_key(turns[:-1])
        if self.lm.window is not None:
            turns, dropped = self.chat.fit(turns, self.lm.window, reserve=self._longest, where=where)
        stem, asked = self.chat.follow_ups(turns, self.followups.sentences, where=where)
        return _Asked(index, prompt, turns, branches(stem, *asked), dropped, where)

    @cached_property
    def _longest(self) -> int:
        """Tokens of the longest follow-up with its user header."""
        turns = (Turn("user", "Hello"), Turn("assistant", "Hello."))
        stem, branches_ = self.chat.follow_ups(turns, self.followups.sentences)
        return len(stem) - len(self.chat.prompt_ids(turns[:1])) + max(map(len, branches_))

    def _logps(self, asked: Sequence["_Asked"]) -> tuple[Tensor, Tensor]:
        """Mean log-probability (or released score) and token count of every follow-up to every dialogue."""
        lengths = torch.tensor([[len(node.ids) for node in each.tree.nodes[1:]] for each in asked])
        if self.mode == "legacy_released":
            texts = self.followups.sentences
            values = torch.stack([released_logits(self.lm, self.chat, each.turns, texts) for each in asked])
        else:
            scored = score_trees(self.lm, [each.tree for each in asked], BUDGET)
            values = torch.stack([torch.stack([node.mean() for node in nodes]) for nodes in scored])
        for row, each in zip(values, asked, strict=True):
            if not bool(row.isfinite().all()):
                at = f"{each.where.path}:{each.where.line}: " if each.where else ""
                raise ModelError(f"{at}{self.lm.name} gives not-a-number for the follow-ups to this response")
        return values, lengths


@dataclass(frozen=True, slots=True)
class _Asked:
    """A dialogue ready to be scored: its place in the call, its prompt, and its follow-ups as branches of one tree."""

    index: int
    prompt: str
    turns: Dialogue
    tree: TokenTree
    dropped: int
    where: Where | None


def answered_turns(messages: Sequence[Any], where: Where | None = None) -> Dialogue:
    """Messages, as dictionaries or turns, that end with a response; raises InputError for any others."""
    spelled = [{"role": each.role, "content": each.content} if isinstance(each, Turn) else each for each in messages]
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
        dialogues = [(*rollout.prompt.turns, Turn("assistant", rollout.response)) for rollout in rollouts]
        unscored: dict[int, InputError] = {}
        scores = reward.score(dialogues, where=[rollout.prompt.where for rollout in rollouts], unscored=unscored)
        return [
            Judgement(0.0, valid=False, reason=str(unscored[index])) if index in unscored else judgement
            for index, judgement in enumerate(judgements(scores))
        ]


def judgements(scores: FollowUpScores) -> list[Judgement]:
    """Follow-up scores as judgements, one a response, with the categories as parts."""
    return [
        Judgement(float(reward), parts={name: float(column[row]) for name, column in scores.by_category.items()})
        for row, reward in enumerate(scores.rewards)
    ]
