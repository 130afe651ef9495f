"""Edit labels: what edited rows say of every token, from their spans or from comparing a response with its edit."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from uptake.data.response_tokens import ResponseTokens
from uptake.errors import InputError
from uptake.ops.alignment import UNCHANGED, Alignment, align
from uptake.ops.spans import Placed, as_spans, place_labels
from uptake.ops.token_labels import token_labels
from uptake.types import Edited, Span

Unit = Literal["token", "char"]

# Labels of the tokens of a response and, where there is one, of its edit.
SideLabels = list[tuple[float, ...]]


class EditCounts(NamedTuple):
    """Counts over edited rows: tokens of responses that are kept, tokens of edits that are new, and two doubts.

    `anchor_lost` are omissions without a token to stand at, `ambiguous` rows with another alignment as good.
    """

    unchanged: int = 0
    new: int = 0
    anchor_lost: int = 0
    ambiguous: int = 0

    def plus(self, other: "EditCounts") -> "EditCounts":
        return EditCounts(*map(sum, zip(self, other, strict=True)))


@dataclass(frozen=True)
class EditLabels:
    """Labels of the tokens of an edited row, from -1 (wrong) to 1 (better).

    Spans of a row are placed on its tokens. Where a row has none, the two sides are aligned: removed and replaced
    tokens get -1, new ones +1, and with `anchor` what comes after an omission -1. `unit` says what is compared: token
    ids, or characters, whose labels then go to the tokens that hold them, as they always do where a token joins prompt
    and response. `affine_gap` keeps changes together; `from_start` puts a change that fits in several places in the
    last of them, where a reader who knows only what came before can first tell. `majority` labels only tokens that a
    span covers by more than half. All labels of a demoted row are 0, and it counts nothing.
    """

    unit: Unit = "token"
    anchor: bool = True
    affine_gap: bool = False
    from_start: bool = False
    majority: bool = False

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise InputError(repr(self.unit), field="unit", allowed=", ".join(get_args(Unit)))

    def __call__(self, row: Edited, sides: Sequence[ResponseTokens]) -> tuple[SideLabels, EditCounts]:
        """The labels of every side, of which the first is the response, with what was counted on the way."""
        if row.demoted:
            return [(0.0,) * len(side.ids) for side in sides], EditCounts()
        spans = (row.spans, row.edited_spans)[: len(sides)]
        given = [None if of is None else self._placed(of, side) for of, side in zip(spans, sides, strict=True)]
        if None not in given:
            return _counted([each for each in given if each is not None], None)
        alignment, derived = self._derived(row, sides)
        placed = [other if one is None else one for one, other in zip(given, derived, strict=True)]
        return _counted(placed, alignment)

    def _derived(self, row: Edited, sides: Sequence[ResponseTokens]) -> tuple[Alignment, list[Placed]]:
        """The alignment of the tokens, and the labels of both sides."""
        by_id = self._aligned(*(side.ids for side in sides))
        if self.unit == "token":
            labels = token_labels(by_id, anchor=self.anchor)
            return by_id, [Placed(labels.old, labels.anchor_lost), Placed(labels.new)]
        old_text, new_text = row.response, row.edited or ""
        # The end of the turn is compared too: an edit always has one.
        labels = token_labels(
            self._aligned((*old_text, *([None] if row.finished else [])), (*new_text, None)), anchor=self.anchor
        )
        old, new = (
            self._placed(as_spans(values, [(at, at + 1) for at in range(len(values))], len(text)), side)
            for values, text, side in zip((labels.old, labels.new), (old_text, new_text), sides, strict=True)
        )
        return by_id, [Placed(old.values, old.lost + labels.anchor_lost), new]

    def _aligned(self, old: Sequence[Hashable], new: Sequence[Hashable]) -> Alignment:
        return align(old, new, affine_gap=self.affine_gap, from_start=self.from_start)

    def _placed(self, spans: Sequence[Span], tokens: ResponseTokens) -> Placed:
        return place_labels(spans, tokens.offsets, majority=self.majority)


def _counted(placed: Sequence[Placed], alignment: Alignment | None) -> tuple[SideLabels, EditCounts]:
    """The labels of a response and, where there is one, of its edit, with their counts."""
    old, *more = placed
    unchanged = alignment.old.count(UNCHANGED) if alignment else old.values.count(0)
    lost = sum(each.lost for each in placed)
    new = sum(
        len(alignment.new) - alignment.new.count(UNCHANGED) if alignment else sum(value > 0 for value in each.values)
        for each in more
    )
    return [each.values for each in placed], EditCounts(
        unchanged, new, lost, int(bool(alignment and alignment.ambiguous))
    )
