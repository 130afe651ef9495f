"""`uptake show-tokens`."""

from pathlib import Path
from typing import Annotated

import typer

from uptake.cli import options as cli


@cli.app.command("show-tokens")
def show_tokens(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Rows with responses; without --model, with spans or an edit.")
    ],
    *,
    model: Annotated[
        str | None, typer.Option(help="A token reward model, folder or Hub name. Default: the labels of the rows.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write one self-contained page too.")] = None,
    columns: cli.ColumnsOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Take the first rows only.")] = 10,
    device: cli.Device = "auto",
    dtype: cli.Dtype = "auto",
    overwrite: cli.Overwrite = False,
) -> None:
    """Color responses by what each token got, with the minimal edit beside it.

    Example: `uptake show-tokens edits.jsonl --model ./token-rewards --page tokens.html`
    """
    from uptake.data import read
    from uptake.data.lock import check_unlocked
    from uptake.data.write import may_write
    from uptake.report.heat import heat_map
    from uptake.report.heat_text import heat_text
    from uptake.report.write import write_token_page
    from uptake.rewards.token_reward import load_token_reward
    from uptake.tasks.show_tokens import labeled_views, scored_views

    if page is not None:
        check_unlocked(page)
        may_write(page, overwrite=overwrite)
    rows = read(source, limit=limit, columns=cli.columns_of(columns))
    if model is None:
        views = labeled_views(rows)
    else:
        views = scored_views(rows, load_token_reward(cli.only_model(model, "token_reward"), device=device, dtype=dtype))
    heats = heat_map(views)
    cli.out.print(heat_text(heats))
    if page is not None:
        write_token_page(heats, page, Path(source).name, overwrite=overwrite)
        cli.say(f"page: {page}")
