"""Uptake aligns language models from the way their readers react."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uptake.data import ChatFormat, read
    from uptake.errors import InputError, ModelError, UptakeError
    from uptake.follow_up.reward import FollowUpReward, FollowUpScores
    from uptake.follow_up.set import FollowUpSet
    from uptake.models import LanguageModel, TokenTree, add_lora, load, pack, token_logps
    from uptake.recipe import Recipe, Stage
    from uptake.report import write_report
    from uptake.train import Options, run
    from uptake.types import Answered, Edited, Judgement, Pair, Preference, Prompt, Rated, Rollout, Span, Turn
    from uptake.world import World

__version__ = "0.1.0"

# Names are loaded when first used, so that `import uptake` costs nothing.
_HOMES = {
    "data": ("ChatFormat", "read"),
    "errors": ("InputError", "ModelError", "UptakeError"),
    "follow_up": ("FollowUpReward", "FollowUpScores", "FollowUpSet"),
    "train": ("Options", "run"),
    "models": ("LanguageModel", "TokenTree", "add_lora", "load", "pack", "token_logps"),
    "recipe": ("Recipe", "Stage"),
    "report": ("write_report",),
    "types": ("Answered", "Edited", "Judgement", "Pair", "Preference", "Prompt", "Rated", "Rollout", "Span", "Turn"),
    "world": ("World",),
}
_HOME = {name: room for room, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022  # grouped by room, as above
    "ChatFormat", "read",
    "InputError", "ModelError", "UptakeError",
    "FollowUpReward", "FollowUpScores", "FollowUpSet",
    "Options", "run",
    "LanguageModel", "TokenTree", "add_lora", "load", "pack", "token_logps",
    "Recipe", "Stage",
    "write_report",
    "Answered", "Edited", "Judgement", "Pair", "Preference", "Prompt", "Rated", "Rollout", "Span", "Turn",
    "World",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'uptake' has no attribute {name!r}")
    return getattr(import_module(f"uptake.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
