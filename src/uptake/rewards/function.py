"""A reward of one's own: any Python function of a response."""

import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import module_from_spec, spec_from_loader
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

from uptake.data.chat import ChatFormat
from uptake.data.read import EVERY_COLUMN
from uptake.data.where import bad_row
from uptake.errors import InputError
from uptake.ops.spans import place_rewards
from uptake.rewards.base import Detail, Resources, Response, Reward, RewardDetails, RewardSpec
from uptake.rewards.rate import answered_turns, dialogue_of, invalid, token_offsets
from uptake.support.keys import content_key, prompt_key
from uptake.types import Answered, Dropped, Judgement, Prompt, Rollout, Span

log = logging.getLogger(__name__)

OnError = Literal["stop", "drop"]


@dataclass(frozen=True)
class Rewards:
    """Rewards of a response, from a function or a server: a number, one for every token, and marks on its text.

    Any of the three may be left out; values of tokens and marks add up.
    """

    score: float = 0.0
    tokens: Sequence[float] | None = None
    spans: Sequence[Span] = ()


@dataclass(frozen=True)
class FromFunction(Reward, RewardSpec):
    """Function reward: asks `function` for every response, which says a number, or `Rewards`.

    It is given a `Rollout`, whose `response_ids` are empty where the response is a text that no policy sampled; the
    further columns of its row are `prompt.extra`, and what a recorded response holds beside its text is `fields`.
    `tokens` need one value for each of these ids; `spans` are marks on `rollout.response`, in characters.
    An exception, a value that is not finite or a wrong number of values stops the work with the name of
    the row, and what was judged before stays in the run folder; with `on_error` "drop" the response is left out and
    counted. `name` is what a recipe prints, the function's own name where none is given: a resumed run has to have the
    same. The fingerprint is that of the name and of `code`, the function's own text unless another is given, and not
    of what the function reads.
    """

    function: Callable[[Rollout], "float | Rewards"] = field(repr=False)
    on_error: OnError = "stop"
    name: str = ""
    chat: ChatFormat | None = field(default=None, repr=False)
    code: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.on_error not in ("stop", "drop"):
            raise InputError(repr(self.on_error), field="on_error", allowed="stop, drop")
        if not self.name:
            name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
            object.__setattr__(self, "name", name)
        if not self.code:
            object.__setattr__(self, "code", _source(self.function))

    @property
    def fingerprint(self) -> str:
        return f"FromFunction({self.name}, {content_key(self.code)[:16]})"

    @property
    def columns(self) -> tuple[str, ...]:
        return (EVERY_COLUMN,)

    @property
    def offers(self) -> frozenset[Detail]:
        return frozenset({"tokens"})

    def build(self, resources: Resources) -> "FromFunction":
        return replace(self, chat=resources.chat)

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return [each.judgement for each in self.details(responses)]

    def details(self, responses: Sequence[Response]) -> Sequence[RewardDetails]:
        return [self._details(response) for response in responses]

    def _details(self, response: Response) -> RewardDetails:
        try:
            rollout = as_rollout(response)
        except InputError as error:
            return RewardDetails(invalid(error))
        try:
            rewards = self.function(rollout)
            return self._rated(rollout, rewards if isinstance(rewards, Rewards) else Rewards(float(rewards)))
        except Exception as error:
            problem = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            if self.on_error == "drop":
                log.warning("%s, prompt %s: %s", self.name, rollout.prompt.key, problem)
                return RewardDetails(Judgement(0.0, reason=Dropped.FAILED, detail=type(error).__name__))
            at = f"{self.name}, sample {rollout.sample} of prompt {rollout.prompt.key}: {problem}"
            raise bad_row(at, rollout.prompt.where, field="reward", allowed="finite numbers") from error

    def _rated(self, rollout: Rollout, rewards: Rewards) -> RewardDetails:
        count = len(rollout.response_ids)
        check_rewards(rewards, count, len(rollout.response))
        tokens = [0.0] * count if rewards.tokens is None else list(map(float, rewards.tokens))
        if rewards.spans and count:
            marks = place_rewards(rewards.spans, token_offsets(self.chat, rollout))
            tokens = [one + other for one, other in zip(tokens, marks.values, strict=True)]
        return RewardDetails(Judgement(float(rewards.score), tokens=tuple(tokens)), tuple(rewards.spans))


@dataclass(frozen=True)
class FunctionSpec(RewardSpec):
    """Function reward of the function that a Python file holds: `FunctionSpec("rewards.py:polite")`.

    The file is run, once for its text, which is what the fingerprint is of. Raises InputError where it cannot be, and
    where it has no such function.
    """

    path: str
    on_error: OnError = "stop"

    short: ClassVar[tuple[str, ...]] = ("path",)
    columns: ClassVar[tuple[str, ...]] = (EVERY_COLUMN,)

    def __post_init__(self) -> None:
        if not all(self._parts):
            raise InputError(repr(self.path), field="path", allowed="FILE.py:FUNCTION")

    @property
    def offers(self) -> frozenset[Detail]:
        return frozenset({"tokens"})

    @property
    def _parts(self) -> tuple[str, str]:
        file, _, name = self.path.rpartition(":")
        return file, name

    def contents(self, resources: Resources) -> Mapping[str, str]:
        """The names alone of file and function: a run goes on with a function that was mended."""
        file, name = self._parts
        return {"path": f"{Path(file).name}:{name}"}

    def build(self, resources: Resources) -> Reward:
        file, name = self._parts
        try:
            text = Path(file).read_text(encoding="utf-8")
            module = _run(file, text)
        except Exception as error:
            raise InputError(f"cannot be run: {type(error).__name__}: {error}", path=file, field="path") from error
        function: Any = getattr(module, name, None)
        if not callable(function):
            raise InputError(f"no function {name!r}", path=file, field="path", allowed="FILE.py:FUNCTION")
        return FromFunction(function, self.on_error, name, resources.chat, text)


@cache
def _run(file: str, text: str) -> ModuleType:
    """The module of a file with this text, which is known under a name of its own, as dataclasses in it want."""
    spec = spec_from_loader(f"uptake_function_{content_key(file, text)[:16]}", loader=None, origin=file)
    assert spec is not None
    module = module_from_spec(spec)
    module.__file__ = file
    sys.modules[module.__name__] = module
    exec(compile(text, file, "exec"), module.__dict__)
    return module


def _source(function: Callable[..., Any]) -> str:
    """The source text of a function, or of the class of a callable; empty where Python knows none."""
    for each in (function, type(function)):
        try:
            return inspect.getsource(each)
        except (OSError, TypeError):
            continue
    return ""


def as_rollout(response: Response) -> Rollout:
    """A response as a rollout, without ids where no policy sampled it; raises InputError for what ends with none."""
    if isinstance(response, Rollout):
        return response
    *turns, answer = answered_turns(dialogue_of(response))
    prompt = response.prompt if isinstance(response, Answered) else Prompt(tuple(turns), prompt_key(tuple(turns)))
    return Rollout(prompt, (), (), answer.content, finished=True, source="dataset", fields=answer.fields)


def check_rewards(rewards: Rewards, tokens: int, characters: int) -> None:
    """Raise InputError where rewards do not fit a response of so many tokens and characters, or are not finite."""
    if rewards.tokens is not None and len(rewards.tokens) != tokens:
        raise InputError(f"{len(rewards.tokens)} values for {tokens} tokens", field="tokens", allowed="one a token")
    for span in rewards.spans:
        if not 0 <= span.start <= span.end <= characters:
            allowed = f"places from 0 to {characters}"
            raise InputError(f"span {span.start} to {span.end}", field="spans", allowed=allowed)
        if not isfinite(span.score):
            raise InputError(f"a span with the score {span.score}", field="spans", allowed="finite numbers")
    for value in (rewards.score, *(rewards.tokens or ())):
        if not isfinite(value):
            raise InputError(f"a reward of {value}")
