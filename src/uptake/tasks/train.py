"""Train: build the world that a recipe asks for from names and paths, and run the recipe in a folder."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from uptake.data import ChatFormat, RowStream
from uptake.errors import InputError
from uptake.follow_up.reward import FollowUps
from uptake.judge.pointwise import PointwiseJudge
from uptake.models import LanguageModel, add_lora, load
from uptake.recipe import Recipe
from uptake.train.loop import Options, run
from uptake.train.run_folder import check_folder
from uptake.types import Row
from uptake.world import World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """What a person names: models and data by path or Hub name, and the seed."""

    policy: str
    data: str | None = None
    follow_up_model: str | None = None
    reference: str | None = None
    lora: int = 0
    seed: int = 0
    limit: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    judge_model: str | None = None


def train(recipe: Recipe, given: Given, folder: str | Path, options: Options = Options()) -> World:  # frozen
    """Run a recipe on named models and data; the run, with the trained model under `model/`, is in `folder`."""
    check_folder(Path(folder), options.resume)
    world = build_world(given, folder)
    warn_of_own_judge(recipe, world)
    return run(recipe, world, options)


def warn_of_own_judge(recipe: Recipe, world: World) -> None:
    """Say so where the judge of a recipe is the very model that it judges."""
    for stage in recipe.stages:
        by = stage.judge.by if isinstance(stage.judge, PointwiseJudge) else None
        if isinstance(by, FollowUps) and world.model(by.model).base is world.policy.base:
            log.warning("%s is its own follow-up model: it may prefer what it would say itself", world.policy.name)


def build_world(given: Given, folder: str | Path) -> World:
    """Load what was named. Without a follow-up model the policy judges itself."""
    rows = _rows(given)
    if given.lora < 0:
        raise InputError(f"{given.lora}", field="lora", allowed="a rank from 1, or 0 for no adapter")
    policy = load(given.policy, dtype=given.dtype, device=given.device)
    models: dict[str, LanguageModel] = {"follow_up": policy}
    if given.follow_up_model is not None:
        models["follow_up"] = load(given.follow_up_model, dtype=given.dtype, device=given.device)
    for role, name in (("reference", given.reference), ("judge", given.judge_model)):
        if name is not None:
            models[role] = load(name, dtype=given.dtype, device=given.device)
    if given.lora:
        torch.manual_seed(given.seed)
        policy = add_lora(policy, rank=given.lora, alpha=2 * given.lora)
    return World(policy, ChatFormat.of(policy.tokenizer), rows, models, Path(folder), given.seed)


def _rows(given: Given) -> Sequence[Row]:
    if given.data is None:
        raise InputError("no data was named", field="data", allowed="a file or a Hub name")
    return RowStream(given.data, given.limit)
