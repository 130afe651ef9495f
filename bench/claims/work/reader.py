"""The reader: what one can know of faulty words who has seen all texts of the town and reads word by word.

The town is small enough to list: one who has seen many faulty answers to a question, with their edits, says of a word
the mean label of all texts with that beginning, which is what a token reward model tends to. Labels go by the edit that
is the first of equally near right answers, or agrees with the answer for longest; and of equally short alignments by
the one with early or late changes.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from claims.claim import Measured, Options, Trial
from claims.work.town import tested_on
from uptake.datasets.items import minimal
from uptake.evaluate import ScoredTokens, token_reward_metrics
from uptake.ops.alignment import align
from uptake.ops.token_labels import token_labels
from uptake.town import Fault, Question, Town
from uptake.town.edits import distance, shared
from uptake.town.facts import Values
from uptake.town.lines import words
from uptake.town.oracle import right_words

END = "<end>"
# A question in its first phrasing, and an answer.
Case = tuple[Question, str]
Labeled = tuple[Values, tuple[float, ...]]


@dataclass(frozen=True)
class Answers:
    """Faulty answers of the town, and for each the right answers that are fewest words away."""

    town: Town = Town()
    near: dict[Case, Sequence[Values]] = field(default_factory=dict)

    def draw(self, question: Question, fault: Fault, rng: random.Random) -> Case:
        case = replace(question, phrasing=0), self.town.answer(question, fault, rng)
        if case not in self.near:
            right = right_words(self.town.seed, question)
            away = {each: distance(words(case[1]), each) for each in right}
            least = min(away.values())
            self.near[case] = [each for each in right if away[each] == least and minimal(case[1], right[each])]
        return case


@dataclass(frozen=True)
class Rule:
    """Which edit and which alignment labels come from."""

    longest: bool
    late: bool

    def __call__(self, answer: Values, near: Sequence[Values]) -> tuple[Labeled, Labeled]:
        edit = max(near, key=lambda each: shared(answer, each)) if self.longest else near[0]
        labels = token_labels(align((*answer, END), (*edit, END), from_start=self.late))
        return ((*answer, END), labels.old), ((*edit, END), labels.new)


def reader(options: Options, trial: Trial) -> Measured:
    """How well faulty words can be told ("top1", "auroc") by the labels of a rule, from `seen` answers a fault."""
    answers, rng = Answers(), random.Random(trial.seed)
    rule = Rule(options["longest"], options["late"])
    cases = [(question, fault) for question in tested_on(trial.questions) for fault in answers.town.faults(question)]
    drawn = (answers.draw(*case, rng) for case in cases for _ in range(options["seen"]))
    means = _known(Counter(case for case in drawn if answers.near[case]), answers, rule)
    scored: dict[str, list[ScoredTokens]] = defaultdict(list)
    for question, fault in cases:
        case = answers.draw(question, fault, rng)
        if answers.near[case]:
            (text, labels), _ = rule(words(case[1]), answers.near[case])
            rewards = tuple(means.get(each, 0.0) for each in _beginnings(case[0], text))
            scored[question.text].append(ScoredTokens(rewards, labels))
    top1 = {key: token_reward_metrics(rows).top1 for key, rows in scored.items()}
    whole = token_reward_metrics([each for rows in scored.values() for each in rows])
    return Measured(
        {
            "top1": {key: share.rate for key, share in top1.items() if share},
            "auroc": {"": whole.auroc or 0.5},
        },
        {"answers seen": options["seen"] * len(cases)},
    )


def _beginnings(question: Question, text: Values) -> Iterator[Any]:
    return ((question, text[:end]) for end in range(1, len(text) + 1))


def _known(seen: Mapping[Case, int], answers: Answers, rule: Rule) -> Mapping[Any, float]:
    """The mean label of a word by question and text up to it, where every side of an edit has the same weight."""
    sums: dict[Any, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for (question, answer), times in seen.items():
        for text, labels in rule(words(answer), answers.near[question, answer]):
            for beginning, label in zip(_beginnings(question, text), labels, strict=True):
                sums[beginning][0] += times * label / len(labels)
                sums[beginning][1] += times / len(labels)
    return {beginning: total / weight for beginning, (total, weight) in sums.items()}
