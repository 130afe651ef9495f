"""Section of a page: what a file of `sections/` or `bench_sections/` builds, or the reason why there is nothing."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Reason why something is not on the page: `LeftOut("Cost", "there is no phase in timing.jsonl.")`."""

    what: str
    reason: str

    @classmethod
    def no(cls, missing: str, what: str, command: str = "") -> "LeftOut":
        """Left out because a run folder has no such file or line; `command` is what would write it."""
        step = f"; `{command}` with this folder as --out writes it" if command else ""
        return cls(what, f"there is no {missing}{step}.")


@dataclass(frozen=True, slots=True)
class Section:
    """Section of a page: heading, the sentences beside it, and the content that its template prints.

    `styles` are style sheets that the page needs for it alone; `left_out` are parts of it that there is nothing for.
    """

    title: str
    about: str
    content: Any
    styles: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """Headline figure: `Figure("Win rate", "71.4%", "10 won, 2 tied, 3 lost", (0.649, 0.714, 0.773))`.

    `interval` is drawn where there is one: low, rate, high as shares.
    """

    label: str
    value: str
    detail: str = ""
    interval: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """Content of a page's head: the line over the title, the headline figures, and whether what follows needs a key."""

    eyebrow: str
    figures: tuple[Figure, ...]
    key: bool = True
