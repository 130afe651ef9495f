"""A language model as annotator: which of two responses does it prefer, read off its next-token probabilities?

Source: arXiv 2402.04792, after the zero-shot prompts of RLAIF. The model is shown the responses in both orders, so that
what it thinks of first places cancels. Both orders are branches of one token tree: instructions and prompt are computed
once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, final, get_args

import torch
from torch import Tensor

from uptake.annotators.base import Annotator, AnnotatorSpec
from uptake.annotators.cue import AS_IT_STANDS, BUDGET, FittedCue, answer_tree, fit_cue, likeliest
from uptake.annotators.order import OrderAverage, average_orders
from uptake.annotators.question import CHOICES, Instructions
from uptake.data.chat import ChatFormat
from uptake.errors import InputError, ModelError
from uptake.models import LanguageModel, TokenTree, load, score_trees
from uptake.rewards.base import Resources
from uptake.rewards.fingerprint import fingerprint
from uptake.types import Dropped, Prompt, Verdict


@final
@dataclass(frozen=True, eq=False)
class LLMJudge(Annotator):
    """Language model annotator: prefers one of two responses with any causal language model and no labels.

    P(the first is better) is the softmax over the log-probabilities of "1" and "2" right after the cue, read once in
    each order and averaged: `order_average="prob"` takes the mean of the probabilities, "logit" that of their logits. A
    chat model gets the instructions as the user's turn and the cue as the beginning of its own; a model without a chat
    template gets one text. Equal responses are even at no cost. A pair is invalid where it is longer than the model's
    window, and where "1" and "2" hold less than `min_share` of the probability in either order: the model was about to
    say something else. Where they do so after a cue as it stands, `cue` has the form in which they hold most; see
    `fit_cue`. Raises InputError for a setting out of its range and ModelError where the tokenizer has no token of its
    own for either answer.
    """

    lm: LanguageModel
    instructions: Instructions
    order_average: OrderAverage = "prob"
    min_share: float = 0.5

    def __post_init__(self) -> None:
        if self.order_average not in get_args(OrderAverage):
            allowed = ", ".join(get_args(OrderAverage))
            raise InputError(repr(self.order_average), field="order_average", allowed=allowed)
        if not 0 <= self.min_share <= 1:
            raise InputError(f"{self.min_share}", field="min_share", allowed="a number from 0 to 1")
        self.cue  # noqa: B018 - what no answer can follow is an error here

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | LanguageModel,
        instructions: str | Path | Instructions | None = None,
        *,
        order_average: OrderAverage = "prob",
        min_share: float = 0.5,
        **loading: Any,
    ) -> Self:
        """The judge of a Transformers folder, a Hub name or a loaded model; `instructions` name a preset or a file.

        `loading` are the options of `uptake.load` (device, dtype, adapter) for a model that is to be loaded.
        """
        loaded = instructions if isinstance(instructions, Instructions) else Instructions.load(instructions)
        lm = model if isinstance(model, LanguageModel) else load(model, **loading)
        return cls(lm, loaded, order_average, min_share)

    @cached_property
    def fingerprint(self) -> str:
        settings = self.instructions.fingerprint, self.order_average, self.min_share
        form = () if self.cue.form == AS_IT_STANDS else (self.cue.form,)
        return fingerprint("LLMJudge", self.lm.model, self.chat, *settings, *form)

    @cached_property
    def chat(self) -> ChatFormat:
        return ChatFormat.of(self.lm)

    @cached_property
    def cue(self) -> FittedCue:
        return fit_cue(self.lm, self.chat, self.instructions, self.min_share)

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        """One verdict for every prompt with its two responses; raises ModelError where the model gives not-a-number."""
        trees = [
            None if first == second else self._tree(prompt, first, second)
            for prompt, (first, second) in zip(prompts, pairs, strict=True)
        ]
        scored = iter(score_trees(self.lm, [tree for tree in trees if tree and self._fits(tree)], BUDGET))
        return [self._verdict(tree, next(scored) if tree and self._fits(tree) else ()) for tree in trees]

    def _verdict(self, tree: TokenTree | None, answers: Sequence[Tensor]) -> Verdict:
        """What the log-probabilities of the four answers say: 1 and 2 in one order, 1 and 2 in the other."""
        if tree is None:
            return Verdict(0.5, (0.5, 0.5))
        if not answers:
            return Verdict(0.5, (0.5, 0.5), Dropped.TOO_LONG)
        logps = torch.cat(tuple(answers)).double().reshape(2, 2)
        if not bool(logps.isfinite().all()):
            raise ModelError(f"{self.lm.name} gives not-a-number for an answer of 1 or 2")
        shares = logps.logsumexp(1).exp()
        if float(shares.min()) < self.min_share:
            detail = f"about to say {self._rather(tree, int(shares.argmin()))!r}, neither 1 nor 2"
            return Verdict(0.5, (0.5, 0.5), Dropped.NO_CHOICE, detail, len(tree))
        table = logps.softmax(1)
        by_order = float(table[0, 0]), float(table[1, 1])
        return Verdict(average_orders(*by_order, self.order_average), by_order, tokens=len(tree))

    def _rather(self, tree: TokenTree, order: int) -> str:
        """The likeliest token in one of the two orders, besides the answers."""
        stem, one, _, _, other, _, _ = (node.ids for node in tree.nodes)
        ((text, _),) = likeliest(self.lm, [*stem, *(one, other)[order]], 1, self.cue.answers)
        return text

    def _fits(self, tree: TokenTree) -> bool:
        stem, one, _, _, other, _, _ = (len(node.ids) for node in tree.nodes)
        return self.lm.window is None or stem + max(one, other) + 1 <= self.lm.window

    def _tree(self, prompt: Prompt, first: str, second: str) -> TokenTree:
        """What both orders begin with alike, and after it each order with the two answers to it."""
        questions = self.instructions(prompt, first, second), self.instructions(prompt, second, first)
        texts = [self.cue.form.text(self.chat, question, self.instructions.cue) + CHOICES[0] for question in questions]
        rows = [ids[:-1] for ids in self.chat.tokenize(texts)]
        return answer_tree(rows, (self.cue.answers, self.cue.answers))


@dataclass(frozen=True)
class LLMJudgeSpec(AnnotatorSpec):
    """Language model annotator: the model called `model` as judge; `instructions` name a preset or a file."""

    instructions: str = "helpfulness"
    order_average: OrderAverage = "prob"
    min_share: float = 0.5
    model: str = "judge"

    short: ClassVar[tuple[str, ...]] = ("model",)
    both_orders: ClassVar[bool] = True
    plain: ClassVar[str] = "it reads instructions and cue as one text"

    def __post_init__(self) -> None:
        Instructions.load(self.instructions)  # what cannot be read is an error here, before a model is loaded

    @property
    def uses(self) -> tuple[str, ...]:
        return (self.model,)

    def contents(self, resources: Resources) -> Mapping[str, str]:
        return {"instructions": Instructions.load(self.instructions).fingerprint}

    def build(self, resources: Resources) -> LLMJudge:
        options: dict[str, Any] = {"order_average": self.order_average, "min_share": self.min_share}
        return LLMJudge.from_pretrained(resources.model(self.model), self.instructions, **options)
