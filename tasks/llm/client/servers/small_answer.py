"""HTTP requests with small answers, outside of a run: the list of models, token counts."""

import asyncio
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import NamedTuple

import httpx
from pydantic import JsonValue
from pydantic_core import from_json

from tasks.system.certificates import trusted
from tasks.system.proxies import proxy_for

MOST_BYTES = 16 * 2**20


class SmallAnswer(NamedTuple):
    """Status, headers and body of an answer."""

    status: int
    headers: httpx.Headers
    content: bytes

    def json(self) -> JsonValue:
        """Raises ValueError for a body that is no JSON, or is nested too deeply."""
        return from_json(self.content)


def small_answer(
    url: str, headers: Mapping[str, str], limit: timedelta, body: JsonValue = None
) -> SmallAnswer:
    """Returns the answer to a GET, or to a POST of ``body``, as `small_answers`."""
    with closing(small_answers(url, headers, limit, (body,))) as answers:
        return next(answers)


def small_answers(
    url: str, headers: Mapping[str, str], limit: timedelta, bodies: Iterable[JsonValue]
) -> Generator[SmallAnswer]:
    """Yields the answer to a POST of each body, or to a GET where it is None, by one client; to be
    closed if it is not exhausted. Redirects are not followed, because the headers hold a key.

    Raises:
        httpx.HTTPError: no answer, no whole one within ``limit``, or one over `MOST_BYTES`.
        httpx.InvalidURL: the URL is malformed.
        UnusableProxyError: a proxy variable applies to the URL and cannot be used.
    """
    client = httpx.AsyncClient(
        headers={"Accept-Encoding": "identity", **headers},
        proxy=proxy_for(url),
        trust_env=False,
        timeout=limit.total_seconds(),
        verify=trusted(),
    )
    # In a thread, because the caller's may run an event loop.
    with ThreadPoolExecutor(1) as thread:
        loop = asyncio.Runner()
        try:
            for body in bodies:
                yield thread.submit(loop.run, _answer(client, url, limit, body)).result()
        finally:
            thread.submit(loop.run, client.aclose()).result()
            thread.submit(loop.close).result()


async def _answer(
    client: httpx.AsyncClient, url: str, limit: timedelta, body: JsonValue
) -> SmallAnswer:
    seconds = limit.total_seconds()
    method = "GET" if body is None else "POST"
    try:
        async with asyncio.timeout(seconds), client.stream(method, url, json=body) as answer:
            parts, size = [], 0
            async for part in answer.aiter_raw():
                parts.append(part)
                size += len(part)
                if size > MOST_BYTES:
                    raise httpx.ReadError(f"an answer of more than {MOST_BYTES >> 20} MiB")
            return SmallAnswer(answer.status_code, answer.headers, b"".join(parts))
    except TimeoutError:
        raise httpx.ReadTimeout(f"no whole answer within {seconds:.0f} s") from None
