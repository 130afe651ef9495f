"""A server, how it is reached, and many questions to it at a time, each answer on disk before it is used."""

import asyncio
import logging
import os
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final
from urllib.parse import SplitResult, urlsplit

import httpx2
from pydantic import TypeAdapter

from uptake.client.post import PostError, client, error_in, post
from uptake.client.reply import Reply
from uptake.data.cache import Cache
from uptake.errors import InputError, UptakeError
from uptake.support.stop import Stopped
from uptake.support.texts import whole

log = logging.getLogger(__name__)

Body = Mapping[str, Any]
# A question as it is sent.
Form = Callable[[Body], Body]

_Result = TypeVar("_Result")
_Reply = TypeVar("_Reply", bound=Reply)

# Statuses that every other question would meet too.
_HOPELESS = {402: "payment is required", 404: "no such model or address", 429: "too many requests, or no credit left"}
# What no address holds.
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")


def sent_with(settings: Body) -> Form:
    """The form of a question with some settings beside it."""
    return lambda question: {**question, **settings}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A model behind a server of OpenAI's protocol, and how it is reached.

    `url` is what "/chat/completions" is added to: "http://localhost:8000/v1". A key is read from the environment
    variable `key_variable` when it is needed, without the blanks around it, and kept nowhere. At most `concurrency`
    questions are open at a time. A request that takes longer than `timeout` seconds from connecting to the last byte of
    the answer, breaks off, or meets status 408, 409, 429 or 5xx, be it as an error in a body under another status, is
    sent again, up to `retries` times: after as long as the server asks for (Retry-After, up to two minutes), else after
    a time that doubles from 0.5 to 8 seconds, less up to a quarter by chance. No question goes to another host than
    that of `url`. Raises InputError for a setting out of its range.
    """

    url: str
    model: str
    key_variable: str | None = None
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 10

    def __post_init__(self) -> None:
        url = _address(self.url)
        if url.username is not None or url.query:
            raise InputError("a name or key in the address", field="url", allowed="a key by its environment variable")
        if self.key_variable is not None and not self.key_variable.isidentifier():
            # Not repeated here: it may be the key itself.
            raise InputError("no name of an environment variable", field="key_variable", allowed="a name like MY_KEY")
        check_ranges(
            self,
            model=(_is_text(self.model), "a name in Unicode"),
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

        async def commanded() -> str:
            async with client(self.url, self.key(), self.timeout) as connection:
                return await post(connection, url, body, self.timeout)

        try:
            return _run(commanded())
        except PostError as error:
            raise UptakeError(f"{url}: {self._censored(error)} (needed: {needs})") from error

    def key(self) -> str | None:
        """The key, or None for a server without one; InputError where the variable holds no key."""
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable, "").strip()
        allowed = "one that holds the key of the server"
        if not key:
            raise InputError(f"no environment variable {self.key_variable}", field="key_variable", allowed=allowed)
        if not (key.isascii() and key.isprintable() and " " not in key):
            problem = f"the environment variable {self.key_variable} holds blanks or other signs that no key has"
            raise InputError(problem, field="key_variable", allowed=allowed)
        return key

    async def _ask(
        self, path: str, questions: Mapping[str, Body], forms: Sequence[Form], kind: type[_Reply], cache: Cache | None
    ) -> dict[str, _Reply | None]:
        gate = asyncio.Semaphore(self.concurrency)
        async with client(self.url, self.key(), self.timeout) as connection:
            line = _Line(self, connection, path, forms, kind)

            async def answer(key: str, question: Body) -> _Reply | None:
                async with gate:
                    reply = await line.ask(question)
                    if cache and reply and reply.whole:
                        await asyncio.to_thread(cache.put, {key: reply.model_dump()})
                    return reply

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = {key: group.create_task(answer(key, question)) for key, question in questions.items()}
            except ExceptionGroup as several:
                raise several.exceptions[0] from None
        return {key: task.result() for key, task in tasks.items()}

    def _censored(self, error: Exception) -> str:
        """What the server said, without the key."""
        key = self.key()
        return (str(error).replace(key, "[key]") if key else str(error))[:300]


def check_ranges(part: object, **rules: tuple[bool, str]) -> None:
    """Raise InputError for the first setting of a part that is not in its range: `n=(n >= 1, "at least 1")`."""
    for name, (right, allowed) in rules.items():
        if not right:
            raise InputError(f"{getattr(part, name)}", field=name, allowed=allowed)


@final
class _Line(Generic[_Reply]):
    """An open line to a server: it remembers the fullest form of a request that the server takes."""

    def __init__(
        self, server: Server, connection: httpx2.AsyncClient, path: str, forms: Sequence[Form], kind: type[_Reply]
    ) -> None:
        self._server, self._connection, self._forms, self._kind = server, connection, forms, kind
        self._url = path if path == server.url else server.url.rstrip("/") + path
        self._level, self._warned = 0, False

    async def ask(self, question: Body) -> _Reply | None:
        """What the server answers, or None where it does not."""
        level, attempt = self._level, 0
        while True:
            try:
                reply = await self._reply(question, self._forms[level])
            except PostError as error:
                if error.status in (400, 422) and level + 1 < len(self._forms):
                    level += 1
                elif error.passes and attempt < self._server.retries:
                    await asyncio.sleep(error.wait(attempt))
                    attempt += 1
                else:
                    self._give_up(error)
                    return None
            else:
                self._level = max(self._level, level)
                return reply

    async def _reply(self, question: Body, form: Form) -> _Reply:
        body = {"model": self._server.model, **form(question)}
        text = await post(self._connection, self._url, body, self._server.timeout)
        reply = self._kind.of(text, question)
        if not reply.whole and (error := error_in(text)):
            raise error
        return reply

    def _give_up(self, error: PostError) -> None:
        """Raises where no other question would fare better; says once what the server said."""
        server, status = self._server, error.status
        if status in (401, 403):
            name = server.key_variable
            allowed = f"a valid key in the environment variable {name}" if name else "the name of a variable with a key"
            raise InputError(f"{server.url} refuses the key (status {status})", field="key_variable", allowed=allowed)
        if status in _HOPELESS:
            raise UptakeError(f"{server.url}, model {server.model}: {_HOPELESS[status]} (status {status})")
        if error.moved:
            raise InputError(f"{server.url}: {error}", field="url", allowed="the address of the server itself")
        if not error.reached:
            raise UptakeError(f"{server.url} cannot be reached: {error}")
        if not self._warned:
            self._warned = True
            log.warning("%s: no answer to a question: %s", server.url, server._censored(error))


def _address(url: str) -> SplitResult:
    """An address in its parts; InputError where it is none."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not _BLANK.search(url):
            return parts
    problem = "no address of a server" if "@" in url or "?" in url else repr(url)  # which may hold a key
    raise InputError(problem, field="url", allowed='an address like "http://localhost:8000/v1"')


def _is_text(text: str) -> bool:
    with suppress(ValueError):
        whole(text)
        return True
    return False


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of asynchronous work, in a thread of its own where this one runs a loop already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_until_let_go(work))
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, asyncio.run, _until_let_go(work)).result()


# Who lets go of the calls of this thread.
_holder: ContextVar[object] = ContextVar("holder", default=None)

# Calls of this process whose questions are on their way, each with who lets go of it.
_open = set[tuple[asyncio.AbstractEventLoop, "asyncio.Task[Any]", object]]()


async def _until_let_go(work: Coroutine[Any, Any, _Result]) -> _Result:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    loop.set_exception_handler(_unless_stopped)
    call = loop, task, _holder.get()
    _open.add(call)
    try:
        return await work
    finally:
        _open.discard(call)


def _unless_stopped(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what a task failed by, but for a signal that ends the command: it is on its way out, and said there."""
    # Looked for in groups of groups.
    if BaseExceptionGroup("", [context.get("exception") or Exception()]).subgroup(Stopped) is None:
        loop.default_exception_handler(context)


def held_by(holder: object) -> None:
    """From now on, `let_go` of this holder lets go of the questions that this thread has on their way."""
    _holder.set(holder)


def let_go(holder: object) -> None:
    """Let go of the questions on their way that are held by one holder; those calls end by CancelledError."""
    for loop, task, by in list(_open):
        if by is holder:
            with suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(task.cancel)
