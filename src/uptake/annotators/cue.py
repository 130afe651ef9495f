"""Cue of a judge in the form that the model takes: the text that an answer of 1 or 2 continues.

Tokenizers and habits differ in what comes between a cue and an answer. One joins a blank with the digit, another makes
the blank a token of its own, which is then the likeliest to come next, so that neither answer has a chance; some models
answer at the beginning of their turn only. A few questions that no figure uses tell which form a model takes.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from uptake.annotators.question import CHOICES, Instructions
from uptake.data.chat import ChatFormat
from uptake.data.spans import Ids, shared
from uptake.data.template import begins_texts
from uptake.errors import ModelError
from uptake.models import LanguageModel, Node, TokenTree, score_trees
from uptake.types import Prompt, Turn

log = logging.getLogger(__name__)

# Tokens of one forward call.
BUDGET = 4096

_NEUTRAL = (
    ("How do I keep cut flowers fresh?", "Trim the stems and change the water often.", "Flowers make seeds."),
    ("What is seven times eight?", "I like numbers.", "Seven times eight is 56."),
    ("My bicycle squeaks. What should I do?", "Clean the chain and oil it.", "Bicycles have two wheels."),
    ("Which language do people speak in Brazil?", "People speak many.", "Most of them speak Portuguese."),
)


@dataclass(frozen=True, slots=True)
class CueForm:
    """Form of a cue: what stands between it and the answer, and whose turn it ends or begins.

    `gap` takes the place of the blanks at the cue's end; None leaves the cue as it stands. In the user's turn the cue
    is the last line of the question, and the gap begins the answer.
    """

    gap: str | None = None
    in_user_turn: bool = False

    def __str__(self) -> str:
        gaps = {None: "as it stands", "": "without a blank", " ": "with a blank", "\n": "with a line break"}
        return gaps[self.gap] + (" after the user's turn" if self.in_user_turn else "")

    def text(self, chat: ChatFormat, question: str, cue: str) -> str:
        """All that stands before the answer to a question, as text for `ChatFormat.tokenize`."""
        cue, gap = (cue, "") if self.gap is None else (cue.rstrip(), self.gap)
        if self.in_user_turn:
            return chat.text((Turn("user", f"{question}\n{cue}"),), generation=True) + gap
        if not chat.plain:
            return chat.text((Turn("user", question),), generation=True) + cue + gap
        begin = chat.tokenizer.bos_token if begins_texts(chat.tokenizer) else ""
        return f"{begin}{chat.escape(question)}\n{cue}{gap}"


AS_IT_STANDS = CueForm()
_GAPS = ("", " ", "\n")
FORMS = (*map(CueForm, _GAPS), *(CueForm(gap, in_user_turn=True) for gap in _GAPS))


@dataclass(frozen=True)
class FittedCue:
    """Cue in the form that a model takes, with the ids of both answers after it.

    `mass` is the probability that both answers together hold, as a mean over neutral questions in both orders; None
    where none of them fits the model's window.
    """

    form: CueForm
    answers: Ids
    mass: float | None


# A run builds its judge anew for every round.
_fitted: WeakKeyDictionary[LanguageModel, dict[tuple[Instructions, float], FittedCue]] = WeakKeyDictionary()


def fit_cue(lm: LanguageModel, chat: ChatFormat, instructions: Instructions, min_share: float) -> FittedCue:
    """The cue of some instructions as a model takes it.

    As it stands where 1 and 2 hold `min_share` of the probability after it; else in the form in which they hold most.
    A warning tells of another form, and of a model that takes none, with what it would rather say. Raises ModelError
    where 1 and 2 are single tokens that differ in no form.
    """
    known = _fitted.setdefault(lm, {})
    if (instructions, min_share) not in known:
        known[instructions, min_share] = _fit(lm, chat, instructions, min_share)
    return known[instructions, min_share]


def answer_tree(rows: Sequence[Ids], answers: Sequence[Ids]) -> TokenTree:
    """The rows as branches of what they begin with alike, each with its answers as scored leaves."""
    stem = min(*(shared(rows[0], row) for row in rows), *(len(row) - 1 for row in rows))  # so that no branch is empty
    nodes = [Node(rows[0][:stem], scored=False)]
    for row, some in zip(rows, answers, strict=True):
        nodes.append(Node(row[stem:], 0, scored=False))
        branch = len(nodes) - 1
        nodes.extend(Node((answer,), branch) for answer in some)
    return TokenTree(tuple(nodes))


def likeliest(lm: LanguageModel, ids: Sequence[int], count: int, besides: Ids) -> list[tuple[str, float]]:
    """The likeliest tokens after some ids, `besides` others, as texts with their probabilities."""
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([ids], device=lm.device)).logits[0, -1]
    top = logits.double().softmax(-1).topk(count + len(besides))
    found = [(int(index), float(p)) for p, index in zip(*top, strict=True) if int(index) not in besides]
    return [(str(lm.tokenizer.decode([index])), p) for index, p in found[:count]]


def _fit(lm: LanguageModel, chat: ChatFormat, instructions: Instructions, min_share: float) -> FittedCue:
    first = _cues(lm, chat, instructions, (AS_IT_STANDS,))
    if first and (first[0].mass is None or first[0].mass >= min_share):
        return first[0]
    others = _cues(lm, chat, instructions, [form for form in FORMS if not (chat.plain and form.in_user_turn)])
    if not (first or others):
        raise ModelError(_no_answers(lm, chat, instructions))
    best = max((*first, *others), key=lambda cue: cue.mass or 0.0)
    told = f"{lm.name}: after the cue {instructions.cue!r} "
    if (best.mass or 0.0) < min_share:
        row = _rows(chat, instructions, best.form)[0]
        rather = ", ".join(f"{token!r} ({p:.0%})" for token, p in likeliest(lm, row, 5, best.answers))
        log.warning(
            "%s1 and 2 hold %.0f%% of the probability at most, %s; it would rather say %s",
            *(told, 100 * (best.mass or 0.0), best.form, rather),
        )
    else:
        before = f"{first[0].mass:.0%} as it stands, " if first else ""
        log.warning("%s1 and 2 hold %s%.0f%% %s, which is taken", told, before, 100 * (best.mass or 0.0), best.form)
    return best


def _cues(lm: LanguageModel, chat: ChatFormat, instructions: Instructions, forms: Sequence[CueForm]) -> list[FittedCue]:
    """The cue in each of the forms after which the answers are tokens, with the mass that they have there."""
    ids = {form: _answers(lm, chat, instructions, form) for form in forms}
    answers = {form: both for form, both in ids.items() if both is not None}
    rows = [_rows(chat, instructions, form) for form in answers]
    trees = [answer_tree(some, tuple(answers.values())) for some in zip(*rows, strict=True)]
    fitting = [tree for tree in trees if lm.window is None or _depth(tree) <= lm.window]
    shares = [torch.cat(logps).double().reshape(-1, 2).exp().sum(1) for logps in score_trees(lm, fitting, BUDGET)]
    if not all(bool(share.isfinite().all()) for share in shares):
        raise ModelError(f"{lm.name} gives not-a-number for an answer of 1 or 2")
    masses = torch.stack(shares).mean(0).tolist() if shares else [None] * len(answers)
    return [FittedCue(form, both, mass) for (form, both), mass in zip(answers.items(), masses, strict=True)]


def _depth(tree: TokenTree) -> int:
    return len(tree.nodes[0].ids) + max(len(node.ids) for node in tree.nodes[1:]) + 1


def _rows(chat: ChatFormat, instructions: Instructions, form: CueForm) -> list[Ids]:
    """Each neutral question in both orders, up to the answer."""
    return [ids[:-1] for ids in chat.tokenize([text + CHOICES[0] for text in _texts(chat, instructions, form)])]


def _texts(chat: ChatFormat, instructions: Instructions, form: CueForm) -> list[str]:
    questions = [
        instructions(Prompt((Turn("user", request),), key=""), *order)
        for request, first, second in _NEUTRAL
        for order in ((first, second), (second, first))
    ]
    return [form.text(chat, question, instructions.cue) for question in questions]


def _answers(lm: LanguageModel, chat: ChatFormat, instructions: Instructions, form: CueForm) -> Ids | None:
    """The one id of each answer; every question ends alike, so they are the same after all of them."""
    text = _texts(chat, instructions, form)[0]
    one, two = chat.tokenize([text + choice for choice in CHOICES])
    return None if one[:-1] != two[:-1] or one[-1] == two[-1] else (one[-1], two[-1])


def _no_answers(lm: LanguageModel, chat: ChatFormat, instructions: Instructions) -> str:
    text = _texts(chat, instructions, AS_IT_STANDS)[0]
    ends = [lm.tokenizer.convert_ids_to_tokens(list(chat.tokenize([text + each])[0][-3:])) for each in CHOICES]
    return (
        f"{lm.name}: after the cue {instructions.cue!r}, 1 and 2 are not single tokens that differ: "
        f"the texts end with {ends[0]} and {ends[1]}"
    )
