"""Requests and tokens a minute that a provider allows: who comes too early waits.

All URLs of a model share one limit, as they share one account. A limit may be used up in
bursts of a tenth of a minute, no longer: a minute's worth at once is what providers refuse.
"""

from aiolimiter import AsyncLimiter

BURST_SECONDS = 6.0


class RateLimits:
    """The two limits of one model; None is no limit. Belongs to one event loop."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._requests = _limiter(requests_per_minute)
        self._tokens = _limiter(tokens_per_minute)

    async def wait(self, tokens: int) -> None:
        """Returns when a request of about this many tokens, read and written, may be sent."""
        if self._requests is not None:
            await self._requests.acquire(min(1.0, self._requests.max_rate))
        if self._tokens is not None:
            left = float(tokens)
            while left > 0:  # A large batch is more than a burst: it waits for several.
                share = min(left, self._tokens.max_rate)
                await self._tokens.acquire(share)
                left -= share


def _limiter(per_minute: float | None) -> AsyncLimiter | None:
    if per_minute is None:
        return None
    burst = per_minute * BURST_SECONDS / 60
    # Less than one request a burst: a longer window that holds one.
    return AsyncLimiter(max(burst, 1.0), BURST_SECONDS * max(1.0, 1.0 / burst))
