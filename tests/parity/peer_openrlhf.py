"""What OpenRLHF's own functions compute: `python tests/parity/peer_openrlhf.py` writes `peer_openrlhf.json`.

Its losses stand beside trainers that need DeepSpeed. So the two files that are needed are read by themselves, and the
name `deepspeed`, which one of them imports and none of these functions uses, is an empty module.
"""

import os
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # its policy loss is compiled, for which there need not be a compiler

import torch
from parity.cases import (
    BETA,
    CLIP,
    DUAL_CLIP,
    SMOOTHING,
    VALUE_CLIP,
    gradients,
    plain,
    record,
    response_logps,
    scores,
    sketch,
    tables,
)


def peer(name: str) -> Any:
    """A file of openrlhf.models, without what the package loads beside it."""
    package = find_spec("openrlhf")
    if package is None or package.submodule_search_locations is None:
        raise SystemExit("openrlhf is not there")
    folder = Path(package.submodule_search_locations[0]) / "models"
    spec = spec_from_file_location(f"openrlhf_models.{name}", folder / f"{name}.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"openrlhf has no models/{name}.py")
    module = module_from_spec(spec)
    sys.modules[f"openrlhf_models.{name}"] = module
    spec.loader.exec_module(module)
    return module


def preference_losses(losses: Any, folder: Path) -> dict[str, list[float]]:
    settings = {"dpo": {}, "cdpo": {"label_smoothing": SMOOTHING}, "ipo of sums": {"ipo": True}}
    found = {}
    with torch.no_grad():
        reference = response_logps(plain(1, folder))[:2]
    for name, options in settings.items():
        model = plain(0, folder)
        loss, *_ = losses.DPOLoss(BETA, **options)(*response_logps(model)[:2], *reference)
        loss.backward()
        found[name] = [loss.item(), *gradients(model)]
    return found


def main() -> None:
    """Write the values."""
    package = ModuleType("openrlhf_models")
    package.__path__ = []  # makes it a package, so that its files find each other
    sys.modules |= {"openrlhf_models": package, "deepspeed": ModuleType("deepspeed")}
    utils, losses = peer("utils"), peer("loss")
    del sys.modules["deepspeed"]
    given = tables()
    mask = given["mask"].double()
    with TemporaryDirectory() as folder:
        values: dict[str, Any] = {**preference_losses(losses, Path(folder))}
    chosen, rejected, margins = scores()
    values["reward model, margin"] = [float(losses.PairWiseLoss()(chosen, rejected, margins))]
    for mean in ("token", "response"):
        for name, dual in (("clipped", None), ("dual", DUAL_CLIP)):
            logps = given["logps"].clone().requires_grad_()
            loss, *_ = losses.PolicyLoss(CLIP, CLIP, dual, token_level_loss=mean == "token")(
                logps, given["old_logps"], given["advantages"], mask
            )
            loss.backward()
            values[f"surrogate, {name}, {mean} mean"] = [loss.item(), *sketch([logps.grad])]
    for name, clip in (("clipped", VALUE_CLIP), ("plain", None)):
        predicted = given["values"].clone().requires_grad_()
        loss = losses.ValueLoss(clip)(predicted, given["old_values"], given["returns"], mask)
        loss.backward()
        values[f"value loss, {name}"] = [loss.item(), *sketch([predicted.grad])]
    values["whitened"] = sketch([utils.masked_normalize(given["advantages"], mask, dim=None)])
    for estimator in ("k1", "k2", "k3"):
        values[estimator] = sketch([utils.compute_approx_kl(given["logps"], given["ref_logps"], None, estimator)])
    record("peer_openrlhf", "openrlhf", values)


if __name__ == "__main__":
    main()
