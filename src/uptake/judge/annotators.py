"""The annotators by name, for recipes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from uptake.annotators.from_reward import FromReward
from uptake.annotators.llm import ModelAnnotator
from uptake.annotators.oracle import OracleAnnotator
from uptake.annotators.person import PersonAnnotator
from uptake.annotators.server import ServerJudge
from uptake.errors import InputError
from uptake.follow_up.reward import FollowUpReward
from uptake.judge.pairwise import AnnotatorPart
from uptake.rewards.base import Annotator
from uptake.rewards.classifier import Classifier
from uptake.rewards.implicit import ImplicitReward
from uptake.rewards.token_reward_model import Aggregate, TokenRewardModel
from uptake.support.settings import Choice, named
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
        return FromReward(FollowUpReward.from_pretrained(lm, self.followups), self.temperature)


@dataclass(frozen=True)
class ClassifierAnnotator:
    """Prefers by a sequence-classification reward model, a folder or Hub name, on that model's own scale."""

    path: str
    label: str | None = None
    temperature: float | None = 1.0

    def start(self, world: World) -> Annotator:
        device = str(world.policy.device)
        return FromReward(_classifier(self.path, self.label, device), self.temperature)


@dataclass(frozen=True)
class TokenRewardAnnotator:
    """Prefers by the sum, or the mean, of what a token reward model gives the tokens of a response; a folder or name.

    Without a temperature it prefers with certainty: these rewards were not learned from preferences.
    """

    path: str
    aggregate: Aggregate = "sum"
    temperature: float | None = None

    def start(self, world: World) -> Annotator:
        return FromReward(_token_reward(self.path, self.aggregate, str(world.policy.device)), self.temperature)


@dataclass(frozen=True)
class ImplicitAnnotator:
    """Prefers by the implicit reward of the world's model called `model` against the one called `reference`."""

    beta: float = 0.1
    temperature: float | None = 1.0
    model: str = "judge"
    reference: str = "reference"

    def start(self, world: World) -> Annotator:
        reward = ImplicitReward(world.model(self.model), world.model(self.reference), self.beta)
        return FromReward(reward, self.temperature)


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
