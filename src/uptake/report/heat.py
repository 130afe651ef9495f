"""Token heat maps: token views laid out as pieces of text, each with how strongly every row colors it.

A piece is the least that can be shown apart: tokens that share a character, or that stand for parts of what a reader
sees as one character, are one piece that keeps the numbers of all of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from math import isfinite

import numpy as np
import regex

from uptake.data import Token, TokenView
from uptake.edits.units import split_words
from uptake.ops.alignment import ADDED, DELETED, UNCHANGED, Alignment, align
from uptake.report.text import number, words
from uptake.report.visible import END, NOTHING, safe, visible
from uptake.types import Dialogue

# The part of the responses in which all numbers are told apart by color; in the others the largest look alike.
TOLD_APART = 0.9
# From this part of the strongest color on, a piece is marked with its sign too.
STRONG = 0.5
_NAMES = {"advantage": "credit"}


@dataclass(frozen=True, slots=True)
class HeatPiece:
    """Piece of a response with its `shade` from -1 to 1, 0 where it has no number; `note` says its numbers in words."""

    text: str
    shade: float
    note: str

    @property
    def strong(self) -> bool:
        """Whether it is marked with its sign, and not by color alone."""
        return abs(self.shade) >= STRONG


@dataclass(frozen=True, slots=True)
class HeatRow:
    """Row of a heat map: one kind of number over the whole response."""

    name: str
    pieces: tuple[HeatPiece, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Stretch of a response beside its edit: `kind` is "kept", "removed" or "added"."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Heat:
    """Heat map of one response: what was asked, one row for every kind of number, and the edit where there is one."""

    title: str
    prompt: Dialogue
    rows: tuple[HeatRow, ...]
    edit: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Heat maps of responses on common scales: `limits` has the magnitude of the strongest color by kind of number."""

    heats: tuple[Heat, ...]
    limits: Mapping[str, float]


def heat_map(views: Sequence[TokenView]) -> HeatMap:
    """Heat map of token views; every kind of number has one scale, centered on 0, for all of them."""
    found = limits(views)
    heats = (Heat(view.title, _prompt(view), _rows(view, found), parts(view.response, view.edited)) for view in views)
    return HeatMap(tuple(heats), {row_name(name): limit for name, limit in found.items()})


def _prompt(view: TokenView) -> Dialogue:
    return tuple(replace(turn, content=safe(turn.content)) for turn in view.prompt)


def limits(views: Iterable[TokenView]) -> dict[str, float]:
    """Limits of the color scale: the magnitude that gets the strongest color, by the name of the row.

    It is one that the largest of a response seldom exceeds, so that neither a response with an outlier bleaches the
    others nor the noise of good tokens looks like much where bad ones are rare.
    """
    largest: dict[str, list[float]] = {}
    for view in views:
        for name, numbers in view.values.items():
            largest.setdefault(name, []).append(max(map(abs, _known(numbers)), default=0.0))
    return {name: float(np.quantile(found, TOLD_APART)) or max(found) or 1.0 for name, found in largest.items()}


def row_name(name: str) -> str:
    """Heading of a row: an advantage is the credit of a token."""
    return _NAMES.get(name, words(name))


def cut(view: TokenView) -> Iterator[tuple[str, slice]]:
    """Pieces of a response as they are shown, each with its tokens."""
    ends = {match.end() for match in regex.finditer(r"\X", view.response)} | {0}
    start = shown = 0
    for at, (token, after) in enumerate(zip_longest(view.tokens, view.tokens[1:]), 1):
        if after is not None and (token.end not in ends or _same_offsets(token, after)):
            continue
        special = (each.special for each in view.tokens[start:at])
        marks = END if after is None and token.special else "".join(special)
        yield visible(view.response[shown : token.end]) + marks or NOTHING, slice(start, at)
        start, shown = at, token.end


def _same_offsets(one: Token, other: Token) -> bool:
    """Whether two tokens are parts of one character."""
    return (one.start, one.end) == (other.start, other.end) and not (one.special or other.special)


def parts(response: str, edited: str | None) -> tuple[Part, ...]:
    """Parts of a response and its edit as one text, word by word: what was kept, removed and added."""
    if edited is None:
        return ()
    old, new = split_words(response), split_words(edited)
    olds, news = iter(old), iter(new)
    found: list[Part] = []
    for equal, run in groupby(align_words(old, new).ops, key=lambda op: op == UNCHANGED):
        pairs = [(next(olds) if op != ADDED else "", next(news) if op != DELETED else "") for op in run]
        removed, added = ("".join(side) for side in zip(*pairs, strict=True))
        # A word that comes first in one of the texts has a blank before it in the other.
        both = "".join(max(pair, key=len) for pair in pairs)
        found += [Part(both, "kept")] if equal else [Part(removed, "removed"), Part(added, "added")]
    return tuple(Part(_shown(part), part.kind) for part in found if part.text)


def _shown(part: Part) -> str:
    """Changed blanks are all that is to be seen of such a change."""
    return safe(part.text) if part.kind == "kept" or part.text.strip() else visible(part.text)


def align_words(old: Sequence[str], new: Sequence[str], ends: tuple[bool, bool] = (False, False)) -> Alignment:
    """Alignment of words, one blank before a word aside; `ends` says which side has an end of the turn."""
    sides = ([word.removeprefix(" ") for word in side] for side in (old, new))
    one, other = ([*side, *[None] * end] for side, end in zip(sides, ends, strict=True))
    return align(one, other)


def _rows(view: TokenView, scales: Mapping[str, float]) -> tuple[HeatRow, ...]:
    pieces = list(cut(view))
    notes = [_note(view, *piece) for piece in pieces]
    return tuple(
        HeatRow(
            row_name(name),
            tuple(
                HeatPiece(text, _shade(numbers[tokens], scales[name]), note)
                for (text, tokens), note in zip(pieces, notes, strict=True)
            ),
        )
        for name, numbers in view.values.items()
    )


def _shade(numbers: Sequence[float | None], limit: float) -> float:
    """The strongest of some numbers on a scale from -1 to 1; of equally strong ones, the negative."""
    strongest = min(_known(numbers), key=lambda each: (-abs(each), each), default=0.0)
    return round(max(-1.0, min(1.0, strongest / limit)), 3)


def _known(numbers: Iterable[float | None]) -> list[float]:
    return [each for each in numbers if each is not None and isfinite(each)]


def _note(view: TokenView, text: str, tokens: slice) -> str:
    """The numbers of a piece in words: "cat, token 3 of 12: reward -0.90, credit -0.85"."""
    first, last = tokens.start + 1, tokens.stop
    span = f"token {first}" if first == last else f"tokens {first} to {last}"
    rows = (f"{row_name(name)} {' '.join(map(_signed, numbers[tokens]))}" for name, numbers in view.values.items())
    return f"{text.strip()}, {span} of {len(view.tokens)}: {', '.join(rows)}"


def _signed(value: float | None) -> str:
    if value is None:
        return "none"
    return ("+" if value > 0 else "") + number(float(value))
