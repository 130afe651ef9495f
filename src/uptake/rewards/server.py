"""A reward behind a server: one question a response, and answers that are held to what a function's are held to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self, final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from uptake.client import Body, Reply, Server, check_ranges, sent_with
from uptake.data.cache import Cache
from uptake.data.chat import ChatFormat
from uptake.data.turns import message_list, of_conversation
from uptake.errors import InputError, UptakeError
from uptake.rewards.base import Detail, Resources, Response, Reward, RewardDetails, RewardSpec
from uptake.rewards.function import FromFunction, OnError, Rewards, as_rollout, check_rewards
from uptake.support.keys import content_key
from uptake.types import Judgement, Rollout


class NoAnswer(UptakeError):
    """A server has not answered a question, however often it was sent."""


class WrongAnswer(UptakeError):
    """A server has answered something that cannot be the reward of this response."""


@final
@dataclass(frozen=True, kw_only=True)
class RewardServer(Server, Reward, RewardSpec):
    """Server reward: asks a server for the reward of every response and of its tokens.

    A question is one POST to `url` itself, a JSON object: `messages` (the conversation before the response, each with
    `role` and `content`), `response` (text), `response_ids` (what a policy sampled, the end of the turn among them;
    empty for a text), for a recorded response with tool calls or other `fields` these, and `model`, a name that the
    server is free to use. The answer is an object with one or more of `score`, `tokens` and `spans` (each with `start`,
    `end` and `score`), which mean what they mean in `Rewards`; what else is in it is ignored. An answer that cannot be
    the reward of this response is asked for again, `attempts` times in all; then it stops the run with the name of the
    row or, with `on_error` "drop", the response is left out and counted. So it is where the server does not answer.
    Every right answer goes to the file `cache`, of a run in its folder, before it is used; wrong ones do not, so that a
    run goes on with a server that was mended. Raises as `Server` does.
    """

    model: str = "reward"
    attempts: int = 3
    on_error: OnError = "stop"
    cache: str = "reward.sqlite"
    chat: ChatFormat | None = field(default=None, repr=False)

    short: ClassVar[tuple[str, ...]] = ("url",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            attempts=(self.attempts >= 1, "a whole number from 1"),
            on_error=(self.on_error in ("stop", "drop"), "stop, drop"),
        )

    @property
    def fingerprint(self) -> str:
        return f"RewardServer({self.url}, {self.model})"

    @property
    def offers(self) -> frozenset[Detail]:
        return frozenset({"tokens"})

    def build(self, resources: Resources) -> "RewardServer":
        self.key()
        return replace(self, cache=str(resources.file(self.cache)), chat=resources.chat)

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return [each.judgement for each in self.details(responses)]

    def details(self, responses: Sequence[Response]) -> Sequence[RewardDetails]:
        rollouts = [rollout for rollout in map(_rollout, responses) if rollout is not None]
        questions = {self._key(rollout): _question(rollout) for rollout in rollouts}
        answers = self._answers(questions, Cache(self.cache))

        def answered(rollout: Rollout) -> Rewards:
            answer = answers[self._key(rollout)]
            if answer is None:
                raise NoAnswer(f"sent {self.retries + 1} times")
            if answer.rewards is None:
                raise WrongAnswer(f"{answer.problem}, asked {self.attempts} times")
            return answer.rewards

        return FromFunction(answered, self.on_error, self.url, self.chat).details(responses)

    def _key(self, rollout: Rollout) -> str:
        return content_key("reward", self.url, self.model, _question(rollout))

    def _answers(self, questions: Mapping[str, Body], cache: Cache) -> Mapping[str, "_Answer | None"]:
        found: dict[str, _Answer | None] = {}
        for _ in range(self.attempts):
            found |= self.ask(self.url, questions, [sent_with({})], _Answer, cache)
            questions = {key: each for key, each in questions.items() if (answer := found[key]) and not answer.whole}
        return found


def _rollout(response: Response) -> Rollout | None:
    """A response to ask about; None for what ends with no response, which is no question."""
    try:
        return as_rollout(response)
    except InputError:
        return None


def _question(rollout: Rollout) -> dict[str, Any]:
    return {
        "messages": message_list(rollout.prompt.turns),
        **of_conversation(rollout.prompt.turns),
        "response": rollout.response,
        "response_ids": list(rollout.response_ids),
        **({"fields": dict(rollout.fields)} if rollout.fields else {}),
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
            fields = from_json(body)
            if all(fields.get(name) is None for name in _NAMES):
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
