"""Follow-up likelihood as reward: how likely is it that the user's next line approves of the response?

Source: arXiv 2409.13948. The reward is the mean log-probability of approving follow-ups minus that of disapproving
ones, per category, then averaged over categories. All follow-ups to a response are branches of one token tree, so the
conversation is computed once whatever their number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, final, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from uptake.data.chat import ChatFormat
from uptake.data.role_swap import FollowUpFormat, FormatName, format_for
from uptake.errors import InputError, ModelError
from uptake.follow_up.combine import Combine, Polarity, RewardForm, Standardize
from uptake.follow_up.released import released_logits
from uptake.follow_up.set import FollowUpSet
from uptake.models import LanguageModel, TokenTree, branches, load, score_trees
from uptake.rewards.base import (
    Detail,
    Resources,
    Response,
    Reward,
    RewardDetails,
    RewardSpec,
)
from uptake.rewards.fingerprint import fingerprint
from uptake.rewards.rate import answered_turns, dialogue_of, invalid, where_of
from uptake.types import Dialogue, Judgement, Turn, Where

Reduction = Literal["mean", "sum"]
Prior = Literal["none", "prompt_only"]
ScoreMode = Literal["log_likelihood", "whole_text", "legacy_released"]

# Tokens of one forward call, and dialogues between two signs of progress.
BUDGET = 8192
CHUNK = 16

# The response of a conversation in which only the prompt is left to react to.
_SILENCE = Turn("assistant", "")
_EXCHANGE = (Turn("user", "Hello"), Turn("assistant", "Hello."))


@dataclass(frozen=True)
class FollowUpScores:
    """The rewards of N responses under K follow-ups, with every part they are made of.

    `logps` are mean log-probabilities per token of each follow-up's own words as the next user turn, in nats, columns
    in the order of `followups`, or what the reward's `mode` has in their place; `lengths` are the tokens per follow-up.
    `dropped_turns` counts the oldest turns that did not fit the model's window.
    """

    rewards: Float[Tensor, " responses"]
    by_category: Mapping[str, Float[Tensor, " responses"]]
    logps: Float[Tensor, "responses followups"]
    lengths: Int[Tensor, "responses followups"]
    followups: tuple[str, ...]
    dropped_turns: tuple[int, ...]

    def at(self, rows: Sequence[int]) -> "FollowUpScores":
        """Scores of some of the responses."""
        index = torch.tensor(rows, dtype=torch.long)
        return replace(
            self,
            rewards=self.rewards[index],
            by_category={name: column[index] for name, column in self.by_category.items()},
            logps=self.logps[index],
            lengths=self.lengths[index],
            dropped_turns=tuple(self.dropped_turns[row] for row in rows),
        )


@final
class FollowUpReward(Reward):
    """Follow-up reward: rates responses by what a user would say next, with any causal language model and no labels.

    `reduction` takes the mean (default) or the sum over a follow-up's tokens; `polarity`, `standardize` and `form` say
    how follow-ups become a reward (see `Combine`). `prior="prompt_only"` subtracts what each follow-up has after the
    prompt with an empty response: rewards of different prompts come closer, the ranking under one prompt stays (except
    in the form "full"). `mode="whole_text"` takes the mean over conversation and follow-up, as the released code of FED
    does; `mode="legacy_released"` is what the released code of FLR computes (not a likelihood). Compare rewards of
    responses to one prompt; they mean little across prompts or chat templates.

    `format` says how the model is asked for a follow-up (see `FollowUpFormat`). It follows from the card of a model
    that was tuned on follow-ups; another one is an InputError unless `force` is set.
    """

    parts: ClassVar[Literal["by_category", "by_reward"] | None] = "by_category"

    def __init__(
        self,
        lm: LanguageModel,
        followups: FollowUpSet,
        *,
        reduction: Reduction = "mean",
        polarity: Polarity = "both",
        standardize: Standardize = "none",
        form: RewardForm = "contrast",
        prior: Prior = "none",
        mode: ScoreMode = "log_likelihood",
        chat: ChatFormat | None = None,
        format: FormatName | FollowUpFormat | None = None,
        force: bool = False,
    ) -> None:
        options = (("reduction", reduction, Reduction), ("prior", prior, Prior), ("mode", mode, ScoreMode))
        for name, value, known in options:
            if value not in get_args(known):
                raise InputError(repr(value), field=name, allowed=", ".join(get_args(known)))
        if reduction == "sum" and (form == "full" or mode != "log_likelihood"):
            raise InputError("'sum'", field="reduction", allowed=f"mean, with form {form!r} and mode {mode!r}")
        _check_sides(followups, polarity)
        self.lm, self.followups, self.sentences = lm, followups, followups.sentences
        self.reduction, self.prior, self.mode = reduction, prior, mode
        self.chat = ChatFormat.of(lm) if chat is None else chat
        self.format = format_for(lm.card, format, force=force)
        self.combine = Combine(followups, polarity, standardize, form)

    @classmethod
    def from_pretrained(
        cls, model: str | Path | LanguageModel, followups: str | Path | FollowUpSet | None = None, **options: Any
    ) -> Self:
        """The reward of a Transformers folder, a Hub name or a loaded model; the default follow-ups if none are given.

        `options` are those of the class and, for a model that is to be loaded, of `uptake.load`.
        """
        loading = {name: options.pop(name) for name in ("dtype", "device", "adapter") if name in options}
        chosen = followups if isinstance(followups, FollowUpSet) else FollowUpSet.load(followups)
        lm = model if isinstance(model, LanguageModel) else load(model, **loading)
        return cls(lm, chosen, **options)

    @cached_property
    def fingerprint(self) -> str:
        """A text that differs wherever scores may; a model that learns needs a new reward to be read anew."""
        how = self.combine
        settings = (self.reduction, how.polarity, how.standardize, how.form, self.prior, self.mode, self.format)
        return fingerprint("FollowUpReward", self.lm.model, self.chat, self.followups.fingerprint, *settings)

    @property
    def offers(self) -> frozenset[Detail]:
        return frozenset({"logps"})

    @property
    def compares(self) -> bool:
        return self.combine.standardize != "none"

    @property
    def source(self) -> Mapping[str, str]:
        return {"followups": self.followups.fingerprint}

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        """One judgement a response, with the categories as parts; all responses to a prompt, where it compares them."""
        return [each.judgement for each in self.details(responses)]

    def details(self, responses: Sequence[Response]) -> Sequence[RewardDetails]:
        unscored: dict[int, InputError] = {}
        where = [where_of(response) for response in responses]
        scores = self.score([dialogue_of(response) for response in responses], where=where, unscored=unscored)
        table = scores.logps.tolist()
        return [
            RewardDetails(judgement, logps=tuple(table[row]), dropped_turns=scores.dropped_turns[row])
            for row, judgement in enumerate(_judgements(scores, unscored))
        ]

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
        questions: list[_Question] = []
        for index, (messages, at) in enumerate(zip(dialogues, places, strict=True)):
            try:
                questions.append(self._ask(index, messages, at))
            except InputError as error:
                if unscored is None:
                    raise
                unscored[index] = error
        logps, lengths = self._table([each.context for each in questions], on_progress)
        return self._scores(questions, logps, lengths, len(places))

    def _scores(self, questions: Sequence["_Question"], logps: Tensor, lengths: Tensor, count: int) -> FollowUpScores:
        """Combine the log-probabilities of the rows that were scored; the others are not-a-number."""
        rows = torch.tensor([each.index for each in questions], dtype=torch.long)
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(each.prompt for each in questions))}
        groups = torch.tensor([numbers[each.prompt] for each in questions], dtype=torch.long)
        values = logps - self._prior(questions)[groups] if self.prior == "prompt_only" else logps
        combined = self.combine(values * lengths if self.reduction == "sum" else values, groups)

        def placed(table: Tensor, elsewhere: float = torch.nan) -> Tensor:
            return table.new_full((count, *table.shape[1:]), elsewhere).index_copy(0, rows, table)

        dropped = dict(zip(rows.tolist(), (each.context.dropped for each in questions), strict=True))
        return FollowUpScores(
            placed(combined.total),
            {name: placed(column) for name, column in combined.by_category.items()},
            placed(logps),
            placed(lengths, 0),
            self.sentences,
            tuple(dropped.get(row, 0) for row in range(count)),
        )

    def _prior(self, questions: Sequence["_Question"]) -> Tensor:
        """What every follow-up has where nothing was said, one row a prompt."""
        silent = {each.prompt: each.silent for each in questions}
        return self._table([context for context in silent.values() if context is not None])[0]

    def _ask(self, index: int, messages: Sequence[Any], where: Where | None) -> "_Question":
        turns = answered_turns(messages, where)
        silent = self._context((*turns[:-1], _SILENCE), where) if self.prior == "prompt_only" else None
        return _Question(index, turns[:-1], self._context(turns, where), silent)

    def _context(self, turns: Dialogue, where: Where | None) -> "_Context":
        """One dialogue as stem and branches; the oldest turns go where the window is too small."""
        dropped = 0
        if self.lm.window is not None:
            turns, dropped = self.chat.fit(turns, self.lm.window, self.longest, shape=self.format, where=where)
        turns = self.format(turns)
        stem, follow_ups = self.chat.follow_ups(turns, self.sentences, speaker=self.format.speaker, where=where)
        tree = branches(stem, *follow_ups)
        if self.mode == "whole_text":
            tree = TokenTree((replace(tree.nodes[0], scored=True), *tree.nodes[1:]))
        return _Context(turns, tree, dropped, where)

    @cached_property
    def longest(self) -> int:
        """Tokens that the longest follow-up adds to a conversation, a user header included."""
        turns = self.format(_EXCHANGE)
        stem, branches_ = self.chat.follow_ups(turns, self.sentences, speaker=self.format.speaker)
        (answered,) = self.chat.tokenize([self.chat.text(turns, generation=turns[-1].role == "user")])
        return len(stem) - len(answered) + max(map(len, branches_))

    def _table(
        self, contexts: Sequence["_Context"], on_progress: Callable[[int], None] = lambda done: None
    ) -> tuple[Tensor, Tensor]:
        """Log-probability (or what `mode` has in its place) and token count of every follow-up to every context."""
        shape = len(contexts), len(self.sentences)
        logps = torch.empty(shape, dtype=torch.promote_types(self.lm.dtype, torch.float32))
        lengths = torch.empty(shape, dtype=torch.long)
        for start in range(0, len(contexts), CHUNK):
            rows = slice(start, start + CHUNK)
            lengths[rows] = torch.tensor([[len(node.ids) for node in each.tree.nodes[1:]] for each in contexts[rows]])
            logps[rows] = self._logps(contexts[rows])
            on_progress(len(contexts[rows]))
        return logps, lengths

    def _logps(self, contexts: Sequence["_Context"]) -> Tensor:
        if self.mode == "legacy_released":
            settings = self.sentences, self.format.speaker
            values = torch.stack([released_logits(self.lm, self.chat, each.turns, *settings) for each in contexts])
        else:
            scored = score_trees(self.lm, [each.tree for each in contexts], BUDGET)
            if self.mode == "whole_text":
                scored = [tuple(torch.cat((stem, node)) for node in nodes) for stem, *nodes in scored]
            values = torch.stack([torch.stack([node.mean() for node in nodes]) for nodes in scored])
        for row, each in zip(values, contexts, strict=True):
            if not bool(row.isfinite().all()):
                at = f"{each.where.path}:{each.where.line}: " if each.where else ""
                raise ModelError(f"{at}{self.lm.name} gives not-a-number for the follow-ups to this response")
        return values


@dataclass(frozen=True, slots=True)
class _Context:
    """What stands before a follow-up, as far as it fits the window, with the follow-ups as branches of one tree."""

    turns: Dialogue
    tree: TokenTree
    dropped: int
    where: Where | None


@dataclass(frozen=True, slots=True)
class _Question:
    """A dialogue ready to be scored: its place in the call, its prompt, and the prompt with nothing said, if needed."""

    index: int
    prompt: Dialogue
    context: _Context
    silent: _Context | None


@dataclass(frozen=True)
class FollowUpSpec(RewardSpec):
    """Follow-up reward under the model called `model`, with the options of `FollowUpReward`.

    `followups` is the path of a follow-up set or the name of one that comes with Uptake, by default "default-en".
    """

    followups: str | None = None
    reduction: Reduction = "mean"
    polarity: Polarity = "both"
    standardize: Standardize = "none"
    form: RewardForm = "contrast"
    prior: Prior = "none"
    mode: ScoreMode = "log_likelihood"
    model: str = "follow_up"
    format: FormatName | None = None

    def __post_init__(self) -> None:
        FollowUpSet.load(self.followups)  # what cannot be read is an error here, before a model is loaded

    @property
    def uses(self) -> tuple[str, ...]:
        return (self.model,)

    @property
    def offers(self) -> frozenset[Detail]:
        return frozenset({"logps"})

    def contents(self, resources: Resources) -> Mapping[str, str]:
        return {"followups": FollowUpSet.load(self.followups).fingerprint}

    def build(self, resources: Resources) -> FollowUpReward:
        options = {each.name: getattr(self, each.name) for each in fields(self)}
        model, followups = resources.model(options.pop("model")), options.pop("followups")
        return FollowUpReward.from_pretrained(model, followups, **options)


def _check_sides(followups: FollowUpSet, polarity: Polarity) -> None:
    """Raise InputError where a set has nothing on the only side that counts: every reward would be 0."""
    only = {"positive_only": "positive", "negative_only": "negative"}.get(polarity)
    if only and not any(getattr(category, only) for category in followups.categories):
        problem = f"{polarity!r}, and the set {followups.name!r} has no {only} follow-up"
        raise InputError(problem, field="polarity", allowed="both, or a set with that side")


def _judgements(scores: FollowUpScores, unscored: Mapping[int, InputError]) -> list[Judgement]:
    """Follow-up scores as judgements, one a response, with the categories as parts; `unscored` says why not."""
    return [
        invalid(unscored[row])
        if row in unscored
        else Judgement(float(reward), parts={name: float(column[row]) for name, column in scores.by_category.items()})
        for row, reward in enumerate(scores.rewards)
    ]
