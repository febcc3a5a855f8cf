"""Sends many prompts to a model, with bounded concurrency and checked answers.

Each worker repeatedly takes a job, sends it once, and handles the response.
`tasks.llm.client.failures.retries` decides on failures; an error that concerns all prompts is
raised after the requests in flight have ended. A reached budget ends the loop without an error: see
`tasks.llm.settings.budget`.
"""

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import httpx2

from tasks.llm.client import event_loop
from tasks.llm.client.checks.vector_checks import VectorWidth
from tasks.llm.client.failures.retries import Again, Failed, Parts, fitted, next_step
from tasks.llm.client.jobs import (
    ChatJob,
    ChatRequest,
    EmbeddingJob,
    EmbeddingRequest,
    Job,
    Origin,
    Outcome,
    control_job,
)
from tasks.llm.client.servers.dialect import Dialect
from tasks.llm.client.servers.lanes import Attempt, Servers, Turn
from tasks.llm.client.servers.open_servers import open_servers
from tasks.llm.client.stop import EndpointDownError, is_stopped, raise_if_stopped
from tasks.llm.settings.budget import NOTHING, BudgetReachedError, Cost, Purse, Spending
from tasks.llm.settings.llm_config import EndpointSpec, api_key
from tasks.llm.settings.urls import address, shown_url
from tasks.system.certificates import DISTRUSTED, is_distrust, trusted
from tasks.system.machine_errors import is_lack
from tasks.system.proxies import proxy_for

WAITING_JOBS = 32
"""Maximum jobs waiting for a retry, beside those in flight, before no new one is started."""


class JobQueue:
    """Jobs of one shard: new ones, retries, bisected parts. Use on the event loop only.

    A job that waits for its retry does not block others: workers continue with new ones, whose
    answers show that the server works. ``fitted`` splits a job that exceeds known limits of the
    servers.
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


STOP_POLL_SECONDS = 0.2
LAST_ANSWERS_SECONDS = 30.0
"""Seconds to wait for answers in flight, which are paid for, after a fatal error."""

Give = Callable[[list[Outcome]], None]
"""Callback with the outcomes of one request, on the event loop: it must be fast."""


@dataclass(frozen=True)
class Asked:
    """Cost of the requests, and the reason of an early end, if any."""

    paid: Cost
    over_budget: str | None


def complete(
    requests: Iterable[ChatRequest],
    spec: EndpointSpec,
    on_outcomes: Give,
    spending: Spending | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Asked:
    """Sends every chat prompt; ``on_outcomes`` gets each outcome once, in the order of arrival.

    It is called on the event loop; ``on_wait`` is called periodically in this thread.

    Raises:
        EndpointRefusedError, EndpointDownError: earlier outcomes were passed on.
    """
    jobs = (ChatJob(Origin(1), request=request) for request in requests)
    return _ask_all(lambda dialect: jobs, spec, on_outcomes, spending, on_wait)


def embed(
    requests: Iterable[EmbeddingRequest],
    spec: EndpointSpec,
    on_outcomes: Give,
    width: int | None = None,
    spending: Spending | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Asked:
    """Embeds every text, at most ``spec.batch_size`` per request; otherwise as `complete`.

    Vectors of another width than ``width`` are invalid; if it is None, the first vectors or the
    request's ``dimensions`` set it.
    """
    wanted = spec.parameters.get("dimensions")
    expected = VectorWidth(width)
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        expected = VectorWidth(wanted, is_asked_for=True)

    def batches(dialect: Dialect) -> Iterator[Job]:
        rest, most = iter(requests), spec.batch_size
        while batch := list(islice(rest, min(most, dialect.batch_limit or most))):
            yield EmbeddingJob(Origin(len(batch)), requests=batch, expected=expected)

    return _ask_all(batches, spec, on_outcomes, spending, on_wait)


LISTENING_SECONDS = 10
"""Maximum wait for the list of models, whose content is not needed."""


def require_server(spec: EndpointSpec) -> None:
    """Raises `EndpointDownError` immediately if no server listens.

    One that accepts the connection and does not answer within `LISTENING_SECONDS` listens: it may
    answer prompts nevertheless.
    """
    said: list[str] = []
    for url in spec.urls:
        if url is None:
            return
        target = address(url, "/models")
        try:
            with (
                httpx2.Client(
                    proxy=proxy_for(target),
                    trust_env=False,
                    timeout=httpx2.Timeout(
                        spec.timeout_seconds, read=min(LISTENING_SECONDS, spec.timeout_seconds)
                    ),
                    verify=trusted(),
                ) as client,
                client.stream("GET", target),  # Its answer is not read: it may never end.
            ):
                return
        except httpx2.ReadTimeout:
            return
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            if is_lack(error):
                raise
            way = f": {DISTRUSTED}" if is_distrust(error) else ""
            said.append(f"{shown_url(url)} ({error}{way})")
    raise EndpointDownError(
        f"nothing answers at {', '.join(said)}, the URL of {spec.model}; start the server, or "
        "correct LLM4CDSR_CHAT_BASE_URL or LLM4CDSR_EMBED_BASE_URL"
    )


class _Asking:
    """Requests of one shard."""

    def __init__(self, servers: Servers, queue: JobQueue, purse: Purse, give: Give) -> None:
        self.over_budget: str | None = None
        self.in_flight: set[int] = set()
        self._servers = servers
        self._queue = queue
        self._purse = purse
        self._give = give

    async def work(self, number: int) -> None:
        """Loop of one worker."""
        while await self._queue.wait():
            async with self._servers.slots:
                turn = await self._servers.admit()
                try:
                    if turn.wants_control:
                        await self._attempted(turn, control_job(self._servers.spec.role))
                    elif job := self._queue.take(is_trial=turn.is_trial):
                        self.in_flight.add(number)
                        await self._ask(turn, job)
                finally:
                    self.in_flight.discard(number)
                    self._servers.leave(turn)

    def end(self) -> None:
        """Passes on the partial outcomes of unfinished jobs."""
        self._queue.close()
        for job in self._queue.unfinished():
            if outcomes := job.unfinished():
                self._give(outcomes)

    async def _ask(self, turn: Turn, job: Job) -> None:
        attempt = await self._attempted(turn, job)
        if attempt is not None:
            self._follow(job, attempt)
            self._queue.done(job)

    async def _attempted(self, turn: Turn, job: Job) -> Attempt | None:
        """Sends a job; None if the budget does not allow it."""
        try:
            reserved = self._purse.reserve(*job.size)
        except BudgetReachedError as limit:
            self.over_budget = str(limit)
            self._queue.close()
            return None
        paid = NOTHING
        try:
            await self._servers.limits.wait(sum(job.size))
            attempt = await self._servers.attempt(turn, job)
            if attempt.tokens is not None:
                paid = self._purse.cost(*attempt.tokens)
        finally:
            self._purse.settle(reserved, paid)
        return attempt

    def _follow(self, job: Job, attempt: Attempt) -> None:
        if attempt.fault is None:
            if attempt.outcomes:
                self._give(attempt.outcomes)
            if attempt.jobs:
                self._queue.first(attempt.jobs)
            return
        servers = self._servers
        step = next_step(
            job,
            attempt.fault,
            servers.spec,
            servers.dialect,
            time.monotonic(),
            is_down=attempt.is_down,
        )
        match step:
            case Again(seconds):
                self._queue.again(job, seconds)
            case Parts(jobs):
                self._queue.first(jobs)
            case Failed(reason):
                self._give(job.failures(reason))


def _ask_all(
    jobs: Callable[[Dialect], Iterator[Job]],
    spec: EndpointSpec,
    on_outcomes: Give,
    spending: Spending | None,
    on_wait: Callable[[], None],
) -> Asked:
    purse = Purse(spending or Spending(), spec.price)
    key = api_key(spec)
    over_budget: str | None = None

    async def work() -> None:
        nonlocal over_budget
        async with open_servers(spec, key) as servers:
            dialect, workers = servers.dialect, spec.concurrency * len(spec.urls)
            queue = JobQueue(jobs(dialect), workers, lambda job: fitted(job, dialect))
            asking = _Asking(servers, queue, purse, on_outcomes)
            tasks = [asyncio.create_task(asking.work(number)) for number in range(workers)]
            try:
                await _unless_stopped(tasks)
            except Exception:
                queue.close()
                if asking.in_flight and not is_stopped():
                    last = [tasks[number] for number in asking.in_flight]
                    await asyncio.wait(last, timeout=LAST_ANSWERS_SECONDS)
                raise
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                asking.end()
                over_budget = asking.over_budget

    event_loop.run(work(), on_wait)
    return Asked(purse.paid, over_budget)


async def _unless_stopped(workers: list[asyncio.Task[None]]) -> None:
    """Waits for all workers; raises the first error, or `AskingStoppedError`."""
    pending = set(workers)
    while pending:
        raise_if_stopped()
        done, pending = await asyncio.wait(
            pending, timeout=STOP_POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()
