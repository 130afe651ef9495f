"""`uptake eval`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli.options import Device, Dtype, Followups, Limit, Seed, app, out


@app.command("eval")
def evaluate(
    source: Annotated[str, typer.Argument(metavar="PROMPTS", help="Held-out prompts.")],
    *,
    policy: Annotated[str, typer.Option(help="The model to judge.")],
    against: Annotated[str, typer.Option(help="The model to compare it with.")],
    follow_up_model: Annotated[str, typer.Option(help="The model that rates both by follow-ups.")],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for evaluation.json and samples.jsonl; a run's folder will do.")
    ],
    followups: Followups = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Nucleus of the sampling distribution.")] = 0.9,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response, in tokens.")] = 256,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Compare two models: win rate with its interval, follow-up scores, and lengths beside them.

    Example: `uptake eval heldout.jsonl --policy runs/dpo/model --against ./base --follow-up-model ./judge --out runs/1`
    """
    from uptake.rollout import PolicySamples
    from uptake.tasks.compare import compare_files

    models = {"before": against, "after": policy, "follow_up": follow_up_model}
    sampling = PolicySamples(n=1, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    options: dict[str, Any] = {"followups": followups, "limit": limit, "seed": seed, "device": device, "dtype": dtype}
    figures = compare_files(source, models, folder, sampling=sampling, **options)
    wins, lengths = figures["win_rate"], figures["lengths"]
    table = Table("", "against", "policy")
    table.add_row("follow-up reward", *(f"{figures['follow_up_reward'][side]:+.4f}" for side in ("before", "after")))
    table.add_row("mean tokens", *(f"{lengths[side]['mean']:.1f}" for side in ("before", "after")))
    out.print(table)
    out.print(
        f"win rate {wins['rate']:.1%} (95 % interval {wins['low']:.1%} to {wins['high']:.1%}, "
        f"{wins['ties']} ties, n {wins['n']})"
    )
