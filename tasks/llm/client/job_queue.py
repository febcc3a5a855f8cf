"""Queue of jobs: retries, parts of bisected jobs, new jobs.

A job waiting for its retry does not block others: workers continue with new ones, whose answers
show that the server works.
"""

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from tasks.llm.client.jobs import EmbeddingJob, Job

WAITING_JOBS = 32
"""Maximum jobs waiting for a retry, beside those in flight, before no new one is started."""


class JobQueue:
    """Jobs of one shard. Use on the event loop only.

    ``fitted`` splits a job that exceeds known limits of the servers.
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
        """Waits; returns True if a job may be available, False if none will be."""
        while not self._is_closed:
            due = self._later[0][0] if self._later else None
            if self._ready or self._has_fresh() or (due is not None and due <= time.monotonic()):
                return True
            if not (self._later or self._taken):
                return False
            await self._change(due)
        return False

    def take(self, *, is_trial: bool = False) -> Job | None:
        """Returns a job to send, to be ended by `done`; None if none is available.

        A trial of a server that is down uses a new job with a single text, if available.
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
        """Ends a job of `take`."""
        self._taken.discard(job)
        self._wake()

    def again(self, job: Job, seconds: float) -> None:
        """Requeues a job with a delay in seconds."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), job))
        self._wake()

    def first(self, jobs: Iterable[Job]) -> None:
        """Puts jobs at the head of the queue, in this order."""
        self._ready.extendleft(reversed(list(jobs)))
        self._wake()

    def close(self) -> None:
        """Closes the queue."""
        self._is_closed = True
        self._wake()

    def unfinished(self) -> list[Job]:
        """Returns the started jobs without an outcome."""
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
