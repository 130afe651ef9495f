"""Writing of report pages: one HTML file each that needs nothing else."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from uptake.data import replacing
from uptake.data.files import suffix
from uptake.data.lock import locked_if_free
from uptake.data.write import disk_errors
from uptake.report import sections, text
from uptake.report.folder import read_run
from uptake.report.heat import HeatMap
from uptake.report.page import Page, build_page
from uptake.report.section import Header, Section
from uptake.report.sections.tokens import TokenCards
from uptake.report.visible import END, NEWLINE

HERE = Path(__file__).parent


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder to `out` (default: `report.html` in the folder) and return its path.

    Sections whose file is missing are left out with a line that says so. Raises `InputError` for a folder without any
    file of a run and for a broken file, naming file and line, and for an `out` that is no .html file; a page that is
    there is replaced.
    """
    target = out or run / "report.html"
    suffix(target, (".html", ".htm"))
    content = read_run(run)
    write_page(build_page(content.title, sections, content), target, overwrite=True)
    return target


def write_token_page(map_: HeatMap, out: Path, title: str, *, overwrite: bool = False) -> None:
    """Write token heat maps as one page that needs nothing else; InputError where `out` exists, unless `overwrite`."""
    header = Section(title, "", Header("Uptake \N{MIDDLE DOT} tokens", (), key=False))
    about = "What each token got: blue is above 0, orange below."
    tokens = Section("Tokens", about, TokenCards(map_, shown=len(map_.heats)), styles=("heat.css",))
    page = Page(title, {"header.html.j2": header, "sections/tokens.html.j2": tokens}, ())
    write_page(page, out, overwrite=overwrite)


def write_page(page: Page, out: Path, *, overwrite: bool) -> None:
    """Write a page, whole or not at all; InputError where `out` exists, unless `overwrite`."""
    html = _environment().get_template("page.html.j2").render(page=page)
    with locked_if_free(out), replacing(out, overwrite=overwrite) as temporary, disk_errors(out):
        temporary.write_text(html, encoding="utf-8")


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = (text.number, text.score, text.signed, text.percent, text.percent_range, text.duration, text.words)
    made.globals |= {"newline": NEWLINE, "end": END}
    made.filters |= {function.__name__: function for function in shown}
    return made
