"""What is to be asked next: what waits for another try, parts of what was taken apart, fresh jobs.

A job that waits for its next try holds up no other: the workers go on with fresh ones, and their
answers show that the server is well.
"""

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from tasks.llm.client.jobs import EmbeddingJob, Job

WAITING_JOBS = 32
"""So many may wait for another try beside those in flight; then no fresh one is begun."""


class JobQueue:
    """The jobs of one shard. Belongs to the asking loop.

    ``fitted`` takes a job apart that the servers are known not to take as it is.
    """

    def __init__(
        self, fresh: Iterator[Job], workers: int, fitted: Callable[[Job], Sequence[Job]]
    ) -> None:
        self._fresh = fresh
        self._fitted = fitted
        self._most = workers + WAITING_JOBS
        self._is_dry = self._is_closed = False
        self._ready: deque[Job] = deque()
        self._later: list[tuple[float, int, Job]] = []
        self._numbers = itertools.count()
        self._taken: set[Job] = set()
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> bool:
        """Returns True when a job may be there to take; False when there will be none."""
        while not self._is_closed:
            due = self._later[0][0] if self._later else None
            if self._ready or self._has_fresh() or (due is not None and due <= time.monotonic()):
                return True
            if not (self._later or self._taken):
                return False
            await self._change(due)
        return False

    def take(self, *, is_trial: bool = False) -> Job | None:
        """Returns a job to send now, `done` with afterwards; None where there is none just now.

        A trial of a server that is down is a fresh job, of a single text, where there is one.
        """
        if self._is_closed:
            return None
        job = self._next_fresh() if is_trial else None
        job = job or self._next_again() or self._next_fresh()
        if job is None:
            return None
        first, *rest = self._fitted(job)
        if is_trial and isinstance(first, EmbeddingJob) and first.texts > 1:
            first, *others = first.shortest_apart()
            rest = [*others, *rest]
        self._ready.extendleft(reversed(rest))
        self._taken.add(first)
        return first

    def done(self, job: Job) -> None:
        """Ends what `take` began."""
        self._taken.discard(job)
        self._wake()

    def again(self, job: Job, seconds: float) -> None:
        """Takes a job back, to be asked after so many seconds."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), job))
        self._wake()

    def first(self, jobs: Iterable[Job]) -> None:
        """Takes jobs that go before all others, in this order."""
        self._ready.extendleft(reversed(list(jobs)))
        self._wake()

    def close(self) -> None:
        """Gives out no more."""
        self._is_closed = True
        self._wake()

    def unfinished(self) -> list[Job]:
        """Returns what was begun and has no outcome."""
        return [*self._ready, *(job for *_, job in self._later), *self._taken]

    def _has_fresh(self) -> bool:
        begun = len(self._ready) + len(self._later) + len(self._taken)
        return not self._is_dry and begun < self._most

    def _next_again(self) -> Job | None:
        if self._later and self._later[0][0] <= time.monotonic():
            return heapq.heappop(self._later)[2]
        return self._ready.popleft() if self._ready else None

    def _next_fresh(self) -> Job | None:
        if not self._has_fresh():
            return None
        if (job := next(self._fresh, None)) is None:
            self._is_dry = True
        return job

    async def _change(self, due: float | None) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        clock = None if due is None else loop.call_later(due - time.monotonic(), self._wake)
        try:
            await waiter
        finally:
            if clock is not None:
                clock.cancel()

    def _wake(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
