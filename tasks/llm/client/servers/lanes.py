"""Load balancing over the URLs of one model.

A lane is one URL with its connections and circuit breaker; the least busy available lane gets the
next request. While no lane is up, requests pause without using up attempts. All shards of the
process share lanes and limits, on the event loop.

The first requests of a stage are a probe: a few in flight until one succeeds. If none of
`PROBE_REQUESTS` succeeds, the stage ends with the most frequent reason.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple, NoReturn

from pydantic import SecretStr

from artifacts.ledger.answers import Role
from tasks.llm.client.checks.answer_checks import BadAnswerError, Usage, usage_of
from tasks.llm.client.failures.fault_kinds import (
    DOUBTFUL,
    PASSING,
    REFUSALS,
    Fault,
    FaultKind,
    read_reply,
)
from tasks.llm.client.failures.refusals import hopeless, refusal
from tasks.llm.client.failures.retries import is_used_up
from tasks.llm.client.jobs import Job, Outcome
from tasks.llm.client.servers.circuit_breaker import Breaker
from tasks.llm.client.servers.dialect import Dialect, change_for, written
from tasks.llm.client.servers.rate_limits import RateLimits
from tasks.llm.client.servers.transport import Transport, transport_to
from tasks.llm.client.stop import EndpointDownError
from tasks.llm.settings.llm_config import EndpointSpec, masked
from tasks.llm.settings.urls import shown_url

PROBE_REQUESTS = 20
PROBE_IN_FLIGHT = 4
FIRST_SUCCESS_SECONDS = 120.0
"""Maximum wait of a stage in seconds before the first answer."""

STRANGE_REFUSALS = 5
"""Consecutive refusals by servers that answered before: the key was revoked, or the model
removed."""

LONGEST_POLL_SECONDS = 0.25
TOLD_EVERY_SECONDS = 60.0

logger = logging.getLogger("llm4cdsr")


@dataclass(eq=False)
class Lane:
    """One URL. ``capacity``: maximum requests in flight; halved by rate limits."""

    name: str
    transport: Transport
    capacity: float
    breaker: Breaker = field(default_factory=Breaker)
    pending: int = 0
    fault: Fault | None = None
    refused: Fault | None = None
    has_answered: bool = False
    strange: set[str] = field(default_factory=set)
    told_at: float = float("-inf")


class Turn(NamedTuple):
    """Permission to send one request. A trial is the only request to a server that is down.

    ``wants_control``: the trial is to be a control request.
    """

    lane: Lane
    number: int
    is_trial: bool
    wants_control: bool


class Attempt(NamedTuple):
    """Result of one request. ``tokens`` is None without an answer, hence without cost. ``is_down``:
    the fault is not counted for the job, because its server is down or excluded."""

    tokens: Usage | None
    outcomes: list[Outcome]
    jobs: list[Job]
    fault: Fault | None = None
    is_down: bool = False


class Servers:
    """Open lanes of one model. Use on the event loop only."""

    def __init__(
        self, spec: EndpointSpec, key: SecretStr, limits: RateLimits, dialect: Dialect
    ) -> None:
        self.spec = spec
        self.limits = limits
        self.dialect = dialect
        self.slots = asyncio.Semaphore(spec.concurrency * len(spec.urls))
        self._secret = key.get_secret_value()
        self._fields = dict(spec.parameters)
        self._numbers = itertools.count()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._has_succeeded = False
        self._ended: Exception | None = None
        self._sent = self._in_flight = 0
        self._met: list[Fault] = []
        self._lanes = [
            Lane(shown_url(url), transport_to(url, self._secret, spec), spec.concurrency)
            for url in spec.urls
        ]

    async def admit(self) -> Turn:
        """Waits for the least busy available lane; returns its permission, to be ended by `leave`.

        Raises:
            EndpointDownError, EndpointRefusedError: as `attempt`, also for another request.
        """
        while (lane := self._free(time.monotonic())) is None:
            if self._ended is not None:
                raise type(self._ended)(*self._ended.args)
            await self._change()
        lane.pending += 1
        number = next(self._numbers)
        lane.breaker.begin(number)
        return Turn(lane, number, lane.breaker.is_open, lane.breaker.wants_control)

    def leave(self, turn: Turn) -> None:
        """Ends a permission of `admit`."""
        turn.lane.pending -= 1
        turn.lane.breaker.abandon(turn.number)
        if self._waiting:
            self._wake(1)

    async def close(self) -> None:
        """Closes every connection."""
        for lane in self._lanes:
            await lane.transport.aclose()

    async def attempt(self, turn: Turn, job: Job) -> Attempt:
        """Sends a job's request once.

        Raises:
            EndpointDownError: no server has responded for too long.
            EndpointRefusedError: all prompts would be refused.
        """
        changes = self.dialect.changes | job.changes if job.changes else self.dialect.changes
        body = written(job.body(self.spec.model, self._fields), changes)
        sent_at = time.monotonic()
        self._sent += 1
        self._in_flight += 1
        try:
            reply = await turn.lane.transport.post(job.route, body)
        finally:
            self._in_flight -= 1
        found = reply if isinstance(reply, Fault) else read_reply(reply, job.sent(body))
        if isinstance(found, Fault):
            return self._fault(turn, job, found, sent_at)
        tokens = usage_of(found)
        try:
            outcomes, jobs = job.read(found)
        except BadAnswerError as error:
            return self._fault(turn, job, _of_answer(error, job.texts), sent_at, tokens)
        self._success(turn, job, sent_at, len(outcomes))
        return Attempt(tokens, outcomes, jobs)

    def _end(self, error: Exception) -> NoReturn:
        """Ends the requests of all shards with an error."""
        self._ended = error
        self._wake(len(self._waiting))
        raise error

    def _free(self, now: float) -> Lane | None:
        if self._ended is not None:
            return None
        if self.dialect.is_searching and any(lane.pending for lane in self._lanes):
            return None
        if not self._has_succeeded:
            pending = sum(lane.pending for lane in self._lanes)
            is_sent = self._sent + pending - self._in_flight >= PROBE_REQUESTS
            if is_sent or pending >= self._probe_width():
                return None
        best: Lane | None = None
        for lane in self._lanes:
            if lane.refused is not None or lane.pending >= lane.capacity:
                continue
            if lane.breaker.wait(now) == 0.0 and (best is None or lane.pending < best.pending):
                best = lane
        return best

    def _probe_width(self) -> int:
        """Returns the number of concurrent probe requests: one while adaptations are unknown, so
        that each is learned once. Probe batches have few texts each."""
        is_known = self.dialect.is_proven or any(
            fault.kind is not FaultKind.FIELD for fault in self._met
        )
        return PROBE_IN_FLIGHT if is_known and self.spec.role is Role.CHAT else 1

    async def _change(self) -> None:
        """Waits until another request may be possible."""
        now = time.monotonic()
        waits = [lane.breaker.wait(now) for lane in self._lanes if lane.refused is None]
        soonest = min((wait for wait in waits if wait), default=0.0)
        self._give_up_in_time(now, soonest)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        seconds = min(soonest or LONGEST_POLL_SECONDS, LONGEST_POLL_SECONDS)
        poll = loop.call_later(seconds, _set, waiter)
        try:
            await waiter
        finally:
            poll.cancel()

    def _wake(self, most: int) -> None:
        while self._waiting and most:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                most -= 1

    def _success(self, turn: Turn, job: Job, sent_at: float, answered: int) -> None:
        lane = turn.lane
        self._lives(lane, sent_at)
        lane.has_answered = True
        lane.strange.clear()
        if lane.capacity < self.spec.concurrency:
            lane.capacity = min(self.spec.concurrency, lane.capacity + 1 / lane.capacity)
        if limit := job.origin.took(job.texts, answered):
            is_certain = job.origin.is_certain
            self.dialect.limit_batch(limit, self.spec.model, is_certain=is_certain)
        if job.changes:
            self.dialect.learn(job.changes, self.spec.model)
        self.dialect.came_whole(job.texts, self.spec.model)
        self.dialect.is_proven = True
        if not self._has_succeeded:
            self._has_succeeded = True
            self._wake(len(self._waiting))

    def _lives(self, lane: Lane, sent_at: float) -> None:
        """Registers a response of the server, including refusals."""
        was_open, since, now = lane.breaker.is_open, lane.breaker.troubled_since, time.monotonic()
        lane.breaker.succeeded(sent_at, now)
        if was_open and not lane.breaker.is_open and since is not None:
            logger.info("%s answers again after %.0f s", lane.name, now - since)

    def _fault(
        self, turn: Turn, job: Job, fault: Fault, sent_at: float, tokens: Usage | None = None
    ) -> Attempt:
        """Registers a fault of a request; raises an error that concerns all prompts."""
        lane = turn.lane
        fault = replace(fault, words=masked(fault.words, self._secret))
        lane.fault = fault
        is_suspect = lane.breaker.is_suspect(job.origin.first_fault_at)
        is_vague = self._has_succeeded and not fault.is_judged
        if self._is_refusal(fault, job) and self._refuses(lane, job, fault):
            self._refused(lane, fault)
        elif fault.kind is FaultKind.BUSY:
            self._limited(lane, fault, sent_at)
        elif fault.kind in PASSING or is_vague:
            is_suspect = self._failed(turn, job, fault, is_suspect)
        else:
            self._lives(lane, sent_at)
        self._count(fault)
        is_down = lane.refused is not None or (lane.breaker.is_open and not is_suspect)
        return Attempt(tokens, [], [], fault, is_down)

    def _is_refusal(self, fault: Fault, job: Job) -> bool:
        """Returns whether a fault concerns all prompts, as the refusal of a configured field."""
        if fault.kind is not FaultKind.FIELD or fault.field not in self.spec.fixed_fields:
            return fault.kind in REFUSALS
        if self.dialect.is_proven and not fault.is_judged:
            return False
        return change_for(fault.field, self.spec.fixed_fields, job.texts) is None

    def _refuses(self, lane: Lane, job: Job, fault: Fault) -> bool:
        """Returns whether a refusal is not that of one prompt."""
        if not lane.has_answered or fault.kind not in DOUBTFUL:
            return True
        lane.strange.add(job.first_key)
        return len(lane.strange) >= STRANGE_REFUSALS

    def _refused(self, lane: Lane, fault: Fault) -> None:
        """Excludes a lane; ends all requests if it was the last."""
        lane.refused = fault
        others = [other for other in self._lanes if other.refused is None]
        if not others:
            self._end(refusal(fault, self.spec, lane.name))
        kind, words = fault.kind.value, fault.words
        logger.warning(
            "%s is excluded (%s: %s); %d other URLs remain", lane.name, kind, words, len(others)
        )

    def _limited(self, lane: Lane, fault: Fault, sent_at: float) -> None:
        now = time.monotonic()
        if lane.breaker.rate_limited(sent_at, now, fault.retry_after):
            lane.capacity = max(1.0, min(lane.capacity, lane.pending) / 2)
            if not self._has_succeeded:
                lane.capacity = 1.0
            if now - lane.told_at > TOLD_EVERY_SECONDS:
                lane.told_at = now
                logger.warning(
                    "%s limits the rate (%s); sending more slowly", lane.name, fault.words
                )
        self._give_up_in_time(now, lane.breaker.wait(now) or 0.0)

    def _failed(self, turn: Turn, job: Job, fault: Fault, is_suspect: bool) -> bool:
        """Registers a fault that may be the server's; returns whether it is the job's.

        A job that is used up is suspect only if the server has answered since its own first fault,
        not that of the batch that it is a part of.
        """
        lane, now, was_open = turn.lane, time.monotonic(), turn.lane.breaker.is_open
        nobody_there = fault.kind is FaultKind.UNREACHABLE
        used_up = is_used_up(job, fault, self.spec, self.dialect)
        if used_up:
            is_suspect = lane.breaker.is_suspect(job.first_fault_at)
        if nobody_there or was_open or not is_suspect:
            lane.breaker.failed(
                id(job.origin),
                turn.number,
                now,
                nobody_there=nobody_there,
                is_used_up=used_up and not is_suspect,
            )
        if lane.breaker.is_open and not was_open:
            self._say_down(lane, fault)
        self._give_up_in_time(now, 0.0)
        return is_suspect

    def _count(self, fault: Fault) -> None:
        """Ends a stage after an unsuccessful probe."""
        if self._has_succeeded:
            return
        self._met.append(fault)
        if self._sent >= PROBE_REQUESTS and not self._in_flight:
            self._end(hopeless(self._met, self.spec, self._names()))
        self._wake(len(self._waiting))

    def _give_up_in_time(self, now: float, soonest: float) -> None:
        """Raises an error if all lanes are down for too long, or request a longer pause than the
        outage limit: `EndpointRefusedError` if the last fault is a refusal, `EndpointDownError`."""
        limit = patience = self.spec.outage_seconds
        if not self._has_succeeded:
            patience = min(limit, FIRST_SUCCESS_SECONDS)
        lanes = [lane for lane in self._lanes if lane.refused is None]
        since = [lane.breaker.troubled_since for lane in lanes if lane.breaker.is_in_trouble]
        ages = [now - moment for moment in since if moment is not None]
        is_long = len(ages) == len(lanes) and min(ages, default=0.0) > max(patience, 0.0)
        if not is_long and soonest <= limit:
            return
        if not self._has_succeeded and is_long and self._met:
            self._end(hopeless(self._met, self.spec, self._names()))
        fault = next((lane.fault for lane in lanes if lane.fault), None)
        if fault is not None and fault.kind in REFUSALS:
            self._end(refusal(fault, self.spec, self._names()))
        said = fault.words if fault else "no answer"
        self._end(
            EndpointDownError(
                f"{self.spec.model} at {self._names()} stopped answering ({said}), for over "
                f"{limit / 60:.0f} min. Answers are kept; start the server and run again to resume"
            )
        )

    def _say_down(self, lane: Lane, fault: Fault) -> None:
        others = [
            other for other in self._lanes if other.refused is None and not other.breaker.is_open
        ]
        minutes = self.spec.outage_seconds / 60
        then = (
            f"{len(others)} other URLs remain"
            if others
            else f"pausing, with retries for up to {minutes:.0f} min"
        )
        logger.warning("%s does not answer (%s); %s", lane.name, fault.words, then)

    def _names(self) -> str:
        return ", ".join(lane.name for lane in self._lanes)


def _of_answer(error: BadAnswerError, texts: int) -> Fault:
    words, may_pass = str(error), error.may_pass
    kind, is_judged = FaultKind.BATCH, not error.is_empty
    if not error.vectors or texts == 1:
        kind = FaultKind.BAD_ANSWER
        return Fault(kind, words, may_pass=may_pass, of_all=error.of_all, is_judged=is_judged)
    if error.vectors <= texts // 2:
        return Fault(kind, words, limit=error.vectors, may_pass=may_pass, is_judged=is_judged)
    return Fault(kind, words, may_pass=may_pass, is_short=True, is_judged=is_judged)


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
