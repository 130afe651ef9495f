"""Token heat maps for a terminal.

A color is a pair of text and ground, so that it reads on a light and a dark terminal; blue against orange is told apart
by nearly everybody. The strongest pieces carry their sign and an underline as well, which also survive without color.
"""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from uptake.report.heat import Heat, HeatMap, HeatPiece, HeatRow, Part
from uptake.report.text import number
from uptake.report.visible import END, NEWLINE

# From weak to strong, by the sign of a number; black text on each.
NEGATIVE, POSITIVE = ("#fddcb8", "#fdae6b", "#f07d26"), ("#d3e3f3", "#9ecae1", "#5aa5dc")
INK = "#000000"
PLUS, MINUS = "\N{SUPERSCRIPT PLUS SIGN}", "\N{SUPERSCRIPT MINUS}"
_MARKS = {"kept": ("", "", ""), "removed": ("[-", "-]", "strike"), "added": ("{+", "+}", "bold")}


def heat_text(heats: HeatMap) -> RenderableType:
    """Heat maps of all responses, with the legend at the end."""
    return Group(*(block for heat in heats.heats for block in _heat(heat)), Text(""), *_legend(heats))


def _heat(heat: Heat) -> Iterator[RenderableType]:
    if heat.prompt:
        yield Text("")
    if heat.title:
        yield Text(heat.title, style="bold")
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for turn in heat.prompt[-1:]:
        grid.add_row(turn.role, Text(turn.content))
    for row in heat.rows:
        grid.add_row(row.name, _row(row))
    if heat.edit:
        grid.add_row("edit", _edit(heat.edit))
    yield grid


def _row(row: HeatRow) -> Text:
    shown = Text()
    for piece in row.pieces:
        _append(shown, piece)
    return shown


def _append(shown: Text, piece: HeatPiece) -> None:
    """A piece in its color; its mark goes before the line end that it may have."""
    level = round(3 * abs(piece.shade))
    ground = (POSITIVE if piece.shade > 0 else NEGATIVE)[level - 1] if level else ""
    style = f"{'underline ' if piece.strong else ''}{INK} on {ground}" if level else ""
    body = piece.text.rstrip("\n")
    shown.append(body, style=style)
    if piece.strong:
        shown.append(PLUS if piece.shade > 0 else MINUS, style=style.removeprefix("underline "))
    shown.append(piece.text[len(body) :])


def _edit(parts: tuple[Part, ...]) -> Text:
    shown = Text()
    for part in parts:
        before, after, style = _MARKS[part.kind]
        shown.append(f"{before}{part.text}{after}", style=style)
    return shown


def _legend(heats: HeatMap) -> Iterator[Text]:
    for name, limit in heats.limits.items():
        line = Text(f"{name}: {number(-limit)} ")
        for ground in (*reversed(NEGATIVE), None, *POSITIVE):
            line.append(" 0 " if ground is None else "  ", style=f"on {ground}" if ground else "")
        yield line.append(f" +{number(limit)}")
    yield Text(
        f"{MINUS} {PLUS} half of that or more   {NEWLINE} line end   \N{MIDDLE DOT} blank   {END} end of the turn",
        style="dim",
    )
