"""A client for servers, OpenAI's protocol first: many questions at a time, each answer on disk before it is used."""

import asyncio
import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar, final
from urllib.parse import urlsplit

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, OpenAI
from pydantic import BaseModel, TypeAdapter, ValidationError

from uptake.data.cache import Cache
from uptake.errors import InputError, UptakeError

log = logging.getLogger(__name__)

Body = Mapping[str, Any]
# A question as it is sent.
Form = Callable[[Body], Body]

_Result = TypeVar("_Result")
_Reply = TypeVar("_Reply", bound="Reply")

# Statuses that every other question would meet too.
_HOPELESS = {402: "payment is required", 404: "no such model or address", 429: "too many requests, or no credit left"}


class Message(BaseModel):
    """Message of a chat model."""

    content: str | None = None


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Reply(BaseModel):
    """Reply of a server, as far as it is used."""

    @classmethod
    @abstractmethod
    def of(cls, body: str, question: Body) -> Self:
        """The reply that a body holds; one that is not `whole` where it holds no answer to the question."""

    @property
    @abstractmethod
    def whole(self) -> bool:
        """Whether the question is answered; what does not answer it is not kept."""


class Choices(Reply):
    """The part of a model's answer that matters here; without choices where the server sent something else."""

    choices: Sequence[BaseModel] = ()
    usage: Usage | None = None

    @classmethod
    def of(cls, body: str, question: Body) -> Self:
        try:
            return cls.model_validate_json(body)
        except ValidationError:
            return cls()  # without choices: the caller counts it as an answer that is none

    @property
    def whole(self) -> bool:
        return bool(self.choices)

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens read and written, as far as the server counts them."""
        return (self.usage.prompt_tokens, self.usage.completion_tokens) if self.usage else (0, 0)


def sent_with(settings: Body) -> Form:
    """The form of a question with some settings beside it."""
    return lambda question: {**question, **settings}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A model behind a server of OpenAI's protocol, and how it is reached.

    `url` is what "/chat/completions" is added to: "http://localhost:8000/v1". A key is read from the environment
    variable `key_variable` when it is needed, and kept nowhere. At most `concurrency` questions are open at a time. A
    request that takes longer than `timeout` seconds, breaks off, or meets status 408, 409, 429 or 5xx is sent again, up
    to `retries` times: after as long as the server asks for (Retry-After, up to two minutes), else after a time that
    doubles from 0.5 to 8 seconds, less up to a quarter by chance. Raises InputError for a setting out of its range.
    """

    url: str
    model: str
    key_variable: str | None = None
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 10

    def __post_init__(self) -> None:
        url = urlsplit(self.url)
        if url.username is not None or url.query:
            raise InputError("a name or key in the address", field="url", allowed="a key by its environment variable")
        if self.key_variable is not None and not self.key_variable.isidentifier():
            # Not repeated here: it may be the key itself.
            raise InputError("no name of an environment variable", field="key_variable", allowed="a name like MY_KEY")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise InputError(repr(self.url), field="url", allowed='an address like "http://localhost:8000/v1"')
        check_ranges(
            self,
            concurrency=(self.concurrency >= 1, "a whole number from 1"),
            timeout=(self.timeout > 0, "seconds above 0"),
            retries=(self.retries >= 0, "a whole number from 0"),
        )

    def ask(
        self,
        path: str,
        questions: Mapping[str, Body],
        forms: Sequence[Form],
        kind: type[_Reply],
        cache: Cache | None = None,
    ) -> dict[str, _Reply | None]:
        """The reply to every question under its key, from the cache or else from the server; None where there is none.

        `forms` are ways to send a question, the fullest first: a server that refuses one (status 400 or 422) is asked
        in the next. Raises InputError for a key that is missing or refused and UptakeError where no question could be
        answered: no such model, no credit, no server.
        """
        found: dict[str, _Reply | None] = {**cache.get(questions, TypeAdapter(kind))} if cache else {}
        missing = {key: question for key, question in questions.items() if key not in found}
        return found | (_run(self._ask(path, missing, forms, kind, cache)) if missing else {})

    def command(self, path: str, body: Body, needs: str) -> str:
        """Have the server do something, once; `path` counts from the server's root. Returns what it says.

        Raises UptakeError, with what the server `needs` for it, where it does not.
        """
        url = self.url.rstrip("/").removesuffix("/v1") + path
        try:
            with OpenAI(base_url=self.url, api_key=self._secret(), max_retries=0, timeout=self.timeout) as client:
                return client.post(url, cast_to=str, body=body)
        except (APIStatusError, APIConnectionError) as error:
            raise UptakeError(f"{url}: {self._censored(error)} (needed: {needs})") from error

    async def _ask(
        self, path: str, questions: Mapping[str, Body], forms: Sequence[Form], kind: type[_Reply], cache: Cache | None
    ) -> dict[str, _Reply | None]:
        secret, gate = self._secret(), asyncio.Semaphore(self.concurrency)
        async with AsyncOpenAI(
            base_url=self.url, api_key=secret, max_retries=self.retries, timeout=self.timeout
        ) as client:
            line = _Line(self, client, path, forms)

            async def answer(key: str, question: Body) -> _Reply | None:
                async with gate:
                    body = await line.ask(question)
                    reply = None if body is None else kind.of(body, question)
                    if cache and reply and reply.whole:
                        await asyncio.to_thread(cache.put, {key: reply.model_dump()})
                    return reply

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = {key: group.create_task(answer(key, question)) for key, question in questions.items()}
            except ExceptionGroup as several:
                raise several.exceptions[0] from None
        return {key: task.result() for key, task in tasks.items()}

    def _secret(self) -> str:
        """The key; servers without one are sent a word instead, since the protocol wants something."""
        if self.key_variable is None:
            return "none"
        if not os.environ.get(self.key_variable):
            problem = f"no environment variable {self.key_variable}"
            raise InputError(problem, field="key_variable", allowed="one that holds the key of the server")
        return os.environ[self.key_variable]

    def _censored(self, error: Exception) -> str:
        """What the server said, without the key."""
        message = str(error).replace(self._secret(), "[key]") if self.key_variable else str(error)
        return message[:300]


def check_ranges(part: object, **rules: tuple[bool, str]) -> None:
    """Raise InputError for the first setting of a part that is not in its range: `n=(n >= 1, "at least 1")`."""
    for name, (right, allowed) in rules.items():
        if not right:
            raise InputError(f"{getattr(part, name)}", field=name, allowed=allowed)


@final
class _Line:
    """An open line to a server: it remembers the fullest form of a request that the server takes."""

    def __init__(self, server: Server, client: AsyncOpenAI, path: str, forms: Sequence[Form]) -> None:
        self._server, self._client, self._path, self._forms = server, client, path, forms
        self._level, self._warned = 0, False

    async def ask(self, question: Body) -> str | None:
        """What the server answers, or None where it does not."""
        level = self._level
        while True:
            body = {"model": self._server.model, **self._forms[level](question)}
            try:
                answer = await self._client.post(self._path, cast_to=str, body=body)
            except (APIStatusError, APIConnectionError) as error:
                if getattr(error, "status_code", 0) in (400, 422) and level + 1 < len(self._forms):
                    level += 1
                    continue
                self._give_up(error)
                return None
            self._level = max(self._level, level)
            return answer

    def _give_up(self, error: APIStatusError | APIConnectionError) -> None:
        """Raises where no other question would fare better; says once what the server said."""
        server, status = self._server, getattr(error, "status_code", 0)
        if status in (401, 403):
            name = server.key_variable
            allowed = f"a valid key in the environment variable {name}" if name else "the name of a variable with a key"
            raise InputError(f"{server.url} refuses the key (status {status})", field="key_variable", allowed=allowed)
        if status in _HOPELESS:
            raise UptakeError(f"{server.url}, model {server.model}: {_HOPELESS[status]} (status {status})")
        # The cause is an exception of whatever HTTP library stands below: ConnectError or ConnectTimeout.
        if "Connect" in type(error.__cause__).__name__:
            raise UptakeError(f"{server.url} cannot be reached: {error.__cause__}")
        if not self._warned:
            self._warned = True
            log.warning("%s: no answer to a question: %s", server.url, server._censored(error))


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of asynchronous work, in a thread of its own where this one runs a loop already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_until_let_go(work))
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, _until_let_go(work)).result()


# Calls of this process whose questions are on their way.
_open = set[tuple[asyncio.AbstractEventLoop, "asyncio.Task[Any]"]]()


async def _until_let_go(work: Coroutine[Any, Any, _Result]) -> _Result:
    task = asyncio.current_task()
    assert task is not None
    call = asyncio.get_running_loop(), task
    _open.add(call)
    try:
        return await work
    finally:
        _open.discard(call)


def let_go() -> None:
    """Let go of the questions that threads of this process have on their way; those calls end by CancelledError."""
    for loop, task in list(_open):
        with suppress(RuntimeError):  # it has just ended
            loop.call_soon_threadsafe(task.cancel)
