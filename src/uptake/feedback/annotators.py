"""The annotators by name, for recipes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from uptake.choice import Choice, named
from uptake.errors import InputError
from uptake.feedback.classifier import Classifier
from uptake.feedback.compared import AnnotatorPart
from uptake.feedback.follow_up import FollowUpReward
from uptake.feedback.implicit import ImplicitReward
from uptake.feedback.llm_judge import ModelAnnotator
from uptake.feedback.oracle_annotator import OracleAnnotator
from uptake.feedback.person import PersonAnnotator
from uptake.feedback.preferring import Preferring
from uptake.feedback.reward import Annotator
from uptake.feedback.server_judge import ServerJudge
from uptake.feedback.token_reward_model import Aggregate, TokenRewardModel
from uptake.world import World


@dataclass(frozen=True)
class FollowUpAnnotator:
    """Prefers by follow-up likelihood under the world's model called `model`; without a temperature, with certainty."""

    followups: str | None = None
    temperature: float | None = None
    model: str = "follow_up"

    def start(self, world: World) -> Annotator:
        lm = world.model(self.model)
        if lm.base is world.policy.base:
            problem = "the annotator is the policy that learns: what it prefers would move with it"
            raise InputError(problem, field="annotator", allowed="another model, --follow-up-model; a copy will do")
        return Preferring(FollowUpReward.from_pretrained(lm, self.followups), self.temperature)


@dataclass(frozen=True)
class ClassifierAnnotator:
    """Prefers by a sequence-classification reward model, a folder or Hub name, on that model's own scale."""

    path: str
    label: str | None = None
    temperature: float | None = 1.0

    def start(self, world: World) -> Annotator:
        device = str(world.policy.device)
        return Preferring(_classifier(self.path, self.label, device), self.temperature)


@dataclass(frozen=True)
class TokenRewardAnnotator:
    """Prefers by the sum, or the mean, of what a token reward model gives the tokens of a response; a folder or name.

    Without a temperature it prefers with certainty: these rewards were not learned from preferences.
    """

    path: str
    aggregate: Aggregate = "sum"
    temperature: float | None = None

    def start(self, world: World) -> Annotator:
        return Preferring(_token_reward(self.path, self.aggregate, str(world.policy.device)), self.temperature)


@dataclass(frozen=True)
class ImplicitAnnotator:
    """Prefers by the implicit reward of the world's model called `model` against the one called `reference`."""

    beta: float = 0.1
    temperature: float | None = 1.0
    model: str = "judge"
    reference: str = "reference"

    def start(self, world: World) -> Annotator:
        reward = ImplicitReward(world.model(self.model), world.model(self.reference), self.beta)
        return Preferring(reward, self.temperature)


@cache
def _classifier(path: str, label: str | None, device: str) -> Classifier:
    """Loaded once for all rounds of a run."""
    return Classifier.from_pretrained(path, label=label, device=device)


@cache
def _token_reward(path: str, aggregate: Aggregate, device: str) -> TokenRewardModel:
    return TokenRewardModel.from_pretrained(path, aggregate=aggregate, device=device)


ANNOTATORS: Mapping[str, Callable[..., AnnotatorPart]] = {
    "model": ModelAnnotator,
    "server": ServerJudge,
    "follow_up": FollowUpAnnotator,
    "classifier": ClassifierAnnotator,
    "token_reward": TokenRewardAnnotator,
    "implicit": ImplicitAnnotator,
    "oracle": OracleAnnotator,
    "person": PersonAnnotator,
}


def annotator(choice: Choice) -> AnnotatorPart:
    """The annotator of a name, or of a name with settings: `{"oracle": {"noise": 0.1}}`.

    Raises InputError for an unknown name or setting, and for a setting out of its range.
    """
    return named("annotator", choice, ANNOTATORS)()
