"""Curve over alpha: models beyond an aligned one, each compared with it on the same prompts, lengths beside."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from uptake.data import Writer
from uptake.models.card import read_card

FILE = "alphas.jsonl"


def models_beyond(folder: str | Path) -> list[tuple[float, Path]]:
    """The models that `uptake extrapolate` wrote in a folder for several alphas, by alpha; none in any other folder."""
    cards = ((read_card(path), path) for path in Path(folder).glob("alpha-*"))
    return sorted((float(card["extrapolation"]["alpha"]), path) for card, path in cards if "extrapolation" in card)


def alpha_curve(
    models: Sequence[tuple[float, Path]], folder: Path, compare: Callable[[Path, Path], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Compare each model with the aligned one and write a point for each, and one for alpha 0, to `alphas.jsonl`.

    `compare` takes a model and the folder of its comparison, and gives the figures of `evaluation.json`. The file
    appears when all are compared; an earlier one is replaced.
    """
    found = [(alpha, compare(path, folder / path.name)) for alpha, path in models]
    points = [_point(alpha, figures, "after") for alpha, figures in found]
    if all(alpha for alpha, _ in found):
        points.append(_point(0.0, found[0][1], "before") | {"win_rate": 0.5, "low": 0.5, "high": 0.5})
        points[-1].pop("length_controlled", None)
    points.sort(key=lambda point: float(point["alpha"]))
    with Writer(folder / FILE, overwrite=True) as writer:
        for point in points:
            writer.write(point)
    return points


def _point(alpha: float, figures: Mapping[str, Any], side: str) -> dict[str, Any]:
    wins = figures["win_rate"]
    point = {"alpha": alpha, "tokens": figures["lengths"][side]["mean"]}
    point |= {"win_rate": wins["rate"], "low": wins["low"], "high": wins["high"]}
    if "length_controlled" in figures:
        point["length_controlled"] = figures["length_controlled"]["rate"]
    if "follow_up_reward" in figures:
        point["follow_up_reward"] = figures["follow_up_reward"][side]
    return point
