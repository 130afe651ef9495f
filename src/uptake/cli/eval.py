"""`uptake eval`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from uptake.cli import options as cli
from uptake.errors import InputError


@cli.app.command("eval")
def evaluate(
    source: Annotated[str, typer.Argument(metavar="PROMPTS", help="Held-out prompts.")],
    *,
    policy: Annotated[str, typer.Option(help="The model to judge; or the folder of several alphas, for their curve.")],
    against: Annotated[str, typer.Option(help="The model to compare it with.")],
    reward: cli.RewardOption = None,
    reward_sets: cli.RewardSets = None,
    judge: cli.JudgeOption = None,
    judge_sets: cli.JudgeSets = None,
    models: cli.ModelsOption = None,
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for evaluation.json and samples.jsonl; a run's folder will do.")
    ],
    followups: cli.FollowupsOption = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Nucleus of the sampling distribution.")] = 0.9,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response, in tokens.")] = 256,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    seed: cli.SeedOption = 0,
    device: cli.Device = "auto",
    dtype: cli.Dtype = "auto",
    drop_bad: cli.DropBad = False,
) -> None:
    """Compare two models: win rate with its interval, by a reward or a judge, and lengths beside it.

    Of models beyond an aligned one, as `uptake extrapolate` writes them for several alphas, it makes a curve.

    Example: `uptake eval new.jsonl --policy runs/dpo/model --against ./base --reward follow_up --model ./judge --out r`
    """
    from uptake.judge.registry import annotator_spec, reward_spec
    from uptake.rollout import PolicySamples
    from uptake.tasks.alpha_curve import alpha_curve, models_beyond
    from uptake.tasks.annotated_comparison import compare_by_annotator
    from uptake.tasks.compare import compare_files
    from uptake.tasks.models_used import assigned

    if (reward is None) == (judge is None):
        raise InputError("both a reward and a judge" if reward else "no judge", allowed="--reward, or --judge")
    if judge is not None and followups is not None:
        raise InputError("not used with --judge", field="--followups", allowed="with --reward")
    sampling = PolicySamples(n=1, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
    options: dict[str, Any] = {"limit": limit, "columns": cli.columns_of(columns), "seed": seed, "drop_bad": drop_bad}
    options |= {"device": device, "dtype": dtype, "sampling": sampling}
    rated, compared = cli.choice(reward, reward_sets, "reward"), cli.choice(judge, judge_sets, "judge")
    rated = rated and cli.with_followups(rated, followups)
    spec = annotator_spec({"from_reward": {"reward": rated}} if rated else compared)
    others = {**assigned(spec.uses, *cli.models_of(models)), "before": against}
    by_follow_ups: Any = rated and reward_spec(rated)

    def compare(model: str | Path, target: Path) -> dict[str, Any]:
        paths = {**others, "after": str(model)}
        if by_follow_ups and "logps" in by_follow_ups.offers:
            return compare_files(source, paths, target, reward=by_follow_ups, **options)
        return compare_by_annotator(source, paths, spec, target, **options)

    if beyond := models_beyond(policy):
        _print_curve(alpha_curve(beyond, folder, compare))
    else:
        _print_figures(compare(policy, folder))


def _print_curve(points: list[dict[str, Any]]) -> None:
    names = ("win_rate", "low", "high", "length_controlled", "tokens", "follow_up_reward")
    shown = [name for name in names if any(name in point for point in points)]
    table = Table("alpha", *(name.replace("_", " ") for name in shown))
    for point in points:
        table.add_row(f"{point['alpha']:g}", *(_spelled(name, point.get(name)) for name in shown))
    cli.out.print(table)


def _spelled(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if name == "tokens" else f"{value:.3f}"


def _print_figures(figures: dict[str, Any]) -> None:
    table = Table("", "against", "policy")
    if "follow_up_reward" in figures:
        reward = figures["follow_up_reward"]
        table.add_row("follow-up reward", *(f"{reward[side]:+.4f}" for side in ("before", "after")))
    lengths = figures["lengths"]
    table.add_row("mean tokens", *(f"{lengths[side]['mean']:.1f}" for side in ("before", "after")))
    cli.out.print(table)
    wins = figures["win_rate"]
    cli.say(f"win rate {_share(wins)}, {wins['ties']} ties, n {wins['n']}")
    if "left_out" in figures:
        counts = ", ".join(f"{reason} ({count})" for reason, count in figures["left_out"].items())
        cli.say(f"answers left out on both sides: {counts}")
    if "length_controlled" in figures:
        cli.say(f"at equal lengths {_share(figures['length_controlled'])}")
    if "annotator" in figures:
        stats = figures["annotator"]
        cli.say(f"{stats['tokens']} tokens judged, cost {stats['cost']:.4f}; invalid: {stats['reasons'] or 'none'}")


def _share(share: dict[str, float]) -> str:
    return f"{share['rate']:.1%} (95 % interval {share['low']:.1%} to {share['high']:.1%})"
