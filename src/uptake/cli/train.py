"""`uptake train`."""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from uptake.cli import options as cli


@cli.app.command()
def train(
    method: cli.MethodArgument = None,
    *,
    policy: cli.Policy = None,
    data: cli.DataOption = None,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the run; the trained model is under model/.")],
    reward: cli.RewardOption = None,
    reward_sets: cli.RewardSets = None,
    judge: cli.JudgeOption = None,
    judge_sets: cli.JudgeSets = None,
    models: cli.ModelsOption = None,
    config: cli.ConfigOption = None,
    sets: cli.Sets = None,
    lora: cli.Lora = None,
    columns: cli.ColumnsOption = None,
    limit: cli.LimitOption = None,
    drop_bad: cli.FlagDropBad = None,
    seed: cli.FlagSeed = None,
    device: cli.FlagDevice = None,
    dtype: cli.FlagDtype = None,
    save_every: Annotated[int, typer.Option(min=1, help="Optimizer steps between two checkpoints.")] = 50,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Align a model with a method, in a folder that can be resumed after any stop.

    Example: `uptake train dpo --policy ./my-model --data pairs.jsonl --out runs/dpo --set beta=0.1`
    """
    from uptake import methods
    from uptake.report import write_report
    from uptake.tasks.train import train as run_train
    from uptake.train.loop import Options as RunOptions

    flags: dict[str, Any] = {"policy": policy, "data": data, "lora": lora, "limit": limit, "drop_bad": drop_bad}
    flags |= {"columns": cli.columns_of(columns) or None}
    flags |= {"seed": seed, "device": device, "dtype": dtype}
    options = {"reward": cli.choice(reward, reward_sets, "reward"), "judge": cli.choice(judge, judge_sets, "judge")}
    recipe, run = cli.prepared(method, config, models, sets, options, **flags)
    title = f"{run.method} on {Path(run.data).name}"
    logging.getLogger("uptake.train").setLevel(logging.INFO)
    method_name = methods.find(run.method).__name__.rpartition(".")[2]
    run_options = RunOptions(title=title, method=method_name, resume=resume, save_every=save_every, report=write_report)
    run_train(recipe, run, folder, run_options)
    cli.say(f"model: {folder / 'model'}\nreport: {folder / 'report.html'}")
