"""What can one who reads word by word know of the faulty words of the town's answers, at most, and from which labels?

    python bench/town_causal_reader.py

The town is small enough to list: a reader who has seen hundreds of faulty answers to every question, with their edits,
says of a word the mean label of all texts with that beginning, which is what a token reward model tends to. The reader
is measured as a model is, by four rules for labels: among equally near right answers the edit is the first of the list
or the one that agrees with the answer for longest, and among equally short alignments changes come early or late.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import fmean
from typing import Any

from _harness import record

from uptake.datasets.items import minimal
from uptake.evaluate import ScoredTokens, token_reward_metrics
from uptake.ops.alignment import align
from uptake.ops.token_labels import token_labels
from uptake.support.progress import progress_bar
from uptake.town import Fault, Question, Town
from uptake.town.edits import distance, shared
from uptake.town.facts import Values
from uptake.town.lines import words
from uptake.town.oracle import right_words

# Answers of every question and fault that the reader has seen, and held-out answers that it is asked about.
SEEN, TEST = 200, 2000
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

    def __call__(self, said: Values, near: Sequence[Values]) -> tuple[Labeled, Labeled]:
        edit = max(near, key=lambda each: shared(said, each)) if self.longest else near[0]
        labels = token_labels(align((*said, END), (*edit, END), from_start=self.late))
        return ((*said, END), labels.old), ((*edit, END), labels.new)


def beginnings(question: Question, text: Values) -> Iterator[Any]:
    return ((question, text[:end]) for end in range(1, len(text) + 1))


def known(seen: Mapping[Case, int], answers: Answers, rule: Rule) -> Mapping[Any, float]:
    """The mean label of a word by question and text up to it, where every side of an edit has the same weight."""
    sums: dict[Any, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for (question, said), times in seen.items():
        for text, labels in rule(words(said), answers.near[question, said]):
            for place, label in zip(beginnings(question, text), labels, strict=True):
                sums[place][0] += times * label / len(labels)
                sums[place][1] += times / len(labels)
    return {place: total / weight for place, (total, weight) in sums.items()}


def measure(
    rule: Rule, seen: Mapping[Case, int], test: Sequence[tuple[Fault, Case]], answers: Answers
) -> dict[str, Any]:
    means = known(seen, answers, rule)
    scored: dict[str, list[ScoredTokens]] = defaultdict(list)
    unseen = []
    for fault, (question, said) in test:
        (text, labels), _ = rule(words(said), answers.near[question, said])
        places = list(beginnings(question, text))
        unseen += [place not in means for place in places]
        rewards = tuple(means.get(place, 0.0) for place in places)
        scored[fault.axis].append(ScoredTokens(rewards, labels))
    every = token_reward_metrics([each for of_axis in scored.values() for each in of_axis])
    by_axis = {axis: token_reward_metrics(of_axis).top1 for axis, of_axis in scored.items()}
    return {
        "edit": "agrees for longest" if rule.longest else "first of the list",
        "changes": "late" if rule.late else "early",
        "top-1": f"{every.top1.rate:.3f}" if every.top1 else "",
        "AUROC": f"{every.auroc:.3f}",
        **{axis: f"{share.rate:.3f}" for axis, share in sorted(by_axis.items()) if share},
        "unseen": f"{fmean(unseen):.3f}",
    }


def main() -> None:
    answers, rng = Answers(), random.Random(0)
    asked = answers.town.questions(432, 0, "train")
    questions = sorted({replace(question, phrasing=0) for question in asked}, key=lambda each: each.text)
    seen: Counter[Case] = Counter()
    with progress_bar("answers", len(questions)) as bar:
        for question in questions:
            drawn = (answers.draw(question, each, rng) for each in answers.town.faults(question) for _ in range(SEEN))
            seen.update(case for case in drawn if answers.near[case])
            bar.advance()
    cases = [(each, fault) for each in answers.town.questions(144, 0, "heldout") for fault in answers.town.faults(each)]
    test: list[tuple[Fault, Case]] = []
    while len(test) < TEST:
        question, fault = rng.choice(cases)
        case = answers.draw(question, fault, rng)
        if answers.near[case]:
            test.append((fault, case))
    rows = [measure(Rule(longest, late), seen, test, answers) for longest, late in product((False, True), repeat=2)]
    claim = f"Faulty words in the town, by one who has seen all texts and reads word by word: {TEST} held-out answers"
    record("town_causal_reader", claim, rows)


if __name__ == "__main__":
    main()
