"""Client-side request and token rate limits.

All URLs of a model share one limit, because they share an account. Bursts are limited to a tenth of
a minute's quota, because providers refuse a whole minute's quota at once.
"""

from aiolimiter import AsyncLimiter

BURST_SECONDS = 6.0


class RateLimits:
    """The two limits of one model; None means no limit. Use on one event loop only."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._requests = _limiter(requests_per_minute)
        self._tokens = _limiter(tokens_per_minute)

    async def wait(self, tokens: int) -> None:
        """Waits until a request of about this many input and output tokens may be sent."""
        if self._requests is not None:
            await self._requests.acquire(min(1.0, self._requests.max_rate))
        if self._tokens is not None:
            left = float(tokens)
            while left > 0:  # A batch larger than a burst waits for several.
                share = min(left, self._tokens.max_rate)
                await self._tokens.acquire(share)
                left -= share


def _limiter(per_minute: float | None) -> AsyncLimiter | None:
    if per_minute is None:
        return None
    burst = per_minute * BURST_SECONDS / 60
    # With less than one request per burst, the window is extended to hold one.
    return AsyncLimiter(max(burst, 1.0), BURST_SECONDS * max(1.0, 1.0 / burst))
