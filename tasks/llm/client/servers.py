"""The URLs of one model as one endpoint: who is up and least busy is asked next.

A lane is one URL with its client and its breaker. A request goes to the lane with the fewest
requests in flight among those that may be asked. While no lane is up the run pauses: no prompt
loses a try by it. All shards of the process share lanes and limits, on the asking loop.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import openai
from pydantic import JsonValue, SecretStr, ValidationError
from pydantic_core import from_json
from tenacity import AsyncRetrying

from tasks.llm.client.answer_checks import BadAnswer, Usage
from tasks.llm.client.circuit_breaker import FAILED_JOBS, Breaker
from tasks.llm.client.endpoint_faults import (
    Fault,
    passing_fault,
    refusal,
    refuses_everything,
    retry_after,
    said_by,
)
from tasks.llm.client.rate_limits import RateLimits
from tasks.llm.client.retries import Tries
from tasks.llm.client.stop import EndpointDown
from tasks.llm.settings.budget import NOTHING, Cost, Purse
from tasks.llm.settings.llm_config import EndpointSpec

Body = dict[str, JsonValue]
Checked = TypeVar("Checked")

LONGEST_POLL_SECONDS = 0.25

logger = logging.getLogger("llm4cdsr")


class Size(NamedTuple):
    """The tokens that a request has at most."""

    prompt_tokens: int
    completion_tokens: int


@dataclass
class Lane:
    """One URL; None is OpenAI's own."""

    url: str | None
    breaker: Breaker
    client: openai.AsyncOpenAI
    pending: int = 0
    said: str = ""

    @property
    def name(self) -> str:
        return self.url or "OpenAI"


class Lanes:
    """The lanes of one model while they are open. Belongs to the asking loop."""

    def __init__(self, spec: EndpointSpec, key: SecretStr, limits: RateLimits) -> None:
        self.spec = spec
        self.secret = key.get_secret_value()
        self.slots = asyncio.Semaphore(spec.concurrency * len(spec.urls))
        self._limits = limits
        self._jobs = itertools.count()
        # Of two workers, five different requests in a row can't be had soon.
        failed_jobs = min(FAILED_JOBS, max(2, spec.concurrency))
        self._lanes = [
            Lane(url, Breaker(failed_jobs), _client(spec, url, self.secret)) for url in spec.urls
        ]

    async def answer(
        self,
        route: str,
        body: Body,
        check: Callable[[object], Checked],
        size: Size,
        purse: Purse,
    ) -> Checked:
        """Returns one checked answer, repeating the request where that can help.

        ``check`` is given the JSON data that came back, whatever it is.

        Raises:
            BudgetReached: the request, or another try of it, was not allowed.
            EndpointDown: no lane came back within the outage limit.
            EndpointRefused: every other prompt would be refused alike.
            BadAnswer, openai.APIError: this prompt has no answer.
        """
        tries = Tries(next(self._jobs), self.spec.max_retries)
        retrying = AsyncRetrying(retry=tries.go_on, wait=tries.pause, reraise=True)
        return await retrying(self._try, route, body, check, size, purse, tries)

    async def close(self) -> None:
        """Closes every connection."""
        for lane in self._lanes:
            await lane.client.close()

    async def _try(
        self,
        route: str,
        body: Body,
        check: Callable[[object], Checked],
        size: Size,
        purse: Purse,
        tries: Tries,
    ) -> Checked:
        reserved, paid = purse.reserve(*size), NOTHING
        try:
            await self._limits.wait(sum(size))
            reply = await self._sent(route, body, tries)
            paid = _paid(reply, purse)
            return _well_formed(lambda: check(reply))
        except BadAnswer:
            tries.count_bad_answer()
            raise
        finally:
            purse.settle(reserved, paid)

    async def _sent(self, route: str, body: Body, tries: Tries) -> object:
        lane = await self._admitted(tries.job)
        sent_at = time.monotonic()
        try:
            # Not by the client's own methods: their types take longer than the rest of our work.
            # The options name the one key that is shown; by default an admin's would be, too.
            content = await lane.client.post(
                route,
                body=body,
                cast_to=bytes,
                options={"security": {"bearer_auth": True}},
            )
            # No string comes twice but the names of fields: a cache of all takes longer.
            reply: object = from_json(content, cache_strings="keys")
        except _MALFORMED as error:
            self._answers(lane, sent_at)
            raise BadAnswer(f"malformed answer: {error}") from error
        except openai.APIError as error:
            self._failed(lane, error, tries, sent_at)
            raise
        finally:
            lane.pending -= 1
            lane.breaker.abandon(tries.job)
        self._answers(lane, sent_at)
        return reply

    async def _admitted(self, job: int) -> Lane:
        """Returns the least busy lane that may be asked, once there is one."""
        while True:
            now = time.monotonic()
            waits = [lane.breaker.wait(now) for lane in self._lanes]
            ready = [lane for lane, wait in zip(self._lanes, waits, strict=True) if wait == 0.0]
            if ready:
                lane = min(ready, key=lambda lane: lane.pending)
                lane.pending += 1
                lane.breaker.begin(job)
                return lane
            soonest = min((wait for wait in waits if wait is not None), default=0.0)
            self._give_up_in_time(now, soonest)
            await asyncio.sleep(min(soonest or LONGEST_POLL_SECONDS, LONGEST_POLL_SECONDS))

    def _give_up_in_time(self, now: float, soonest: float) -> None:
        """Raises `EndpointDown` where every lane is down for too long, or asks us to stay away."""
        limit = self.spec.outage_seconds
        since = [lane.breaker.down_since for lane in self._lanes]
        down = [now - moment for moment in since if moment is not None]
        if soonest <= limit and (len(down) < len(self._lanes) or min(down) <= limit):
            return
        names = ", ".join(lane.name for lane in self._lanes)
        said = next((lane.said for lane in self._lanes if lane.said), "no answer")
        raise EndpointDown(
            f"{self.spec.model} at {names} stopped answering ({said}) and did not come back within "
            f"{limit / 60:.0f} min. What was answered is kept; start the server and run again to "
            "go on"
        )

    def _answers(self, lane: Lane, sent_at: float) -> None:
        was_open, down_since = lane.breaker.is_open, lane.breaker.down_since
        lane.breaker.succeeded(sent_at)
        if was_open and not lane.breaker.is_open and down_since is not None:
            seconds = time.monotonic() - down_since
            logger.info("%s answers again after %.0f s; going on", lane.name, seconds)

    def _failed(self, lane: Lane, error: openai.APIError, tries: Tries, sent_at: float) -> None:
        """Notes a failure; raises `EndpointRefused` for what would fail every prompt alike."""
        fault = passing_fault(error)
        if fault is None:
            self._answers(lane, sent_at)
            if refuses_everything(error):
                raise refusal(error, self.spec, lane.url, self.secret) from None
            return
        lane.said = said_by(error, self.secret)
        now, was_open = time.monotonic(), lane.breaker.is_open
        if fault is Fault.RATE_LIMITED:
            lane.breaker.rate_limited(now, retry_after(error))
        else:
            lane.breaker.failed(tries.job, now, nobody_there=fault is Fault.UNREACHABLE)
        tries.count_fault(fault, error, lane_is_down=lane.breaker.is_open)
        if lane.breaker.is_open and not was_open:
            self._say_down(lane)

    def _say_down(self, lane: Lane) -> None:
        others = [other for other in self._lanes if not other.breaker.is_open]
        minutes = self.spec.outage_seconds / 60
        then = (
            f"{len(others)} other URLs go on"
            if others
            else f"pausing, and trying again for up to {minutes:.0f} min"
        )
        logger.warning("%s does not answer (%s); %s", lane.name, lane.said, then)


@asynccontextmanager
async def open_lanes(spec: EndpointSpec, key: SecretStr) -> AsyncIterator[Lanes]:
    """Gives the lanes of a model; whoever opens them while they are open shares them."""
    name = spec.model_dump_json()
    if (shared := _open.get(name)) is None:
        limits = _limits.setdefault(
            name, RateLimits(spec.requests_per_minute, spec.tokens_per_minute)
        )
        shared = _open[name] = _Shared(Lanes(spec, key, limits))
    shared.users += 1
    try:
        yield shared.lanes
    finally:
        shared.users -= 1
        if not shared.users:
            del _open[name]
            await shared.lanes.close()


@dataclass
class _Shared:
    lanes: Lanes
    users: int = 0


_open: dict[str, _Shared] = {}
_limits: dict[str, RateLimits] = {}
"""Outlive the lanes: a minute is a minute, also where one stage ends and the next begins."""

_MALFORMED = (openai.APIResponseValidationError, ValueError, TypeError, AttributeError)
"""What a body that is no JSON, or JSON of another shape, reaches us as."""


def _client(spec: EndpointSpec, url: str | None, secret: str) -> openai.AsyncOpenAI:
    # Every try is ours, so that a server that is down can be told from a prompt that is bad.
    return openai.AsyncOpenAI(
        base_url=url, api_key=secret, timeout=spec.timeout_seconds, max_retries=0
    )


def _well_formed(check: Callable[[], Checked]) -> Checked:
    try:
        return check()
    except BadAnswer:
        raise
    except _MALFORMED as error:
        raise BadAnswer(f"malformed answer: {error}") from error


def _paid(reply: object, purse: Purse) -> Cost:
    """What the server says it counted; a reply without it is a request all the same."""
    said = reply.get("usage") if isinstance(reply, dict) else None
    try:
        usage = Usage.model_validate(said or {})
    except ValidationError:
        usage = Usage()
    return purse.cost(usage.prompt_tokens or 0, usage.completion_tokens or 0)
