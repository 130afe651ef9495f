"""Rewards: what one is, the settings that build it, and the models that it is built from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

from uptake.errors import InputError
from uptake.types import Answered, Dialogue, Judgement, Rollout, Span

if TYPE_CHECKING:  # a reward without a model is built without Torch, which takes seconds to load
    import uptake.data.chat
    import uptake.models
    import uptake.world

# A response to rate: a dialogue that ends with it, or with the place it came from, or with the ids a policy sampled.
Response = Dialogue | Answered | Rollout

# What some rewards know beside a number: the rewards of tokens, the log-probabilities of follow-ups.
Detail = Literal["tokens", "logps"]


@dataclass(frozen=True, slots=True)
class RewardDetails:
    """Judgement of a response with what is behind it: `RewardDetails(Judgement(-1.0), spans=(Span(4, 7, -1.0),))`.

    `spans` are the rewards of tokens on the characters of the response, with the same sum, where the reward rates
    tokens. `logps` are the log-probabilities of follow-ups, in the order of their set. `dropped_turns` counts the
    oldest turns that did not fit the model's window; None where nobody counts.
    """

    judgement: Judgement
    spans: tuple[Span, ...] = ()
    logps: tuple[float, ...] = ()
    dropped_turns: int | None = None


class Reward(Protocol):
    """Reward of responses: one judgement for every response, in order; a higher score is better.

    A response that cannot be rated is judged with the `reason`. A score depends on nothing but the response
    and the reward: not on the other responses, their order, or how they are batched, unless the reward says that it
    compares responses to one prompt (`compares`). Where a reward rates tokens, the judgement of a `Rollout` has one
    value for each of its ids in `tokens`.
    """

    kind: ClassVar[Literal["reward"]] = "reward"
    # The column for the parts of a judgement, where they are rewards themselves.
    parts: ClassVar[Literal["by_category", "by_reward"] | None] = None

    @property
    def fingerprint(self) -> str:
        """A text that differs wherever scores may: model, precision, template, settings."""
        ...

    @property
    def offers(self) -> frozenset[Detail]:
        """What it knows beside a number."""
        return frozenset()

    @property
    def columns(self) -> tuple[str, ...]:
        """The further columns of a response's row that a score may depend on; "*" among them for any."""
        return ()

    @property
    def compares(self) -> bool:
        """Whether a score depends on the other responses to the same prompt in the call."""
        return False

    @property
    def source(self) -> Mapping[str, str]:
        """The column that says what a score was made with, and its value."""
        return {"rated_by": self.fingerprint}

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]: ...

    def details(self, responses: Sequence[Response]) -> Sequence[RewardDetails]:
        """The judgements of `rate` with what is behind them."""
        return [RewardDetails(judgement) for judgement in self.rate(responses)]


@dataclass(frozen=True, eq=False)
class Resources:
    """Models by name, and where and how a reward or an annotator is built from its settings.

    `policy` is the model whose responses are rated, with the chat format `chat`; None where they are texts. What is
    paid for or waited for is kept in `folder`, in files whose names begin with `prefix`. `device` and `dtype` are those
    of models that a setting names by path.
    """

    models: Mapping[str, "uptake.models.LanguageModel"] = field(default_factory=dict)
    folder: Path = Path()
    prefix: str = ""
    device: str = "auto"
    dtype: str = "auto"
    policy: "uptake.models.LanguageModel | None" = None
    chat: "uptake.data.chat.ChatFormat | None" = None

    @classmethod
    def of(cls, world: "uptake.world.World") -> Self:
        """What a run offers."""
        policy = world.policy
        return cls(world.models, world.folder, device=str(policy.device), policy=policy, chat=world.chat)

    def file(self, name: str) -> Path:
        """The file of a name in the folder; one that names a folder of its own is taken as it is."""
        return self.folder / (name if Path(name).parent.name or Path(name).is_absolute() else f"{self.prefix}{name}")

    def model(self, name: str) -> "uptake.models.LanguageModel":
        """The model of a name; raises InputError where none was given. "policy" is the one that is rated."""
        if name == "policy" and name not in self.models and self.policy is not None:
            return self.policy
        if name not in self.models:
            have = ", ".join(sorted(self.models)) or "none"
            problem = f"this needs a model called {name!r}; given: {have}"
            raise InputError(problem, field="models", allowed=f"--model {name}=PATH")
        return self.models[name]


class RewardSpec(Protocol):
    """Reward spec: settings that print themselves in a recipe and build the reward from the models at hand."""

    # What an annotator made of it divides two rewards by; None prefers with certainty.
    temperature: ClassVar[float | None] = None
    # The settings that a short spelling holds in turn: `classifier:PATH#LABEL`.
    short: ClassVar[tuple[str, ...]] = ()
    # What it reads where a model brings no chat template.
    plain: ClassVar[str] = "the plain one is used: 'User: ...' and 'Assistant: ...' lines"

    @property
    def uses(self) -> tuple[str, ...]:
        """The names of the models that it is built from."""
        return ()

    @property
    def offers(self) -> frozenset[Detail]:
        """What the reward knows beside a number."""
        return frozenset()

    def contents(self, resources: Resources) -> Mapping[str, str]:
        """The settings that name a file or folder, each with a hash of what is there: the name does not count."""
        return {}

    def build(self, resources: Resources) -> Reward: ...
