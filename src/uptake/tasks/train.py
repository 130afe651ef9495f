"""Train: build the world that a recipe asks for from names and paths, and run the recipe in a folder."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from uptake.data import ChatFormat, RowStream
from uptake.errors import InputError
from uptake.models import LanguageModel, add_lora, load
from uptake.models.adapters import split_adapter
from uptake.models.load import refuse_no_model
from uptake.recipe import Recipe
from uptake.reference import frozen_copy
from uptake.tasks.judge_probe import refuse_position_bias
from uptake.tasks.models_used import models_used
from uptake.tasks.run_config import DEFAULT_MODELS, RunConfig
from uptake.train.loop import Options, run
from uptake.train.rounds import refuse_moving_judges
from uptake.train.run_folder import check_folder
from uptake.world import World

log = logging.getLogger(__name__)


def train(recipe: Recipe, config: RunConfig, folder: str | Path, options: Options = Options()) -> World:  # frozen
    """Run a recipe on named models and data; the run, with the trained model under `model/`, is in `folder`.

    The config is written above the recipe in the run's recipe.yaml, which repeats the run as a config of its own.
    """
    check_folder(Path(folder), options.resume)
    world = build_world(recipe, config, folder)
    for lm in {each.name: each for each in (world.policy, *world.models.values())}.values():
        ChatFormat.of(lm).warn_if_plain(lm.name)
    warn_of_self_judging(recipe, world)
    if not options.resume:
        refuse_position_bias(recipe, world)
    return run(recipe, world, replace(options, config=str(config)))


def warn_of_self_judging(recipe: Recipe, world: World) -> None:
    """Say so where the judge of a recipe is the very model that it judges."""
    for name in models_used([stage.judge for stage in recipe.stages]):
        if name != "policy" and name in world.models and world.models[name].base is world.policy.base:
            spoken = name.replace("_", "-")
            log.warning("%s is its own %s model: it may prefer what it would say itself", world.policy.name, spoken)


def build_world(recipe: Recipe, config: RunConfig, folder: str | Path, *, learns: bool = True) -> World:
    """Load what was named. A recipe that asks for a model that a run has by itself is given the policy, or its copy.

    Where the policy `learns`, all weights that it trains are in fp32, and references compute as it does.
    """
    skipped: list[InputError] | None = [] if config.drop_bad else None
    rows = RowStream(config.data, config.limit, config.columns, skipped=skipped)
    whole = learns and not config.lora and split_adapter(config.policy)[1] is None
    refuse_no_model(config.policy, *config.models.values())
    policy = load(config.policy, dtype=config.dtype, device=config.device, fp32_weights=whole)
    if config.lora:
        torch.manual_seed(config.seed)
        policy = add_lora(policy, rank=config.lora, alpha=2 * config.lora)
    default = {name: policy for name in models_used(recipe) if name in DEFAULT_MODELS}
    if "start" in default:
        default["start"] = frozen_copy(policy)
    alike = models_used([stage.reference for stage in recipe.stages]) if whole else ()
    models = default | load_each(config.models, alike, dtype=config.dtype, device=config.device)
    world = World(policy, ChatFormat.of(policy), rows, models, Path(folder), config.seed)
    refuse_moving_judges(recipe, world)
    return world


def load_each(
    paths: Mapping[str, str], fp32_weights: Collection[str] = (), *, device: str = "auto", dtype: str = "auto"
) -> dict[str, LanguageModel]:
    """The models of some paths by name, some with weights in fp32; one that has several names is loaded once."""
    refuse_no_model(*paths.values())
    wanted = {name: (path, name in fp32_weights) for name, path in paths.items()}
    loaded = {
        (path, wide): load(path, dtype=dtype, device=device, fp32_weights=wide)
        for path, wide in dict.fromkeys(wanted.values())
    }
    return {name: loaded[key] for name, key in wanted.items()}
