"""Circuit breaker of a server: after failures, only trial requests until one succeeds.

Closed: all requests are sent. It opens if the server is unreachable, if requests of several origins
failed in a row, or if one has used up its tries. An origin is suspect if a request that was sent
after its failure succeeded: its failures are not counted for the server. Open: after a pause one
trial request is sent; success closes the breaker, failure doubles the pause. After a trial with an
error response, the next trial is a control: a minimal valid request.

A rate limit is not an outage: requests pause for the requested time, or with exponential backoff.
Times are seconds of the caller's clock.
"""

from dataclasses import dataclass, field

FAILED_ORIGINS = 5
"""Consecutive failures that open the breaker: at 30 % failures this happens once in 400 requests by
chance, and costs `FIRST_PAUSE`."""

FAILED_AT_FIRST = 2
"""The same before the first success, for requests of any origin."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0


@dataclass
class Breaker:
    """The state of one server.

    ``troubled_since``: the first failure, or rate limit, since the last success.
    ``answered_sent_at``: when the latest request that succeeded was sent.
    """

    is_open: bool = False
    troubled_since: float | None = None
    answered_sent_at: float | None = None
    _failing: set[int] = field(default_factory=set)
    _opened_at: float = 0.0
    _pause: float = field(default_factory=lambda: FIRST_PAUSE)
    _trial_at: float = 0.0
    _trial: int | None = None
    _is_deserted: bool = False
    _has_failed_trial: bool = False
    _stays_away_until: float = 0.0
    _limited_at: float = float("-inf")
    _limit_pause: float = 0.0

    @property
    def is_in_trouble(self) -> bool:
        """Whether the server is down or limits the rate, without a later success."""
        return self.is_open or self._limit_pause > 0.0

    @property
    def wants_control(self) -> bool:
        """Whether the next trial is to be a control request."""
        return self.is_open and self._has_failed_trial and not self._is_deserted

    def wait(self, now: float) -> float | None:
        """Returns seconds until the next request, 0 for now; None during a trial."""
        if now < self._stays_away_until:
            return self._stays_away_until - now
        if not self.is_open:
            return 0.0
        return None if self._trial is not None else max(0.0, self._trial_at - now)

    def begin(self, request: int) -> None:
        """Registers a sent request, after `wait` returned 0."""
        if self.is_open:
            self._trial = request

    def abandon(self, request: int) -> None:
        """Registers a request that ended without a response, for example by a stop."""
        if self._trial == request:
            self._trial = None

    def succeeded(self, sent_at: float, now: float) -> None:
        """Registers a response, including refusals, to a request of ``sent_at``. Responses to
        requests sent before the breaker opened are ignored."""
        if self.is_open and sent_at < self._opened_at:
            return
        self.is_open = self._has_failed_trial = False
        self.troubled_since = None
        self.answered_sent_at = max(sent_at, self.answered_sent_at or sent_at)
        self._trial = None
        self._pause = FIRST_PAUSE
        self._limit_pause = 0.0
        self._failing.clear()

    def rate_limited(self, sent_at: float, now: float, seconds: float | None) -> bool:
        """Registers a rate limit, with the requested ``seconds`` if stated.

        Returns whether it is new: concurrent requests get the same limit.
        """
        self.is_open = False
        self._trial = None
        self._failing.clear()
        self._trouble(now)
        is_news = sent_at >= self._limited_at
        if is_news:
            self._limited_at = now
            self._limit_pause = min(2 * self._limit_pause or FIRST_PAUSE, LONGEST_PAUSE)
            self._stays_away_until = max(self._stays_away_until, now + self._limit_pause)
        self._stays_away_until = max(self._stays_away_until, now + (seconds or 0.0))
        return is_news

    def failed(
        self, origin: int, request: int, now: float, *, nobody_there: bool, is_used_up: bool
    ) -> None:
        """Registers a failure that may be the server's fault; ``origin`` is the request's.

        ``is_used_up``: the request has failed several times, and its prompt is given up if the
        fault is not the server's.
        """
        self._trouble(now)
        self._failing.add(request if self.answered_sent_at is None else origin)
        self._is_deserted = nobody_there
        if self.is_open:
            if self._trial == request:
                self._trial = None
                self._has_failed_trial = True
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                self._trial_at = now + self._pause
            return
        most = FAILED_AT_FIRST if self.answered_sent_at is None else FAILED_ORIGINS
        if nobody_there or is_used_up or len(self._failing) >= most:
            self.is_open = True
            self._has_failed_trial = False
            self._opened_at = now
            self._trial_at = now + self._pause

    def is_suspect(self, first_fault_at: float | None) -> bool:
        """Returns whether the server answered a request that was sent after an origin's failure."""
        if first_fault_at is None or self.answered_sent_at is None:
            return False
        return self.answered_sent_at > first_fault_at

    def _trouble(self, now: float) -> None:
        self.troubled_since = now if self.troubled_since is None else self.troubled_since
