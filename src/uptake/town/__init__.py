"""A small town of conversations with an exact oracle: ground truth without a download."""

from uptake.town.chat import CHAT_TEMPLATE, SPECIAL_TOKENS
from uptake.town.faults import FAULTS, Fault
from uptake.town.quality import AXES, Axis, Quality
from uptake.town.questions import Question, TownSplit
from uptake.town.world import Town

__all__ = [
    "AXES",
    "CHAT_TEMPLATE",
    "FAULTS",
    "SPECIAL_TOKENS",
    "Axis",
    "Fault",
    "Quality",
    "Question",
    "Town",
    "TownSplit",
]
