"""`uptake init-model`."""

from pathlib import Path
from typing import Annotated

import typer

from uptake.cli import options as cli


@cli.app.command("init-model")
def init_model(
    source: Annotated[str, typer.Argument(metavar="CORPUS", help="Rows whose words the tokenizer learns.")],
    *,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the model.")],
    columns: cli.ColumnsOption = None,
    vocabulary: Annotated[int, typer.Option(help="Tokens, the 256 bytes and 5 special ones included.")] = 4096,
    width: Annotated[int, typer.Option(help="Width of the hidden states, a multiple of 64.")] = 256,
    layers: Annotated[int, typer.Option(help="Transformer layers.")] = 6,
    window: Annotated[int, typer.Option(help="The longest conversation, in tokens.")] = 512,
    seed: cli.SeedOption = 0,
    drop_bad: cli.DropBad = False,
) -> None:
    """Make a small model from scratch: a tokenizer learned from a corpus, and random weights.

    Example: `uptake init-model corpus.jsonl --out ./start`
    """
    from uptake.tasks.init_model import init_model as make

    lm = make(
        source,
        folder,
        columns=cli.columns_of(columns),
        vocabulary=vocabulary,
        width=width,
        layers=layers,
        window=window,
        seed=seed,
        drop_bad=drop_bad,
    )
    weights = sum(weight.numel() for weight in lm.model.parameters())
    cli.say(f"{weights:,} weights, {len(lm.tokenizer)} tokens, a window of {window} -> {folder}")
