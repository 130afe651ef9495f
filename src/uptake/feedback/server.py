"""A client for any server of OpenAI's chat protocol: short answers, each on disk before it is used."""

import asyncio
import logging
import os
from collections.abc import Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, final
from urllib.parse import urlsplit

from openai import APIConnectionError, APIStatusError, AsyncOpenAI
from pydantic import ValidationError

from uptake.data.cache import Cache, content_key
from uptake.errors import InputError, UptakeError
from uptake.feedback.completion import Completion

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# Statuses that every other question would meet too.
_HOPELESS = {402: "payment is required", 404: "no such model or address", 429: "too many requests, or no credit left"}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A model behind a server of OpenAI's chat protocol, and how it is asked.

    `url` is what "/chat/completions" is added to: "http://localhost:8000/v1". A key is read from the environment
    variable `key_variable` when it is needed, and kept nowhere. At most `concurrency` questions are open at a time. A
    request that takes longer than `timeout` seconds, breaks off, or meets status 408, 409, 429 or 5xx is sent again, up
    to `retries` times: after as long as the server asks for (Retry-After, up to two minutes), else after a time that
    doubles from 0.5 to 8 seconds, less up to a quarter by chance. `max_tokens` bounds an answer and `top_logprobs` (0
    to 20) says how many log-probabilities to ask for; a server that refuses them is asked without. Prices are per
    million tokens. Raises InputError for a setting out of its range.
    """

    url: str
    model: str
    key_variable: str | None = None
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 10
    max_tokens: int = 8
    top_logprobs: int = 20
    input_price: float = 0.0
    output_price: float = 0.0

    def __post_init__(self) -> None:
        place = urlsplit(self.url)
        if place.username is not None:
            raise InputError("a name or key in the address", field="url", allowed="a key by its environment variable")
        if place.scheme not in ("http", "https") or not place.hostname:
            raise InputError(repr(self.url), field="url", allowed='an address like "http://localhost:8000/v1"')
        for name, right, allowed in (
            ("concurrency", self.concurrency >= 1, "a whole number from 1"),
            ("timeout", self.timeout > 0, "seconds above 0"),
            ("retries", self.retries >= 0, "a whole number from 0"),
            ("max_tokens", self.max_tokens >= 1, "a whole number from 1"),
            ("top_logprobs", 0 <= self.top_logprobs <= 20, "a whole number from 0 to 20"),
            ("input_price", self.input_price >= 0, "a number from 0"),
            ("output_price", self.output_price >= 0, "a number from 0"),
        ):
            if not right:
                raise InputError(f"{getattr(self, name)}", field=name, allowed=allowed)

    def answers(self, texts: Collection[str], cache: Cache, attempt: int = 0) -> dict[str, Completion | None]:
        """The answer to every text, from the cache or else from the server; None where there was none.

        Each `attempt` is another answer to the same text. Raises InputError for a key that is missing or refused and
        UptakeError where no question could be answered: no such model, no credit, no server.
        """
        keys = {text: self._key_of(text, attempt) for text in texts}
        kept = cache.get(keys.values())
        found: dict[str, Completion | None] = {
            text: Completion.model_validate(kept[key]) for text, key in keys.items() if key in kept
        }
        missing = {text: key for text, key in keys.items() if key not in kept}
        return found | (_run(self._ask(missing, cache, attempt)) if missing else {})

    def cost(self, read: int, written: int) -> float:
        """The price of some tokens, in the currency of the prices."""
        return (read * self.input_price + written * self.output_price) / 1e6

    def _key_of(self, text: str, attempt: int) -> str:
        return content_key("answer", self.model, self.max_tokens, self.top_logprobs, attempt, text)

    def _secret(self) -> str:
        """The key; servers without one are sent a word instead, since the protocol wants something."""
        if self.key_variable is None:
            return "none"
        if not os.environ.get(self.key_variable):
            raise InputError("no such environment variable", field=self.key_variable, allowed="the key of the server")
        return os.environ[self.key_variable]

    async def _ask(self, keys: Mapping[str, str], cache: Cache, attempt: int) -> dict[str, Completion | None]:
        secret, gate = self._secret(), asyncio.Semaphore(self.concurrency)
        async with AsyncOpenAI(
            base_url=self.url, api_key=secret, max_retries=self.retries, timeout=self.timeout
        ) as client:
            line = _Line(self, client, attempt)

            async def answer(text: str, key: str) -> Completion | None:
                async with gate:
                    completion = await line.ask(text)
                    if completion and completion.choices:
                        await asyncio.to_thread(cache.put, {key: completion.model_dump()})
                    return completion

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = {text: group.create_task(answer(text, key)) for text, key in keys.items()}
            except ExceptionGroup as several:
                raise several.exceptions[0] from None
        return {text: task.result() for text, task in tasks.items()}


@final
class _Line:
    """An open line to a server: it remembers the fullest form of a request that the server takes."""

    def __init__(self, server: Server, client: AsyncOpenAI, attempt: int) -> None:
        self._server, self._client = server, client
        # Asked again at temperature 0, a model would say the same again.
        plain = {"max_tokens": server.max_tokens, "temperature": min(attempt, 1)}
        full = {**plain, "logprobs": True, "top_logprobs": server.top_logprobs}
        # The newest models of OpenAI's own server take neither a temperature nor `max_tokens`.
        bare = {"max_completion_tokens": server.max_tokens}
        self._forms: list[dict[str, Any]] = [*([full] if server.top_logprobs else []), plain, bare]
        self._place, self._warned = 0, False

    async def ask(self, text: str) -> Completion | None:
        """The server's answer, without choices where it is not one; None where there is none."""
        place = self._place
        while True:
            try:
                response = await self._client.chat.completions.with_raw_response.create(
                    model=self._server.model, messages=[{"role": "user", "content": text}], **self._forms[place]
                )
            except (APIStatusError, APIConnectionError) as error:
                if getattr(error, "status_code", 0) in (400, 422) and place + 1 < len(self._forms):
                    place += 1
                    continue
                self._give_up(error)
                return None
            self._place = max(self._place, place)
            return _parsed(response.http_response.content)

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
            said = str(error).replace(self._client.api_key, "[key]") if server.key_variable else str(error)
            log.warning("%s: no answer to a question: %s", server.url, said[:300])


def _parsed(body: bytes) -> Completion:
    try:
        return Completion.model_validate_json(body)
    except ValidationError:
        return Completion()  # counted by the caller as an answer that is none, and asked for again


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of asynchronous work, in a thread of its own where this one runs a loop already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
