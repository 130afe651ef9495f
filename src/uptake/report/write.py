"""`report.html`: one page that needs nothing else."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from uptake.data import replacing
from uptake.data.files import suffix
from uptake.data.write import disk_errors
from uptake.report import text
from uptake.report.folder import read_run
from uptake.report.heat import HeatMap
from uptake.report.page import build_page
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
    _write("report.html.j2", target, overwrite=True, page=build_page(read_run(run)))
    return target


def write_token_page(map_: HeatMap, out: Path, title: str, *, overwrite: bool = False) -> None:
    """Write token heat maps as one page that needs nothing else; InputError where `out` exists, unless `overwrite`."""
    _write("tokens.html.j2", out, overwrite=overwrite, map=map_, title=title)


def _write(template: str, out: Path, *, overwrite: bool, **context: Any) -> None:
    page = environment().get_template(template).render(**context)
    with replacing(out, overwrite=overwrite) as temporary, disk_errors(out):
        temporary.write_text(page, encoding="utf-8")


def environment() -> Environment:
    """What renders the templates of this room."""
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
