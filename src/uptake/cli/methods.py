"""`uptake methods` and `uptake methods show`."""

from typing import Annotated

import typer
from rich.table import Table

from uptake.cli import options as cli

methods_app = typer.Typer(help="The methods there are, and their recipes with every default.", no_args_is_help=False)
cli.app.add_typer(methods_app, name="methods")


@methods_app.callback(invoke_without_command=True)
def list_methods(context: typer.Context) -> None:
    """List the methods."""
    from uptake import methods

    if context.invoked_subcommand is None:
        table = Table("method", "also called", "what it does")
        for name, method in sorted(methods.catalog().items()):
            table.add_row(name, ", ".join(method.aliases), method.summary)
        cli.out.print(table)


@methods_app.command()
def show(
    method: Annotated[str, typer.Argument(help="A method's name or alias; see `uptake methods`.")],
    config: cli.ConfigOption = None,
    sets: cli.Sets = None,
) -> None:
    """Print what a method is, and its recipe with every default."""
    from uptake import methods
    from uptake.tasks.run_config import RunConfig, recipe_of

    cli.out.print((methods.find(method).__doc__ or "").strip(), "\n", markup=False)
    run = RunConfig.of(config, method=method, policy="", data="", options=cli.options_of(sets) or None)
    cli.out.print(str(recipe_of(run, config)), markup=False)
