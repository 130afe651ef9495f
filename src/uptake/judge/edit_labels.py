"""What edited rows themselves say of every token: from their spans, or from comparing a response with its edit."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from uptake.data.chat import ChatFormat
from uptake.data.edited import read_spans
from uptake.data.response_tokens import ResponseTokens, response_tokens
from uptake.errors import InputError
from uptake.ops.alignment import KEPT, Alignment, align
from uptake.ops.spans import Placed, as_spans, place_labels
from uptake.ops.token_labels import token_labels
from uptake.rollout.edited import COLUMN
from uptake.types import Judgement, Rollout, Span
from uptake.world import World

Unit = Literal["token", "char"]


@dataclass(frozen=True)
class EditLabels:
    """Labels of the rollouts of `EditedRows`, as the `tokens` of their judgements; the score is their sum.

    Spans of a row are placed on its tokens. Where a row has none, the two sides are aligned: removed and replaced
    tokens get -1, new ones +1, and with `anchor` what comes after an omission -1. `unit` says what is compared: token
    ids, or characters, whose labels then go to the tokens that hold them, as they always do where a token joins prompt
    and response. `affine_gap` keeps changes together; `from_start` puts a change that fits in several places in the
    last of them, where a reader who knows only what came before can first tell. `majority` labels only tokens that a
    span covers by more than half. Parts count `kept` tokens of a response and `new` ones of an edit, omissions without
    a token (`anchor_lost`) and whether there was another alignment as good (`ambiguous`).
    """

    unit: Unit = "token"
    anchor: bool = True
    affine_gap: bool = False
    from_start: bool = False
    majority: bool = False

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise InputError(repr(self.unit), field="unit", allowed=", ".join(get_args(Unit)))

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        starts = [place for place, rollout in enumerate(rollouts) if rollout.sample == 0]
        rows = [rollouts[start:stop] for start, stop in zip(starts, [*starts[1:], len(rollouts)], strict=True)]
        return [judgement for row in rows for judgement in self._row(world.chat, row)]

    def _row(self, chat: ChatFormat, sides: Sequence[Rollout]) -> list[Judgement]:
        said: Any = sides[0].prompt.extra[COLUMN]
        if not all(side.response_ids for side in sides):
            return [Judgement(0.0, valid=False, reason="longer than the window, or after other tokens") for _ in sides]
        if said.get("demoted"):
            return [_judgement((0.0,) * len(side.response_ids)) for side in sides]
        tokens = [_tokens(chat, side) for side in sides]
        given = [
            self._placed(read_spans(said[name], side.response, side.prompt.where, name), each) if name in said else None
            for name, side, each in zip(("spans", "edited_spans"), sides, tokens, strict=False)
        ]
        alignment, derived = self._derived(sides, tokens) if None in given else (None, given)
        return _judgements([one or other for one, other in zip(given, derived, strict=True)], alignment)

    def _derived(
        self, sides: Sequence[Rollout], tokens: Sequence[ResponseTokens]
    ) -> tuple[Alignment, list[Placed | None]]:
        """The alignment of the tokens, and the labels of both sides."""
        by_id = self._aligned(*(side.response_ids for side in sides))
        if self.unit == "token" and not any(each.merged for each in tokens):
            labels = token_labels(by_id, anchor=self.anchor)
            return by_id, [Placed(labels.old, labels.anchor_lost), Placed(labels.new)]
        texts = [(*side.response, *([None] if side.finished else [])) for side in sides]
        labels = token_labels(self._aligned(*texts), anchor=self.anchor)
        spans = [
            as_spans(values, [(place, place + 1) for place in range(len(values))], len(side.response))
            for values, side in zip((labels.old, labels.new), sides, strict=True)
        ]
        old, new = (self._placed(part, each) for part, each in zip(spans, tokens, strict=True))
        return by_id, [Placed(old.values, old.lost + labels.anchor_lost), new]

    def _aligned(self, old: Sequence[Hashable], new: Sequence[Hashable]) -> Alignment:
        return align(old, new, affine_gap=self.affine_gap, from_start=self.from_start)

    def _placed(self, spans: Sequence[Span], tokens: ResponseTokens) -> Placed:
        return place_labels(spans, tokens.offsets, majority=self.majority)


def _tokens(chat: ChatFormat, side: Rollout) -> ResponseTokens:
    prompt = side.prompt
    return response_tokens(chat, prompt.turns, side.response, finished=side.finished, where=prompt.where)


def _judgements(placed: Sequence[Placed | None], alignment: Alignment | None) -> list[Judgement]:
    """The judgements of a row: of the response, and of the edit where there is one."""
    old, *more = [each for each in placed if each is not None]
    kept = alignment.old.count(KEPT) if alignment else old.values.count(0)
    parts = {"kept": kept, "anchor_lost": old.lost, "ambiguous": bool(alignment and alignment.ambiguous)}
    judged = [_judgement(old.values, **parts)]
    for new in more:
        changed = len(alignment.new) - alignment.new.count(KEPT) if alignment else sum(each > 0 for each in new.values)
        judged.append(_judgement(new.values, new=changed, anchor_lost=new.lost))
    return judged


def _judgement(labels: Sequence[float], **parts: float) -> Judgement:
    return Judgement(sum(labels), parts={name: float(value) for name, value in parts.items()}, tokens=tuple(labels))
