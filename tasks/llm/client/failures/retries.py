"""Retry policy of failed requests.

| fault | reaction |
|---|---|
| a field is refused | repeated without it or with another form of it; kept if that succeeds |
| too many texts | sent in parts; later batches keep to the limit |
| a text too long for the model | sent alone; fails if alone |
| refused (400) | a batch is bisected until the refused text is isolated, which has two tries |
| refused (403, 404) while others are answered | as 5xx, but a prompt has three tries |
| no usable answer | a batch is bisected; one prompt has three tries, one if cut in its reasoning |
| 5xx, timeout, connection cut | repeated once, then bisected; one prompt ``max_retries`` times |
| a refusal of a field or length with status 5xx | repeated once, then handled as that refusal |
| 429 | repeated up to the outage limit |
| unreachable | repeated without counting an attempt: the circuit breaker decides |
| key, credit, model, URL | ends the stage (`tasks.llm.client.servers.lanes`) |

While a server is down, no try is counted. The last try of a job counts only if the server has
answered a request that was sent after the job's first fault (`tasks.llm.client.servers.lanes`).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.llm.client.failures.fault_kinds import REFUSALS, Fault, FaultKind
from tasks.llm.client.jobs import EmbeddingJob, Job
from tasks.llm.client.servers.dialect import Dialect, change_for
from tasks.llm.settings.llm_config import EndpointSpec

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0

BAD_ANSWER_TRIES = 3
"""Attempts after malformed answers, which are often temporary faults of a proxy."""

BATCH_TRIES = 2
"""Attempts of a batch with server errors, before it is bisected."""

VAGUE_TRIES = 2
"""Attempts after refusals that may be those of a server that is down."""

REFUSED_TRIES = 3
"""Attempts of a prompt with a general refusal while other prompts are answered."""


@dataclass(frozen=True)
class Again:
    """Retry of the job after a delay in seconds."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Parts:
    """Replacement of the job by its parts, in this order."""

    jobs: Sequence[Job]


@dataclass(frozen=True)
class Failed:
    """Final failure."""

    reason: str


Step = Again | Parts | Failed


def next_step(
    job: Job, fault: Fault, spec: EndpointSpec, dialect: Dialect, now: float, *, is_down: bool
) -> Step:
    """Returns the reaction to a fault of a job.

    ``is_down``: the server is down, so the fault is not counted for the job.
    """
    origin = job.origin
    if origin.first_fault_at is None:
        origin.first_fault_at = now
    if job.first_fault_at is None:
        job.first_fault_at = now
    if fault.kind is FaultKind.BUSY:
        return _busy(job, fault, spec, now)
    if fault.kind is FaultKind.UNREACHABLE or (is_down and not fault.is_judged):
        return Again()
    if fault.kind is FaultKind.BAD_ANSWER:
        return _bad_answer(job, fault, dialect)
    if not fault.is_judged:
        job.failed += 1
        if job.failed < _tries(job, fault, spec, dialect):
            return Again(_wait(job.failed, fault))
    match fault.kind:
        case FaultKind.FIELD:
            return _otherwise(job, fault, spec, dialect)
        case FaultKind.BATCH:
            return _fewer(job, fault, spec, dialect)
        case FaultKind.TOO_LONG:
            return _without_the_longest(job, fault, dialect)
        case _:
            return _bisected(job, fault, dialect)


def is_used_up(job: Job, fault: Fault, spec: EndpointSpec, dialect: Dialect) -> bool:
    """Returns whether a fault, not the first, ends the tries of a job."""
    if fault.kind is FaultKind.BAD_ANSWER:
        return job.texts == 1 and job.bad == BAD_ANSWER_TRIES - 1
    return 0 < job.failed == _tries(job, fault, spec, dialect) - 1


def fitted(job: Job, dialect: Dialect) -> Sequence[Job]:
    """Returns a job in parts within the known limits of the servers."""
    if not isinstance(job, EmbeddingJob) or job.texts == 1:
        return (job,)
    if (limit := dialect.batch_limit) is not None and job.texts > limit:
        return job.in_parts_of(limit)
    most = dialect.long_bytes
    if most is None or all(len(request.text.encode()) < most for request in job.requests):
        return (job,)
    return job.apart(lambda request: len(request.text.encode()) >= most)


def reason_of(fault: Fault) -> str:
    """Returns the reason of a failed prompt, for the quarantine table."""
    match fault.kind:
        case FaultKind.BAD_ANSWER:
            return fault.words
        case FaultKind.PROMPT | FaultKind.FIELD:
            return f"refused: {fault.words}"
        case FaultKind.TOO_LONG:
            return f"{fault.kind.value}: {fault.words}"
        case _:
            return f"after every retry ({fault.kind.value}): {fault.words}"


def _tries(job: Job, fault: Fault, spec: EndpointSpec, dialect: Dialect) -> int:
    tries = spec.max_retries + 1
    match fault.kind:
        case FaultKind.PROMPT:
            return 1 if job.texts > 1 else min(tries, VAGUE_TRIES)
        case FaultKind.FIELD if not dialect.is_proven:
            return 1
        case FaultKind.FIELD | FaultKind.BATCH | FaultKind.TOO_LONG:
            return min(tries, VAGUE_TRIES)
        case kind if kind in REFUSALS:
            tries = min(tries, REFUSED_TRIES)
        case _:
            pass
    return min(tries, BATCH_TRIES) if job.texts > 1 else tries


def _otherwise(job: Job, fault: Fault, spec: EndpointSpec, dialect: Dialect) -> Step:
    field = fault.field or ""
    change = change_for(field, spec.fixed_fields, job.texts)
    if change is not None and change not in job.changes | dialect.changes:
        job.changes |= {change}
        return Again()
    if field == "input" and isinstance(job, EmbeddingJob) and job.texts > 1:
        return Parts(job.in_parts_of(1))
    return Failed(reason_of(fault))


def _fewer(job: Job, fault: Fault, spec: EndpointSpec, dialect: Dialect) -> Step:
    if not isinstance(job, EmbeddingJob) or job.texts == 1:
        return Failed(reason_of(fault))
    if fault.is_short:
        dialect.came_short([request.key for request in job.requests], spec.model)
        return Parts(job.in_parts_of(min(-(-job.texts // 2), dialect.batch_limit or job.texts)))
    if fault.limit is None:
        return _bisected(job, fault, dialect)
    dialect.limit_batch(fault.limit, spec.model, is_certain=not fault.may_pass)
    return Parts(job.in_parts_of(fault.limit))


def _without_the_longest(job: Job, fault: Fault, dialect: Dialect) -> Step:
    if not isinstance(job, EmbeddingJob):
        return Failed(reason_of(fault))
    if job.texts == 1:
        length = len(job.requests[0].text.encode())
        dialect.long_bytes = min(length, dialect.long_bytes or length)
        return Failed(reason_of(fault))
    # Only once, because the longest text is the likeliest cause; if many are too long, bisecting is
    # faster.
    if job.texts == job.origin.texts:
        return Parts(job.longest_apart())
    return Parts(job.in_parts_of(-(-job.texts // 2)))


def _bisected(job: Job, fault: Fault, dialect: Dialect) -> Step:
    if not isinstance(job, EmbeddingJob) or job.texts == 1:
        return Failed(reason_of(fault))
    if fault.kind is not FaultKind.BAD_ANSWER:  # Malformed answers are temporary; refusals are not.
        origin = job.origin
        origin.refused_at = min(job.texts, origin.refused_at or job.texts)
        origin.is_certain = origin.is_certain or not fault.may_pass
    if not dialect.is_proven:
        return Parts(job.shortest_apart())
    return Parts(job.in_parts_of(-(-job.texts // 2)))


def _bad_answer(job: Job, fault: Fault, dialect: Dialect) -> Step:
    if job.texts > 1 and not fault.of_all:
        return _bisected(job, fault, dialect)
    job.bad += 1
    if fault.may_pass and job.bad < BAD_ANSWER_TRIES:
        return Again(_wait(1, fault))
    return Failed(reason_of(fault))


def _busy(job: Job, fault: Fault, spec: EndpointSpec, now: float) -> Step:
    job.busy += 1
    waited = now - (job.origin.first_fault_at or now)
    if waited > spec.outage_seconds and job.busy > spec.max_retries:
        return Failed(reason_of(fault))
    return Again(_wait(job.busy, Fault(fault.kind, fault.words)))


def _wait(count: int, fault: Fault) -> float:
    """Returns the delay: exponential backoff with jitter in its upper half."""
    longest = min(FIRST_WAIT_SECONDS * 2 ** (count - 1), LONGEST_WAIT_SECONDS)
    asked = min(fault.retry_after or 0.0, LONGEST_WAIT_SECONDS)
    return max(random.uniform(longest / 2, longest), asked)
