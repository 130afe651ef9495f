"""`uptake train`."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from uptake.cli.options import (
    ConfigOption,
    DataOption,
    FlagDevice,
    FlagDtype,
    FlagSeed,
    JudgeOption,
    JudgeSets,
    LimitOption,
    Lora,
    MethodArgument,
    ModelsOption,
    Policy,
    RewardOption,
    RewardSets,
    Sets,
    app,
    choice,
    prepared,
    say,
)


@app.command()
def train(
    method: MethodArgument = None,
    *,
    policy: Policy = None,
    data: DataOption = None,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the run; the trained model is under model/.")],
    reward: RewardOption = None,
    reward_sets: RewardSets = None,
    judge: JudgeOption = None,
    judge_sets: JudgeSets = None,
    models: ModelsOption = None,
    config: ConfigOption = None,
    sets: Sets = None,
    lora: Lora = None,
    limit: LimitOption = None,
    seed: FlagSeed = None,
    device: FlagDevice = None,
    dtype: FlagDtype = None,
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

    flags = {"policy": policy, "data": data, "lora": lora, "limit": limit}
    flags |= {"seed": seed, "device": device, "dtype": dtype}
    options = {"reward": choice(reward, reward_sets, "reward"), "judge": choice(judge, judge_sets, "judge")}
    recipe, run = prepared(method, config, models, sets, options, **flags)
    title = f"{run.method} on {Path(run.data).name}"
    logging.getLogger("uptake.train").setLevel(logging.INFO)
    method_name = methods.find(run.method).__name__.rpartition(".")[2]
    run_options = RunOptions(title=title, method=method_name, resume=resume, save_every=save_every, report=write_report)
    run_train(recipe, run, folder, run_options)
    say(f"model: {folder / 'model'}\nreport: {folder / 'report.html'}")
