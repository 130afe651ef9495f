"""The town itself: its questions, answers and conversations, and the oracle that judges them."""

import random
from dataclasses import dataclass

from uptake.errors import InputError
from uptake.town import oracle, users
from uptake.town.answers import right_drafts
from uptake.town.facts import ATTRIBUTES
from uptake.town.faults import FAULTS, Fault
from uptake.town.quality import Quality
from uptake.town.questions import Question, TownSplit, all_questions, questions_about
from uptake.town.vocabulary import vocabulary
from uptake.types import Dialogue, Turn


@dataclass(frozen=True, slots=True)
class Town:
    """A small town whose every fact is known, for conversations with an exact judge.

    `seed` draws the facts (hours, owners, colours, windows, prices, pets, homes), the rumours, which facts are untold,
    and which questions are held out. All methods are deterministic, or draw from the `rng` they are given.
    """

    seed: int = 0

    def questions(self, n: int, seed: int, split: TownSplit) -> list[Question]:
        """Return `n` different questions; raise `InputError` where the split has fewer."""
        every = all_questions(self.seed, split)
        if not 0 <= n <= len(every):
            raise InputError(f"{n} questions asked for", field="n", allowed=f"0 to {len(every)} in split {split!r}")
        return random.Random(seed).sample(every, n)

    def faults(self, question: Question) -> tuple[Fault, ...]:
        """Return the faults an answer to `question` can have."""
        return tuple(fault for fault in FAULTS if fault.applies(self.seed, question))

    def answer(self, question: Question, fault: Fault | None, rng: random.Random) -> str:
        """Answer `question` rightly, or with `fault`; raise `InputError` for a fault it cannot have."""
        draft = rng.choice(right_drafts(self.seed, question))
        if fault is None:
            return draft.text
        if not fault.applies(self.seed, question):
            allowed = ", ".join(other.name for other in self.faults(question))
            raise InputError(f"{fault.name} does not apply to {question.text!r}", field="fault", allowed=allowed)
        return fault.change(self.seed, question, draft, rng).text

    def react(self, dialogue: Dialogue, rng: random.Random) -> str:
        """Say what the user sends next after `dialogue`, which ends with the assistant's answer."""
        return users.react(self.quality(dialogue), rng)

    def conversation(self, rng: random.Random) -> Dialogue:
        """Return a training question, its answer, with each fault as often as it is made, and the user's next line."""
        question = rng.choice(questions_about(self.seed, "train", rng.choice(ATTRIBUTES)))
        draft = rng.choice(right_drafts(self.seed, question))
        for fault in self.faults(question):
            if rng.random() < fault.share:
                draft = fault.change(self.seed, question, draft, rng)
        answered = (Turn("user", question.text), Turn("assistant", draft.text))
        return (*answered, Turn("user", self.react(answered, rng)))

    def quality(self, dialogue: Dialogue) -> Quality:
        """Score the last answer of `dialogue`, whatever its text; raise `InputError` if it answers no town question."""
        return oracle.judge(self.seed, *oracle.last_answer(dialogue))

    def faulty_words(self, dialogue: Dialogue) -> tuple[slice, ...]:
        """Return slices of the last answer: its faulty words, and empty slices where words are missing.

        Where an answer can be mended at one place or another, a later one counts: the first time that something is said
        is no fault, the second is.
        """
        return oracle.faults_in(self.seed, *oracle.last_answer(dialogue))

    def minimal_edit(self, dialogue: Dialogue) -> str:
        """Return the right answer fewest word edits away from the last answer; a right answer returns itself."""
        return oracle.edit(self.seed, *oracle.last_answer(dialogue))

    def vocabulary(self) -> tuple[str, ...]:
        """Return every word and punctuation mark the town can say, sorted; the scoring follow-ups use no others."""
        return vocabulary()
