"""Edits in the spelling of the response: what cannot be seen, or is a matter of typing, is no edit.

Editors swap quotes, blanks and line ends without being asked. Both texts are folded for comparison only; wherever they
agree then, the response's own characters stand in the result.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from unicodedata import category, normalize

import regex

from uptake.edits.joiners import JOINERS, SEEN_JOINER
from uptake.edits.runs import runs

_SINGLE = "\u2018\u2019\u201a\u201b\u2039\u203a"
_DOUBLE = "\u201c\u201d\u201e\u201f\u00ab\u00bb"
_NO_BREAK = "\u00a0\u2007\u202f"
_PLAIN = str.maketrans(
    dict.fromkeys(_SINGLE, "'") | dict.fromkeys(_DOUBLE, '"') | dict.fromkeys(_NO_BREAK, " ") | {"\r": "\n"}
)
# What is not seen: zero-width characters, and blanks before a line's end or at either end of the text.
_UNSEEN = rf"(?!{SEEN_JOINER})[\u200b\u2060\ufeff{JOINERS}]"
_GAP = regex.compile(
    rf"\A(?:\s|{_UNSEEN})+|(?:\s|{_UNSEEN})+\Z|(?:[ \t{_NO_BREAK}]|{_UNSEEN})+(?=\r?\n)|(?:{_UNSEEN})+"
)
# Letters of Korean that one syllable is spelled with, else a line end or a character.
_BASE = re.compile(r"\r\n|[\u1100-\u115f]+[\u1160-\u11a7]*[\u11a8-\u11ff]*|.", re.DOTALL)


def canonical(response: str, edited: str) -> str:
    """`edited` with the response's own form where Unicode form, blanks, quotes or line ends are all that differs.

    Composed and decomposed letters, no-break blanks, quotes, CRLF, zero-width characters, and blanks at the end of a
    line or around the text count as the same; case does not, nor do joiners where they are seen.
    """
    old, new = _folded(response), _folded(edited)
    pairs = dict(_matches([atom.folded for atom in old.atoms], [atom.folded for atom in new.atoms]))
    parts = [old.lead]
    for index, atom in enumerate(new.atoms):
        same = pairs.get(index)
        parts.append(atom.raw if same is None else old.atoms[same].raw)
        # Between two characters that both texts have side by side, what is not seen is the response's.
        together = same is not None and pairs.get(index + 1) == same + 1
        parts.append(old.atoms[same].gap if together and same is not None else atom.gap)
    return "".join(parts).removesuffix(new.trail) + old.trail if new.atoms else ""


@dataclass(frozen=True, slots=True)
class _Atom:
    """A visible character with its marks, as compared and as written, and the unseen after it."""

    folded: str
    raw: str
    gap: str


@dataclass(frozen=True, slots=True)
class _Folded:
    """The visible characters of a text, after the unseen at its beginning."""

    lead: str
    atoms: Sequence[_Atom]

    @property
    def trail(self) -> str:
        return self.atoms[-1].gap if self.atoms else ""


def _folded(text: str) -> _Folded:
    lead, atoms = "", list[_Atom]()
    for raw, unseen in _raws(text):
        if not unseen:
            atoms.append(_Atom(normalize("NFC", raw).replace("\r\n", "\n").translate(_PLAIN), raw, ""))
        elif atoms:
            atoms[-1] = replace(atoms[-1], gap=raw)
        else:
            lead = raw
    return _Folded(lead, atoms)


def _raws(text: str) -> Iterator[tuple[str, bool]]:
    """The text from left to right in characters with their marks, and stretches that are not seen."""
    at = 0
    for gap in _GAP.finditer(text):
        yield from ((raw, False) for raw in _characters(text[at : gap.start()]))
        yield gap[0], True
        at = gap.end()
    yield from ((raw, False) for raw in _characters(text[at:]))


def _characters(text: str) -> Iterator[str]:
    raw = ""
    for base in _BASE.findall(text):
        if raw and category(base[0]).startswith("M"):
            raw += base
            continue
        if raw:
            yield raw
        raw = base
    if raw:
        yield raw


def _matches(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places in `new` with the place of the same character in `old`: by whole words, then within what they leave."""
    starts, others = _starts(old), _starts(new)
    for equal, mine, theirs in runs(_words(old, starts), _words(new, others)):
        here = range(starts[mine.start], starts[mine.stop])
        there = range(others[theirs.start], others[theirs.stop])
        if equal:
            yield from zip(there, here, strict=True)
            continue
        for same, one, other in runs(old[here.start : here.stop], new[there.start : there.stop]):
            if same:
                yield from zip(there[other.start : other.stop], here[one.start : one.stop], strict=True)


def _starts(atoms: Sequence[str]) -> list[int]:
    """Where words begin, runs of letters and digits with the blank before, and single others; at last the end."""
    letters = [atom[:1].isalnum() or atom[:1] in JOINERS for atom in atoms]
    inside = (
        index and letters[index] and (letters[index - 1] or atoms[index - 1] == " ") for index in range(len(atoms))
    )
    return [*(index for index, within in enumerate(inside) if not within), len(atoms)]


def _words(atoms: Sequence[str], starts: Sequence[int]) -> list[tuple[str, ...]]:
    return [tuple(atoms[start:end]) for start, end in pairwise(starts)]
