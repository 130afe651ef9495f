"""Posts to a server within bounds: of the time of a whole request, of the size of an answer, and of the host."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from random import uniform
from typing import Any

import httpx2

# Of an answer, in bytes. With 20 alternatives to each of 10,000 tokens it has about 25 million.
LARGEST_ANSWER = 1 << 25
# Seconds that a server may ask to be left alone.
_LONGEST_PAUSE = 120.0


class PostError(Exception):
    """Error of a post: what went wrong, with the `status` where the server gave one.

    `passes` says that the same post may fare better later, after `pause` seconds where the server says so; `reached`
    that there is a server, and `moved` that it sends one elsewhere.
    """

    def __init__(
        self,
        problem: str,
        *,
        status: int = 0,
        passes: bool = False,
        pause: float | None = None,
        reached: bool = True,
        moved: bool = False,
    ) -> None:
        super().__init__(problem)
        self.status, self.passes, self.pause, self.reached, self.moved = status, passes, pause, reached, moved

    def wait(self, attempt: int) -> float:
        """Seconds until the next attempt after this one, counted from 0."""
        doubled: float = min(0.5 * 2.0**attempt, 8.0) * uniform(0.75, 1)
        return doubled if self.pause is None else self.pause


def client(url: str, secret: str | None, timeout: float) -> httpx2.AsyncClient:
    """A client for the server at an address: it asks for answers that are not packed, and goes to no other host."""
    home = httpx2.URL(url)

    async def stays(request: httpx2.Request) -> None:
        there = request.url
        plain = (home.scheme, there.scheme) == ("https", "http")
        if plain or (there.host, there.port) != (home.host, home.port):
            raise PostError(f"it sends its questions on to {there.scheme}://{there.netloc.decode()}", moved=True)

    headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
    return httpx2.AsyncClient(
        headers=headers | ({"Authorization": f"Bearer {secret}"} if secret else {}),
        # A whole request has a bound of its own; a server that is not there is told from one that is slow.
        timeout=httpx2.Timeout(None, connect=timeout / 2),
        limits=httpx2.Limits(max_connections=None),
        follow_redirects=True,
        event_hooks={"request": [stays]},
    )


async def post(client: httpx2.AsyncClient, url: str, body: Mapping[str, Any], timeout: float) -> str:
    """What the server says to a body in at most `timeout` seconds from connecting to the last byte.

    Raises PostError for a status that is no success, an answer of more than `LARGEST_ANSWER` bytes, one that is packed
    though nobody asked for that, an address of another host, and a connection that fails.
    """
    try:
        async with (
            asyncio.timeout(timeout),
            client.stream("POST", url, content=json.dumps(body).encode()) as response,
        ):
            text = await _text(response)
    except TimeoutError:
        raise PostError(f"no whole answer in {timeout:g} seconds", passes=True) from None
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        problem = str(error) or f"no connection in {timeout / 2:g} seconds"
        raise PostError(problem, passes=True, reached=False) from error
    except httpx2.HTTPError as error:
        raise PostError(str(error) or type(error).__name__, passes=True) from error
    if not response.is_success:
        raise _refusal(response.status_code, text, response.headers)
    return text


def error_in(text: str) -> PostError | None:
    """The error that a body tells of, under whatever status it came: its code, or else 500."""
    error = _field(text, "error")
    if not error:
        return None
    codes = [error.get(name) for name in ("code", "status")] if isinstance(error, dict) else []
    status = next((int(code) for code in map(str, codes) if code.isdecimal() and 400 <= int(code) < 600), 500)
    return _refusal(status, text, {})


async def _text(response: httpx2.Response) -> str:
    packed = response.headers.get("Content-Encoding", "identity")
    if packed != "identity":
        raise PostError(f"an answer packed by {packed!r}, which was not asked for", status=response.status_code)
    whole = bytearray()
    async for part in response.aiter_raw():
        whole += part
        if len(whole) > LARGEST_ANSWER:
            raise PostError(f"an answer of more than {LARGEST_ANSWER >> 20} MiB", status=response.status_code)
    return whole.decode(errors="replace")


def _refusal(status: int, text: str, headers: Mapping[str, str]) -> PostError:
    problem = _field(text, "error") or _field(text, "message") or _field(text, "detail") or text
    problem = problem.get("message", problem) if isinstance(problem, dict) else problem
    words = " ".join(str(problem).split())
    passes = status in (408, 409, 429) or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return PostError(f"status {status}: {words}", status=status, passes=passes, pause=_pause(headers))


def _field(text: str, name: str) -> Any:
    with suppress(ValueError, RecursionError):
        body = json.loads(text)
        return body.get(name) if isinstance(body, dict) else None
    return None


def _pause(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to be left alone, in any of the three ways of saying so."""
    with suppress(KeyError, ValueError):
        return _bounded(float(headers["retry-after-ms"]) / 1000)
    with suppress(KeyError, ValueError):
        return _bounded(float(headers["retry-after"]))
    with suppress(KeyError, ValueError, TypeError):
        return _bounded((parsedate_to_datetime(headers["retry-after"]) - datetime.now(UTC)).total_seconds())
    return None


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), _LONGEST_PAUSE)
