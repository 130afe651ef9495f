"""`uptake train`."""

from pathlib import Path
from typing import Annotated

import typer

from uptake.cli.options import (
    Data,
    Device,
    Dtype,
    FollowUpModel,
    JudgeModel,
    Limit,
    Method,
    Options,
    Policy,
    Seed,
    Sets,
    app,
    recipe_of,
    say,
)


@app.command()
def train(
    method: Method,
    *,
    policy: Policy,
    data: Data,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the run; the trained model is under model/.")],
    follow_up_model: FollowUpModel = None,
    judge_model: JudgeModel = None,
    reference: Annotated[
        str | None, typer.Option(help="Another frozen reference. Default: the policy's start.")
    ] = None,
    config: Options = None,
    sets: Sets = None,
    lora: Annotated[int, typer.Option(help="Rank of a LoRA adapter; 0 trains all weights.")] = 0,
    limit: Limit = None,
    seed: Seed = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    save_every: Annotated[int, typer.Option(min=1, help="Optimizer steps between two checkpoints.")] = 50,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
) -> None:
    """Align a model with a method, in a folder that can be resumed after any stop.

    Example: `uptake train dpo --policy ./my-model --data pairs.jsonl --out runs/dpo --set beta=0.1`
    """
    from uptake import methods
    from uptake.report import write_report
    from uptake.tasks.train import Given
    from uptake.tasks.train import train as run_train
    from uptake.train.loop import Options as RunOptions

    recipe = recipe_of(method, config, sets, reference, lora)
    given = Given(policy, data, follow_up_model, reference, lora, seed, limit, device, dtype, judge_model=judge_model)
    options = RunOptions(
        resume=resume,
        save_every=save_every,
        title=f"{method} on {Path(data).name}",
        method=methods.find(method).__name__.rpartition(".")[2],
    )
    run_train(recipe, given, folder, options)
    say(f"model: {folder / 'model'}\nreport: {write_report(folder)}")
