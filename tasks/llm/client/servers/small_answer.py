"""One HTTP request whose answer is small, outside of a run: the list of models, a token count."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
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
    """Returns the answer to a GET, or to a POST of ``body``. Redirects are not followed, because
    the headers hold a key.

    Raises:
        httpx.HTTPError: no answer, no whole one within ``limit``, or one over `MOST_BYTES`.
        httpx.InvalidURL: the URL is malformed.
        UnusableProxyError: a proxy variable applies to the URL and cannot be used.
    """
    # In a thread, because the caller's may run an event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _answer(url, headers, limit, body)).result()


async def _answer(
    url: str, headers: Mapping[str, str], limit: timedelta, body: JsonValue
) -> SmallAnswer:
    seconds = limit.total_seconds()
    client = httpx.AsyncClient(
        proxy=proxy_for(url), trust_env=False, timeout=seconds, verify=trusted()
    )
    method = "GET" if body is None else "POST"
    given = {"Accept-Encoding": "identity", **headers}
    try:
        async with (
            asyncio.timeout(seconds),
            client,
            client.stream(method, url, headers=given, json=body) as answer,
        ):
            parts, size = [], 0
            async for part in answer.aiter_raw():
                parts.append(part)
                size += len(part)
                if size > MOST_BYTES:
                    raise httpx.ReadError(f"an answer of more than {MOST_BYTES >> 20} MiB")
            return SmallAnswer(answer.status_code, answer.headers, b"".join(parts))
    except TimeoutError:
        raise httpx.ReadTimeout(f"no whole answer within {seconds:.0f} s") from None
