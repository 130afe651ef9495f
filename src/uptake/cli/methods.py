"""`uptake methods` and `uptake methods show`."""

import typer
from rich.table import Table

from uptake.cli.options import Method, Options, Sets, app, out, recipe_of

methods_app = typer.Typer(help="The methods there are, and their recipes with every default.", no_args_is_help=False)
app.add_typer(methods_app, name="methods")


@methods_app.callback(invoke_without_command=True)
def list_methods(context: typer.Context) -> None:
    """List the methods."""
    from uptake import methods

    if context.invoked_subcommand is None:
        table = Table("method", "also called", "what it does")
        for name, method in sorted(methods.catalog().items()):
            table.add_row(name, ", ".join(method.aliases), method.summary)
        out.print(table)


@methods_app.command()
def show(method: Method, config: Options = None, sets: Sets = None) -> None:
    """Print what a method is, and its recipe with every default."""
    from uptake import methods

    out.print((methods.find(method).__doc__ or "").strip(), "\n", markup=False)
    out.print(str(recipe_of(method, config, sets)), markup=False)
