"""Is a server down? Then nobody else asks it until one trial request comes through.

Closed: everyone may ask. It opens when nobody is there, or when requests of several origins failed
in a row and none succeeded in between. An origin that failed while others were answered is suspect:
what it causes says nothing of the server, however often it is tried. Open: after a pause one
request is let through as a trial; its success closes the breaker, its failure doubles the pause.
After a trial that was answered with an error, a control is wanted instead: a request that nothing
is wrong with.

A rate limit is no outage: everybody stays away for as long as the server asks, or for a pause that
doubles while nothing succeeds. Times are seconds of any clock that the caller reads.
"""

from dataclasses import dataclass, field

FAILED_ORIGINS = 5
"""So many failed in a row: at 30 % failures that happens once in 400 by chance, and then costs
`FIRST_PAUSE`."""

FAILED_AT_FIRST = 2
"""As long as nothing ever succeeded, so many requests of whatever origin say the same."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0


@dataclass
class Breaker:
    """The state of one server.

    ``troubled_since``: the first failure, or rate limit, since the last success.
    """

    is_open: bool = False
    troubled_since: float | None = None
    succeeded_at: float | None = None
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
        """Whether it is down, or limits the rate, and nothing has succeeded since."""
        return self.is_open or self._limit_pause > 0.0

    @property
    def wants_control(self) -> bool:
        """Whether the next trial is to be a request that nothing is wrong with."""
        return self.is_open and self._has_failed_trial and not self._is_deserted

    def wait(self, now: float) -> float | None:
        """Returns seconds until a request may be sent, 0 for now; None while a trial is out."""
        if now < self._stays_away_until:
            return self._stays_away_until - now
        if not self.is_open:
            return 0.0
        return None if self._trial is not None else max(0.0, self._trial_at - now)

    def begin(self, request: int) -> None:
        """A request is sent, `wait` having said 0."""
        if self.is_open:
            self._trial = request

    def abandon(self, request: int) -> None:
        """A request ended without word of the server, as when a run is stopped."""
        if self._trial == request:
            self._trial = None

    def succeeded(self, sent_at: float, now: float) -> None:
        """The server answered a request of ``sent_at``, be it with a refusal. What was sent before
        the breaker opened tells nothing of now."""
        if self.is_open and sent_at < self._opened_at:
            return
        self.is_open = self._has_failed_trial = False
        self.troubled_since = None
        self.succeeded_at = now
        self._trial = None
        self._pause = FIRST_PAUSE
        self._limit_pause = 0.0
        self._failing.clear()

    def rate_limited(self, sent_at: float, now: float, seconds: float | None) -> bool:
        """The server lives, and wants to be left alone, for ``seconds`` where it says so.

        Returns whether this is news: other requests of the same moment met the same limit.
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

    def failed(self, origin: int, request: int, now: float, *, nobody_there: bool) -> None:
        """A request failed in a way that may be the server's fault; ``origin`` is what it is of."""
        self._trouble(now)
        self._failing.add(request if self.succeeded_at is None else origin)
        self._is_deserted = nobody_there
        if self.is_open:
            if self._trial == request:
                self._trial = None
                self._has_failed_trial = True
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                self._trial_at = now + self._pause
            return
        most = FAILED_AT_FIRST if self.succeeded_at is None else FAILED_ORIGINS
        if nobody_there or len(self._failing) >= most:
            self.is_open = True
            self._has_failed_trial = False
            self._opened_at = now
            self._trial_at = now + self._pause

    def is_suspect(self, first_fault_at: float | None) -> bool:
        """Whether an origin failed before others were answered."""
        if first_fault_at is None or self.succeeded_at is None:
            return False
        return self.succeeded_at > first_fault_at

    def _trouble(self, now: float) -> None:
        self.troubled_since = now if self.troubled_since is None else self.troubled_since
