"""A reward behind a server: one question a response, and answers that are held to what a function's are held to."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from uptake.client import Body, Reply, Server, check_ranges
from uptake.data.cache import Cache, content_key
from uptake.errors import InputError, UptakeError
from uptake.rewards.function import FromFunction, Rewards, check_rewards
from uptake.types import Judgement, Rollout
from uptake.world import World


class NoAnswer(UptakeError):
    """A server has not answered a question, however often it was sent."""


class WrongAnswer(UptakeError):
    """A server has answered something that cannot be the reward of this response."""


@final
@dataclass(frozen=True, kw_only=True)
class RewardServer(Server):
    """Asks a server for the reward of every response, as a judge of responses and of tokens.

    A question is one POST to `url` itself, a JSON object: `messages` (the conversation before the response, each with
    `role` and `content`), `response` (text), `response_ids` (what the policy wrote, the end of the turn among them) and
    `model`, a name that the server is free to use. The answer is an object with one or more of `score`, `tokens` and
    `spans` (each with `start`, `end` and `score`), which mean what they mean in `Rewards`; what else is in it is
    ignored. An answer that cannot be the reward of this response is asked for again, `attempts` times in all; then it
    stops the run with the name of the row or, with `on_error` "drop", the response is left out and counted. So it is
    where the server does not answer. Every right answer goes to the file `cache` in the run's folder before it is used;
    wrong ones do not, so that a run goes on with a server that was mended. Raises as `Server` does.
    """

    model: str = "reward"
    attempts: int = 3
    on_error: Literal["stop", "drop"] = "stop"
    cache: str = "reward.sqlite"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            attempts=(self.attempts >= 1, "a whole number from 1"),
            on_error=(self.on_error in ("stop", "drop"), "stop, drop"),
        )

    def __call__(self, world: World, rollouts: Sequence[Rollout]) -> Sequence[Judgement]:
        questions = {self._key(rollout): _question(rollout) for rollout in rollouts}
        answers = self._answers(questions, Cache(world.folder / self.cache))

        def said(rollout: Rollout) -> Rewards:
            answer = answers[self._key(rollout)]
            if answer is None:
                raise NoAnswer(f"sent {self.retries + 1} times")
            if answer.rewards is None:
                raise WrongAnswer(f"{answer.problem}, asked {self.attempts} times")
            return answer.rewards

        return FromFunction(said, self.on_error, self.url)(world, rollouts)

    def _key(self, rollout: Rollout) -> str:
        return content_key("reward", self.model, _question(rollout))

    def _answers(self, questions: Mapping[str, Body], cache: Cache) -> Mapping[str, "_Answer | None"]:
        found: dict[str, _Answer | None] = {}
        for _ in range(self.attempts):
            found |= self.ask(self.url, questions, [{}], _Answer, cache)
            questions = {key: each for key, each in questions.items() if (said := found[key]) and not said.whole}
        return found


def _question(rollout: Rollout) -> dict[str, Any]:
    return {
        "messages": [asdict(turn) for turn in rollout.prompt.turns],
        "response": rollout.response,
        "response_ids": list(rollout.response_ids),
    }


_REWARDS = TypeAdapter(Rewards)
_NAMES = tuple(each.name for each in fields(Rewards))


class _Answer(Reply):
    """The rewards of a response, or the problem with what was said instead."""

    rewards: Rewards | None = None
    problem: str = ""

    @classmethod
    def of(cls, body: str, question: Body) -> Self:
        try:
            rewards = _REWARDS.validate_json(body, strict=True)
            said = from_json(body)
            if all(said.get(name) is None for name in _NAMES):
                raise InputError("no reward", allowed=f"some of {', '.join(_NAMES)}")
            check_rewards(rewards, len(question["response_ids"]), len(question["response"]))
        except ValidationError as error:
            first = error.errors()[0]
            return cls(problem=f"{'.'.join(map(str, first['loc'])) or 'answer'}: {first['msg']}")
        except InputError as error:
            return cls(problem=str(error))
        return cls(rewards=rewards)

    @property
    def whole(self) -> bool:
        return self.rewards is not None
