"""The annotators by name, for recipes."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from uptake.errors import InputError
from uptake.feedback.compared import AnnotatorPart
from uptake.feedback.follow_up import FollowUpReward
from uptake.feedback.llm_judge import ModelAnnotator
from uptake.feedback.oracle_annotator import OracleAnnotator
from uptake.feedback.person import PersonAnnotator
from uptake.feedback.preferring import Preferring
from uptake.feedback.reward import Annotator
from uptake.feedback.server_judge import ServerJudge
from uptake.world import World


@dataclass(frozen=True)
class FollowUpAnnotator:
    """Prefers by follow-up likelihood under the world's model called `model`; without a temperature, with certainty."""

    followups: str | None = None
    temperature: float | None = None
    model: str = "follow_up"

    def start(self, world: World) -> Annotator:
        return Preferring(FollowUpReward.from_pretrained(world.model(self.model), self.followups), self.temperature)


ANNOTATORS: Mapping[str, Callable[..., AnnotatorPart]] = {
    "model": ModelAnnotator,
    "server": ServerJudge,
    "follow_up": FollowUpAnnotator,
    "oracle": OracleAnnotator,
    "person": PersonAnnotator,
}


def annotator(choice: str | Mapping[str, Mapping[str, Any]]) -> AnnotatorPart:
    """The annotator of a name, or of a name with settings: `{"oracle": {"noise": 0.1}}`.

    Raises InputError for an unknown name or setting, and for a setting out of its range.
    """
    named: Mapping[str, Mapping[str, Any]] = {choice: {}} if isinstance(choice, str) else choice
    if len(named) != 1 or not named.keys() <= ANNOTATORS.keys():
        raise InputError(f"no annotator {', '.join(named)!r}", field="annotator", allowed=", ".join(ANNOTATORS))
    ((name, settings),) = named.items()
    known = {field.name: field for field in fields(ANNOTATORS[name])}  # type: ignore[arg-type]
    for setting in settings:
        if setting not in known:
            raise InputError(f"{name} has no setting {setting!r}", field="annotator", allowed=", ".join(known))
    for setting, field in known.items():
        if setting not in settings and field.default is MISSING and field.default_factory is MISSING:
            allowed = f"{{{name}: {{{setting}: ...}}}}"
            raise InputError(f"{name} needs a setting {setting!r}", field="annotator", allowed=allowed)
    return ANNOTATORS[name](**settings)
