"""Page of a report: the sections of a room, one file each, in the order that the room states."""

import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from types import ModuleType
from typing import Any

from uptake.report.section import LeftOut, Section


@dataclass(frozen=True, slots=True)
class Page:
    """Page as its template prints it: sections by their templates, top to bottom, and lines on what is left out."""

    title: str
    sections: Mapping[str, Section]
    left_out: tuple[str, ...]

    @property
    def styles(self) -> tuple[str, ...]:
        """Style sheets that the sections need beside the page's own, each once."""
        return tuple(dict.fromkeys(style for section in self.sections.values() for style in section.styles))


def build_page(title: str, room: ModuleType, *given: Any) -> Page:
    """Page of the sections that the files of a room `build` from what is given, in the room's `ORDER`.

    A section `name.py` is printed by `name.html.j2` beside it; one that is None is neither shown nor missed. Raises
    ValueError for a file that has no place in ORDER.
    """
    names = sorted((module.name for module in pkgutil.iter_modules(room.__path__)), key=room.ORDER.index)
    folder = room.__name__.rpartition(".")[2]
    built: dict[str, Section | LeftOut | None] = {
        f"{folder}/{name}.html.j2": import_module(f"{room.__name__}.{name}").build(*given) for name in names
    }
    shown = {template: each for template, each in built.items() if isinstance(each, Section)}
    left_out = ((each,) if isinstance(each, LeftOut) else each.left_out for each in built.values() if each is not None)
    return Page(title, shown, tuple(_lines(chain.from_iterable(left_out))))


def _lines(left_out: Iterable[LeftOut]) -> Iterator[str]:
    """Lines, one for every reason, with all that is left out for it."""
    by_reason: dict[str, list[str]] = {}
    for each in left_out:
        by_reason.setdefault(each.reason, []).append(each.what)
    yield from (f"{', '.join(whats).capitalize()}: {reason}" for reason, whats in by_reason.items())
