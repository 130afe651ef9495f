"""The rewards and the annotators there are, by name: what recipes and commands spell becomes a spec that builds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from uptake.annotators.base import AnnotatorSpec
from uptake.errors import InputError
from uptake.rewards.base import Detail, RewardSpec
from uptake.rewards.weighted_sum import SumSpec, WeightedReward
from uptake.support.lazy import lazy
from uptake.support.settings import configured, unknown

# Specs by name, loaded when asked for: those that build a model load Torch, which takes seconds.
_spec = lazy(
    "uptake",
    {
        "annotators.from_reward": ("FromRewardSpec",),
        "annotators.llm": ("LLMJudgeSpec",),
        "annotators.oracle": ("OracleAnnotator",),
        "annotators.person": ("PersonAnnotator",),
        "annotators.server": ("ServerJudge",),
        "follow_up.reward": ("FollowUpSpec",),
        "rewards.classifier": ("ClassifierSpec",),
        "rewards.function": ("FunctionSpec",),
        "rewards.implicit": ("ImplicitSpec",),
        "rewards.length": ("Length",),
        "rewards.likelihood": ("DirectSpec",),
        "rewards.oracle": ("Oracle",),
        "rewards.oracle_tokens": ("OracleTokens",),
        "rewards.server": ("RewardServer",),
        "rewards.token_reward_model": ("TokenRewardSpec",),
        "rewards.weighted_sum": ("SumSpec",),
    },
)


@dataclass(frozen=True)
class Kind:
    """A reward or an annotator of the registry: what it is, the name of the spec, and the settings that its name sets.

    `example` holds the settings that it cannot do without.
    """

    about: str
    named: str
    preset: Mapping[str, Any] = field(default_factory=dict)
    example: Any = field(default_factory=dict)

    @property
    def spec(self) -> Any:
        """The spec of its settings."""
        return _spec(self.named)


_TERMS = [{"reward": "length", "weight": 0.1}]
_CHAT = {"url": "http://localhost:8000/v1", "model": "NAME"}

REWARDS: Mapping[str, Kind] = {
    "follow_up": Kind("follow-up likelihood: what the user would say next, approval minus disapproval", "FollowUpSpec"),
    "follow_up:negatives": Kind(
        "follow-up likelihood without approving follow-ups", "FollowUpSpec", {"polarity": "negative_only"}
    ),
    "follow_up:role_swap": Kind(
        "follow-up likelihood of a model that plays the user in its own turn", "FollowUpSpec", {"format": "role_swap"}
    ),
    "released": Kind(
        "what the released code of follow-up likelihood computes; not a likelihood",
        "FollowUpSpec",
        {"mode": "legacy_released"},
    ),
    "full": Kind("FULL: mean perplexity of disapproving follow-ups", "FollowUpSpec", {"form": "full"}),
    "fed": Kind(
        "FED, as in its paper: summed log-likelihoods, approval minus disapproval",
        "FollowUpSpec",
        {"form": "fed", "reduction": "sum"},
    ),
    "fed_released": Kind(
        "FED, as in its released code: mean log-likelihood of the whole text, conversation included",
        "FollowUpSpec",
        {"mode": "whole_text"},
    ),
    "direct": Kind("mean log-probability per token of the response itself; `direct:sum` is their sum", "DirectSpec"),
    "implicit": Kind("log-ratio of an aligned model to its reference", "ImplicitSpec"),
    "classifier": Kind(
        "a sequence-classification reward model: `classifier:PATH#LABEL`", "ClassifierSpec", example={"path": "PATH"}
    ),
    "token_reward": Kind("a token reward model, by sum or mean: `token_reward:PATH#mean`", "TokenRewardSpec"),
    "server": Kind(
        "a program behind a server, by response, token or mark: `server:URL`",
        "RewardServer",
        example={"url": "http://localhost:8000"},
    ),
    "function": Kind(
        "a Python function of your own: `function:FILE.py:NAME`", "FunctionSpec", example={"path": "FILE.py:NAME"}
    ),
    "length": Kind("characters of the response", "Length"),
    "oracle": Kind("the exact quality, for conversations of the town", "Oracle"),
    "oracle_tokens": Kind("faulty words, for conversations of the town", "OracleTokens"),
    "sum": Kind("a weighted sum of others: `{sum: [{reward: length, weight: 0.1}, ...]}`", "SumSpec", example=_TERMS),
}

# Where a reward has the name of an annotator, the annotator is meant; the reward is `{from_reward: {reward: ...}}`.
ANNOTATORS: Mapping[str, Kind] = {
    "model": Kind("a language model in process, asked which of two responses is better", "LLMJudgeSpec"),
    "server": Kind(
        "a language model behind any OpenAI-compatible server, asked the same", "ServerJudge", example=_CHAT
    ),
    "person": Kind("you, on a local page", "PersonAnnotator"),
    "oracle": Kind("the town's oracle, as wrong and as biased as an experiment wants it", "OracleAnnotator"),
    "from_reward": Kind("the response that a reward rates higher", "FromRewardSpec", example={"reward": "length"}),
}


def reward_spec(choice: Any, needs: Detail | None = None) -> RewardSpec:
    """The reward of a name, of a short spelling, or of a name with settings: `{"classifier": {"path": "./rm"}}`.

    Raises InputError for an unknown name or setting, a setting out of its range, an annotator, and a reward that does
    not know what it `needs` to.
    """
    name, settings = split(choice, "reward", REWARDS)
    spec = _sum(settings) if name == "sum" else _reward(name, settings)
    if needs is not None and needs not in spec.offers:
        allowed = ", ".join(each for each, kind in REWARDS.items() if needs in reward_spec({each: kind.example}).offers)
        raise InputError(f"{name!r} has no {_DETAILS[needs]}", field="reward", allowed=allowed)
    return spec


def annotator_spec(choice: Any) -> AnnotatorSpec:
    """The annotator of a name, or of a name with settings, `{"oracle": {"noise": 0.1}}`; any reward is one too.

    A reward takes its own settings and a `temperature`, which turns two rewards into a probability; None prefers the
    higher one with certainty. Raises InputError as `reward_spec` does.
    """
    name, settings = split(choice, "judge", {**REWARDS, **ANNOTATORS})
    if name in ANNOTATORS and name != "from_reward":
        annotator: AnnotatorSpec = configured("judge", name, ANNOTATORS[name].spec, settings)()
        return annotator
    if name != "from_reward":
        # Its own settings and the temperature stand side by side, but for those of a sum, which are a list.
        options = dict(settings) if isinstance(settings, Mapping) else settings
        apart = (
            {"temperature": options.pop("temperature")}
            if isinstance(options, dict) and "temperature" in options
            else {}
        )
        settings = {"reward": {name: options}, **apart}
    if not isinstance(settings, Mapping) or "reward" not in settings:
        raise InputError("no reward", field="judge", allowed="{from_reward: {reward: ..., temperature: ...}}")
    reward = reward_spec(settings["reward"])
    rest = {"temperature": reward.temperature} | {key: each for key, each in settings.items() if key != "reward"}
    by_reward: AnnotatorSpec = configured("judge", name, ANNOTATORS["from_reward"].spec, rest, elsewhere=("reward",))(
        reward=reward
    )
    return by_reward


def split(choice: Any, kind: str, kinds: Mapping[str, Kind]) -> tuple[str, Any]:
    """Name and settings of a choice, which may be spelled in short: `classifier:PATH#LABEL`.

    Hyphens and underscores are alike in a name. Raises InputError for what is no choice and for a name of another kind.
    """
    if isinstance(choice, Mapping) and len(choice) == 1:
        ((name, settings),) = choice.items()
        return _known(str(name), kind, kinds), {} if settings is None else settings
    if not isinstance(choice, str):
        raise InputError(f"{choice!r}", field=kind, allowed="a name, or {name: {setting: value}}")
    if _plain(choice) in kinds:
        return _plain(choice), {}
    head, _, rest = choice.partition(":")
    name = _known(head if rest else choice, kind, kinds)
    short = kinds[name].spec.short
    if not short:
        raise unknown(kind, choice, kinds)
    return name, dict(zip(short, rest.split("#", len(short) - 1), strict=False))


def table() -> str:
    """Every reward and every judge with its settings and where it works, as a Markdown table for the documentation."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    first: dict[Any, str] = {}
    for name, kind in REWARDS.items():
        spec = reward_spec({name: kind.example})
        lines.append(_row("reward", name, kind, spec.uses, first, ("yes", "yes" if "tokens" in spec.offers else "")))
    for name, kind in ANNOTATORS.items():
        lines.append(_row("judge", name, kind, annotator_spec({name: kind.example}).uses, first, ("", "")))
    return "\n".join(lines) + "\n"


_COLUMNS = (
    *("", "name", "what it is", "settings", "models", "`score`, `mine`, `flr`, `ppo`", "`fine_grained_ppo`"),
    "`judge`, `edit`, `eval`, `bench`, `oaif`",
)


def _row(title: str, name: str, kind: Kind, uses: Sequence[str], first: dict[Any, str], works: Sequence[str]) -> str:
    """A row of the table; `first` holds the name under which the settings of a spec are listed."""
    listed = first.setdefault(kind.spec, name)
    settings = ", ".join(f"`{each.name}`" for each in fields(kind.spec) if each.repr)
    settings = "a list of `reward`, `weight` and `name`" if kind.spec is SumSpec else settings
    settings = settings if listed == name else f"as `{listed}`"
    models = ", ".join(f"`{each}`" for each in uses)
    return f"| {' | '.join((title, f'`{name}`', kind.about, settings, models, *works, 'yes'))} |"


_DETAILS: Mapping[Detail, str] = {"tokens": "rewards of tokens", "logps": "log-probabilities of follow-ups"}


def _known(name: str, kind: str, kinds: Mapping[str, Kind]) -> str:
    plain = _plain(name)
    if plain in ANNOTATORS and plain not in kinds:
        raise InputError(f"{name!r} compares two responses", field=kind, allowed=", ".join(kinds))
    if plain not in kinds:
        raise unknown(kind, name, kinds)
    return plain


def _plain(name: str) -> str:
    return name.strip().replace("-", "_")


def _reward(name: str, settings: Any) -> RewardSpec:
    kind = REWARDS[name]
    every = {**kind.preset, **settings} if isinstance(settings, Mapping) else settings
    spec: RewardSpec = configured("reward", name, kind.spec, every)()
    return spec


def _sum(parts: Any) -> SumSpec:
    """A weighted sum of `{"reward": ..., "weight": ...}`, each with a `name` of its own where one is wanted."""
    if not isinstance(parts, list | tuple) or not parts:
        raise InputError(f"{parts!r}", field="sum", allowed=_LIST)
    terms: list[WeightedReward] = []
    count = Counter[str]()
    for part in parts:
        if not isinstance(part, Mapping) or not {"reward", "weight"} <= part.keys() <= {"reward", "weight", "name"}:
            raise InputError(f"{part!r}", field="sum", allowed=_LIST)
        weight, (name, settings) = part["weight"], split(part["reward"], "reward", REWARDS)
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise InputError(f"a weight of {weight!r}", field="sum", allowed="a finite number")
        if name == "sum":
            raise InputError("a sum in a sum", field="sum", allowed="its parts, one by one")
        count[name] += 1
        label = str(part.get("name", f"{name}_{count[name]}" if count[name] > 1 else name))
        terms.append(WeightedReward(label, reward_spec({name: settings}), float(weight)))
    return SumSpec(tuple(terms))


_LIST = "a list of {reward: NAME or {NAME: {setting: value}}, weight: NUMBER}"
