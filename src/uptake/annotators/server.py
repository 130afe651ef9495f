"""A model behind a server as annotator: it is shown two responses in both orders and says 1 or 2."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, final, get_args

from uptake.annotators.base import Annotator, AnnotatorSpec
from uptake.annotators.chat_server import ChatServer
from uptake.annotators.completion import ChatCompletion, first_preferred
from uptake.annotators.order import OrderAverage, average_orders
from uptake.annotators.question import Instructions
from uptake.data.cache import Cache
from uptake.errors import InputError
from uptake.rewards.base import Resources
from uptake.types import Dropped, Prompt, Verdict

log = logging.getLogger(__name__)

# So much of an answer that is neither 1 nor 2 is kept.
QUOTED = 300


@final
@dataclass(frozen=True, kw_only=True)
class ServerJudge(ChatServer, Annotator, AnnotatorSpec):
    """Server annotator: prefers one of two responses by asking a server of OpenAI's chat protocol, once in each order.

    Where the server offers log-probabilities, P(the first is better) is the share of "1" against "2"; else it is 1 or
    0. The cue begins the answer where the server lets it, else it is the question's last line. An answer that is
    neither is asked for again, `attempts` times in all and in the second way; then the verdict is invalid, as it is
    where the server does not answer. Thoughts before an answer are read past. After three such questions in a row a
    warning quotes the first answer. Every answer goes to the file `cache` before it is used, so nothing is paid for
    twice, whatever stops the work; at most the answers on their way are lost. Equal responses are even at no cost.
    `instructions` name a preset or a file. Raises as `ChatServer` does.
    """

    instructions: str = "helpfulness"
    order_average: OrderAverage = "prob"
    attempts: int = 3
    cache: str = "judge.sqlite"

    short: ClassVar[tuple[str, ...]] = ("url",)
    both_orders: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order_average not in get_args(OrderAverage):
            allowed = ", ".join(get_args(OrderAverage))
            raise InputError(repr(self.order_average), field="order_average", allowed=allowed)
        if self.attempts < 1:
            raise InputError(f"{self.attempts}", field="attempts", allowed="a whole number from 1")
        self._instructions  # noqa: B018 - instructions that cannot be read are an error here, not hours later

    def contents(self, resources: Resources) -> Mapping[str, str]:
        return {"instructions": self._instructions.fingerprint}

    def build(self, resources: Resources) -> "ServerJudge":
        """The annotator that keeps its answers in the folder at hand; InputError for a key that is missing."""
        self.key()
        return replace(self, cache=str(resources.file(self.cache)))

    @property
    def fingerprint(self) -> str:
        settings = self.max_tokens, self.top_logprobs, self.attempts, self.order_average
        return repr((self.model, self._instructions.fingerprint, *settings, "begun"))

    @cached_property
    def _instructions(self) -> Instructions:
        return Instructions.load(self.instructions)

    def compare(self, prompts: Sequence[Prompt], pairs: Sequence[tuple[str, str]]) -> Sequence[Verdict]:
        """One verdict for every prompt with its two responses; raises as `ChatServer.answers` does."""
        by_pair = [self._questions(prompt, *pair) for prompt, pair in zip(prompts, pairs, strict=True)]
        replies = self._replies(dict.fromkeys(text for questions in by_pair for text in questions))
        return [self._verdict([replies[text] for text in questions]) for questions in by_pair]

    def _questions(self, prompt: Prompt, first: str, second: str) -> tuple[str, ...]:
        """The question in both orders; none for equal responses."""
        orders = ((first, second), (second, first)) if first != second else ()
        return tuple(f"{self._instructions(prompt, *order)}\n{self._instructions.cue}" for order in orders)

    def _replies(self, texts: Collection[str]) -> dict[str, "_Reply"]:
        replies = {text: _Reply() for text in texts}
        cache = Cache(self.cache)
        for attempt in range(self.attempts):
            open_ = [text for text, reply in replies.items() if reply.reason is Dropped.NO_CHOICE]
            beginning = "" if attempt else self._instructions.cue
            for text, answer in self.answers(open_, cache, attempt, beginning).items():
                replies[text] = replies[text].then(answer, self._instructions.cue)
        self._warn(list(replies.values()))
        return replies

    def _warn(self, replies: Sequence["_Reply"]) -> None:
        for start in range(len(replies) - 2):
            row = replies[start : start + 3]
            if all(reply.reason is Dropped.NO_CHOICE for reply in row):
                log.warning("%s, model %s: not 1 or 2 but %s", self.url, self.model, row[0].unreadable)
                break

    def _verdict(self, replies: Sequence["_Reply"]) -> Verdict:
        if not replies:
            return Verdict(0.5, (0.5, 0.5))
        one, other = replies
        read, written = one.read + other.read, one.written + other.written
        tokens, cost = read + written, self.cost(read, written)
        if reason := one.reason or other.reason:
            answer = one.unreadable or other.unreadable
            detail = f"not 1 or 2 but {answer}" if reason is Dropped.NO_CHOICE and answer else ""
            return Verdict(0.5, (0.5, 0.5), reason, detail, tokens, cost)
        by_order = one.p, 1 - other.p
        return Verdict(average_orders(*by_order, self.order_average), by_order, tokens=tokens, cost=cost)


@dataclass(frozen=True)
class _Reply:
    """P(the response shown first is better) as one question found it, or the reason why not, and its tokens so far.

    `unreadable` quotes the first answer that was neither choice.
    """

    p: float = 0.5
    reason: Dropped | None = Dropped.NO_CHOICE
    read: int = 0
    written: int = 0
    unreadable: str = ""

    def then(self, answer: ChatCompletion | None, cue: str) -> "_Reply":
        """The reply after one more answer."""
        if answer is None:
            return replace(self, reason=Dropped.NO_ANSWER)
        read, written = answer.tokens
        p = first_preferred(answer, cue)
        spent = replace(self, read=self.read + read, written=self.written + written)
        if p is not None:
            return replace(spent, p=p, reason=None)
        return replace(spent, unreadable=self.unreadable or answer.quoted(QUOTED))
