"""Rules of a minimal edit on the two texts, each with the code of its refusal."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from uptake.edits.canonical import canonical
from uptake.edits.edit import Checked, ComparisonReason, Draft
from uptake.edits.runs import aligned
from uptake.edits.units import Units, Words
from uptake.errors import InputError
from uptake.types import MAX_EDIT_RATIO


@dataclass(frozen=True)
class Rules:
    """An edit is minimal where it is not empty, not the response itself, of like length, and changes little.

    At most `max_edit_ratio` of the units may change (substituted, deleted and added ones over the units of the longer
    text), and the edit has from `min_length` to `max_length` times the response's units. Where `block` or more units in
    a row only moved elsewhere the reason is "moved". Raises InputError for a setting out of its range.
    """

    max_edit_ratio: float = MAX_EDIT_RATIO
    min_length: float = 0.5
    max_length: float = 2.0
    block: int = 8
    units: Units = Words()

    def __post_init__(self) -> None:
        for name, right, allowed in (
            ("max_edit_ratio", 0 < self.max_edit_ratio <= 1, "more than 0, at most 1"),
            ("min_length", 0 <= self.min_length <= 1, "0 to 1"),
            ("max_length", self.max_length >= 1, "1 or more"),
            ("block", self.block >= 2, "a whole number from 2"),
        ):
            if not right:
                raise InputError(f"{getattr(self, name)}", field=name, allowed=allowed)

    @property
    def fingerprint(self) -> str:
        limits = self.max_edit_ratio, self.min_length, self.max_length, self.block
        return f"Rules{(*limits, self.units.fingerprint)}"

    def __call__(self, draft: Draft, edited: str) -> Checked:
        """The edit in the response's spelling, compared with the response; raises as the units do.

        The length is looked at before the ratio: a text of less than half or more than twice the length has always a
        ratio above one half, and what is so short or long is no good edit of the whole either.
        """
        text = canonical(draft.response, edited)
        if not text.strip():
            return Checked(text, "empty")
        if text == draft.response:
            return Checked(text, "no_edit")
        old, new = (self.units(draft.prompt, each, draft.finished) for each in (draft.response, text))
        alignment = aligned(old, new)
        ratio = alignment.distance / max(len(old), len(new), 1)
        length = len(new) / max(len(old), 1)
        reason = self._reason(old, new, alignment.ops, ratio, length)
        return Checked(text, reason, alignment.ops, ratio, length, alignment.ambiguous)

    def _reason(
        self, old: Sequence[Hashable], new: Sequence[Hashable], ops: str, ratio: float, length: float
    ) -> ComparisonReason:
        if not ratio:
            return "no_edit"
        if not self.min_length <= length <= self.max_length:
            return "length"
        if has_moved(old, new, ops, self.block):
            return "moved"
        return "ratio" if ratio > self.max_edit_ratio else ""


def has_moved(old: Sequence[Hashable], new: Sequence[Hashable], ops: str, block: int) -> bool:
    """Whether `block` units in a row stand in both texts and count as removed here and as added there.

    An alignment may keep a unit in the midst of them by chance, so more than half must count so.
    """
    removed = [op in "SD" for op in ops if op != "A"]
    added = [op in "SA" for op in ops if op != "D"]
    places = defaultdict(list)
    for at in range(len(new) - block + 1):
        if 2 * sum(added[at : at + block]) > block:
            places[tuple(new[at : at + block])].append(at)
    return any(
        2 * sum(removed[at : at + block]) > block and tuple(old[at : at + block]) in places
        for at in range(len(old) - block + 1)
    )
