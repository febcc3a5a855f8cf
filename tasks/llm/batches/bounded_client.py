"""HTTP client of the Batch API whose answers are bounded in size and time."""

import time
from collections.abc import Iterator
from typing import cast

import httpx2
import openai

from tasks.llm.client.servers.transport import WHOLE

LEAST_SPEED = 16 * 2**10
"""Bytes per second of an answer that takes longer than `WHOLE` timeouts: no answer may trickle for
ever, and a file of results may take hours."""


def bounded_client(
    most_bytes: int | None, timeout_seconds: float, *, follow_redirects: bool
) -> httpx2.Client:
    """Returns a client for `openai.OpenAI`; an answer beyond the limits, or a compressed one, whose
    size is not known before it is unpacked, is an `httpx2.ReadError`. ``most_bytes`` None: the
    caller counts."""

    def bound(response: httpx2.Response) -> None:
        if encoding := response.headers.get("content-encoding", "").replace("identity", ""):
            raise httpx2.ReadError(
                f"the answer is compressed by {encoding!r}, and the request accepts none"
            )
        stream = cast(httpx2.SyncByteStream, response.stream)
        response.stream = _Bounded(stream, most_bytes, WHOLE * timeout_seconds)

    return openai.DefaultHttpxClient(
        follow_redirects=follow_redirects,
        headers={"Accept-Encoding": "identity"},
        event_hooks={"response": [bound]},
    )


class _Bounded(httpx2.SyncByteStream):
    def __init__(
        self, stream: httpx2.SyncByteStream, most_bytes: int | None, seconds: float
    ) -> None:
        self._stream, self._most, self._seconds = stream, most_bytes, seconds

    def __iter__(self) -> Iterator[bytes]:
        size, begun = 0, time.monotonic()
        for part in self._stream:
            size += len(part)
            if self._most is not None and size > self._most:
                raise httpx2.ReadError(f"an answer of more than {self._most / 2**20:.3g} MiB")
            took = time.monotonic() - begun
            if took > self._seconds and size < took * LEAST_SPEED:
                raise httpx2.ReadError(f"{size:,} bytes of an answer in {took:,.0f} s")
            yield part

    def close(self) -> None:
        self._stream.close()
