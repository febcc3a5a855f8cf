"""Whether and when one request is repeated.

Timeouts, cut connections and server errors cost the prompt a try, unless the server is known
to be down: then the lane's pause decides. A 429 costs none. A malformed answer is asked for
again at once, three times in all.
"""

import random
from dataclasses import dataclass

from tenacity import RetryCallState

from tasks.llm.client.endpoint_faults import Fault, retry_after

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0

BAD_ANSWER_TRIES = 3
"""A malformed answer is often a passing fault of a proxy; a third one in a row is not."""

RATE_LIMITED_TRIES = 50
"""A prompt that is told 429 for ever must not hold up the run for ever."""


@dataclass
class Tries:
    """What one request has been through. ``limit`` is how often it may fail and be repeated."""

    job: int
    limit: int
    failed: int = 0
    bad: int = 0
    rate_limited: int = 0
    _waits: float = 0.0
    _again: bool = False

    def count_fault(self, fault: Fault, error: Exception, *, lane_is_down: bool) -> None:
        """A request failed in a way that another may not."""
        if fault is Fault.RATE_LIMITED:
            self.rate_limited += 1
        elif not lane_is_down and fault is not Fault.UNREACHABLE:
            self.failed += 1
        self._again = self.failed <= self.limit and self.rate_limited <= RATE_LIMITED_TRIES
        asked = retry_after(error) or 0.0
        # Only what these two cases ask for is waited for by the lane, which everyone shares.
        lane_decides = lane_is_down or (fault is Fault.RATE_LIMITED and asked > 0)
        backoff = _backoff(self.failed + self.rate_limited)
        self._waits = 0.0 if lane_decides else max(backoff, min(asked, LONGEST_WAIT_SECONDS))

    def count_bad_answer(self) -> None:
        """A server answered nonsense."""
        self.bad += 1
        self._again = self.bad < BAD_ANSWER_TRIES
        self._waits = _backoff(1)

    def go_on(self, state: RetryCallState) -> bool:
        """Whether the request that just ended is repeated: tenacity's ``retry``."""
        again, self._again = self._again, False
        return again and bool(state.outcome and state.outcome.failed)

    def pause(self, state: RetryCallState) -> float:
        """Seconds until then: tenacity's ``wait``."""
        return self._waits


def _backoff(count: int) -> float:
    """Doubles with each failure; the upper half is drawn, so that many do not come back at once."""
    longest = min(FIRST_WAIT_SECONDS * 2 ** (count - 1), LONGEST_WAIT_SECONDS)
    return random.uniform(longest / 2, longest)
