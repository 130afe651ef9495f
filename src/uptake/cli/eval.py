"""`uptake eval`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli.options import Device, Dtype, Followups, Limit, Seed, app, options_of, out, say
from uptake.errors import InputError


@app.command("eval")
def evaluate(
    source: Annotated[str, typer.Argument(metavar="PROMPTS", help="Held-out prompts.")],
    *,
    policy: Annotated[str, typer.Option(help="The model to judge.")],
    against: Annotated[str, typer.Option(help="The model to compare it with.")],
    follow_up_model: Annotated[str | None, typer.Option(help="The model that rates both by follow-ups.")] = None,
    judge: Annotated[str | None, typer.Option(help="Or an annotator, shown both orders: model or server.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="The model that judge `model` asks.")] = None,
    judge_sets: Annotated[
        list[str] | None, typer.Option("--judge-set", help="One setting of the annotator: instructions=harmlessness.")
    ] = None,
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
    """Compare two models: win rate with its interval, by follow-ups or an annotator, and lengths beside it.

    Example: `uptake eval heldout.jsonl --policy runs/dpo/model --against ./base --follow-up-model ./judge --out runs/1`
    """
    from uptake.rollout import PolicySamples

    if judge is None:
        _unused("without --judge", {"--judge-model": judge_model, "--judge-set": judge_sets}, "with --judge")
    else:
        _unused("with --judge", {"--followups": followups}, "with --follow-up-model alone")
    if judge in ("model", "implicit") and judge_model is None and "model" not in options_of(judge_sets):
        raise InputError(f"judge {judge!r} needs a model", field="--judge-model", allowed="a folder or Hub name")
    named = {"before": against, "after": policy, "follow_up": follow_up_model, "judge": judge_model}
    models = {role: name for role, name in named.items() if name is not None}
    sampling = PolicySamples(n=1, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    options: dict[str, Any] = {"limit": limit, "seed": seed, "device": device, "dtype": dtype, "sampling": sampling}
    if judge is not None:
        from uptake.judge.annotators import annotator
        from uptake.tasks.annotated_comparison import compare_by_annotator

        part = annotator({judge: options_of(judge_sets)})
        figures = compare_by_annotator(source, models, part, folder, **options)
    elif follow_up_model is None:
        raise InputError("no judge", allowed="--follow-up-model, or --judge")
    else:
        from uptake.tasks.compare import compare_files

        figures = compare_files(source, models, folder, followups=followups, **options)
    _print_figures(figures)


def _unused(why: str, given: dict[str, Any], allowed: str) -> None:
    """Refuse an option that would be passed over in silence."""
    for name, value in given.items():
        if value:
            raise InputError(f"not used {why}", field=name, allowed=allowed)


def _print_figures(figures: dict[str, Any]) -> None:
    table = Table("", "against", "policy")
    if "follow_up_reward" in figures:
        reward = figures["follow_up_reward"]
        table.add_row("follow-up reward", *(f"{reward[side]:+.4f}" for side in ("before", "after")))
    lengths = figures["lengths"]
    table.add_row("mean tokens", *(f"{lengths[side]['mean']:.1f}" for side in ("before", "after")))
    out.print(table)
    wins = figures["win_rate"]
    say(f"win rate {_share(wins)}, {wins['ties']} ties, n {wins['n']}")
    if "length_controlled" in figures:
        say(f"at equal lengths {_share(figures['length_controlled'])}")
    if "annotator" in figures:
        stats = figures["annotator"]
        say(f"{stats['tokens']} tokens judged, cost {stats['cost']:.4f}; invalid: {stats['reasons'] or 'none'}")


def _share(share: dict[str, float]) -> str:
    return f"{share['rate']:.1%} (95 % interval {share['low']:.1%} to {share['high']:.1%})"
