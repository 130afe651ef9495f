"""`uptake show-tokens`."""

from pathlib import Path
from typing import Annotated

import typer

from uptake.cli.options import Overwrite, app, out, say


@app.command("show-tokens")
def show_tokens(
    source: Annotated[str, typer.Argument(metavar="IN", help="Rows with spans or an edit.")],
    *,
    page: Annotated[Path | None, typer.Option(help="Write one self-contained page too.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Take the first rows only.")] = 10,
    overwrite: Overwrite = False,
) -> None:
    """Color a text by what each token got, with the minimal edit beside it.

    Example: `uptake show-tokens edits.jsonl`
    """
    from uptake.data import read
    from uptake.report.heat import heat_map
    from uptake.report.heat_text import heat_text
    from uptake.report.write import write_token_page
    from uptake.tasks.show_tokens import labeled_views

    heats = heat_map(labeled_views(read(source, limit=limit)))
    out.print(heat_text(heats))
    if page is not None:
        write_token_page(heats, page, Path(source).name, overwrite=overwrite)
        say(f"page: {page}")
