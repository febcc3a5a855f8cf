"""Is a server down? Then nobody else asks it until one trial request comes through.

Closed: everyone may ask. It opens when nobody is there, or when several requests in a row
failed and none succeeded in between; the one prompt that breaks a healthy server does not open
it. Open: after a pause one request is let through as a trial; its success closes the breaker,
its failure doubles the pause. Times are seconds of any clock that the caller reads.
"""

from dataclasses import dataclass, field

FAILED_JOBS = 5
"""So many different requests failed in a row: at 30 % failures that happens once in 400 by
chance, and then costs `FIRST_PAUSE`."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0


@dataclass
class Breaker:
    """The state of one server. ``failed_jobs`` is how many it takes to open it."""

    failed_jobs: int = FAILED_JOBS
    is_open: bool = False
    down_since: float | None = None
    _opened_at: float = 0.0
    _failing: set[int] = field(default_factory=set)
    _pause: float = field(default_factory=lambda: FIRST_PAUSE)
    _trial_at: float = 0.0
    _asks_until: float = 0.0
    _trial: int | None = None

    def wait(self, now: float) -> float | None:
        """Returns seconds until a request may be sent, 0 for now; None while a trial is out."""
        if now < self._asks_until:
            return self._asks_until - now
        if not self.is_open:
            return 0.0
        return None if self._trial is not None else max(0.0, self._trial_at - now)

    def begin(self, job: int) -> None:
        """A request of ``job`` is sent, `wait` having said 0."""
        if self.is_open:
            self._trial = job

    def abandon(self, job: int) -> None:
        """The request of ``job`` ended without word of the server, as when a run is stopped."""
        if self._trial == job:
            self._trial = None

    def succeeded(self, sent_at: float) -> None:
        """The server answered a request of ``sent_at``, be it with a refusal. What was sent before
        the breaker opened tells nothing of now."""
        if self.is_open and sent_at < self._opened_at:
            return
        self.is_open = False
        self.down_since = None
        self._trial = None
        self._pause = FIRST_PAUSE
        self._failing.clear()

    def rate_limited(self, now: float, seconds: float | None) -> None:
        """The server lives, and wants to be left alone for ``seconds`` where it says so."""
        self.is_open = False
        self._trial = None
        self._failing.clear()
        self.down_since = now if self.down_since is None else self.down_since
        self._asks_until = max(self._asks_until, now + (seconds or 0.0))

    def failed(self, job: int, now: float, *, nobody_there: bool) -> None:
        """A request of ``job`` failed in a way that may be the server's fault."""
        self._failing.add(job)
        if self.is_open:
            if self._trial == job:
                self._trial = None
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
                self._trial_at = now + self._pause
        elif nobody_there or len(self._failing) >= self.failed_jobs:
            self.is_open = True
            self._opened_at = now
            self.down_since = now if self.down_since is None else self.down_since
            self._trial_at = now + self._pause
