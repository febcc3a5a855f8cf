"""Asks a model many questions: bounded concurrency, checked answers, none lost, none in vain.

Every answer is checked. A batch that is refused is split until the bad text stands alone; what
cannot be answered becomes a `Failure` with its reason. What would fail every prompt alike (no
key, no such model, servers gone for good) is raised, after the requests in flight have come
back. A budget that is used up ends the asking without an error: see `tasks.llm.settings.budget`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import httpx
import openai
from pydantic import JsonValue

from artifacts.ledger.answers import Answer
from prompts.render import ChatPrompt, Message
from tasks.llm.client import event_loop
from tasks.llm.client.answer_checks import (
    TOO_LONG,
    BadAnswer,
    VectorWidth,
    checked_text,
    checked_vectors,
    is_within,
    marked,
    words_in,
)
from tasks.llm.client.endpoint_faults import EndpointRefused, Fault, passing_fault, reason_of
from tasks.llm.client.servers import Lanes, Size, open_lanes
from tasks.llm.client.stop import EndpointDown, is_stopped, raise_if_stopped
from tasks.llm.settings.budget import BudgetReached, Cost, Purse, Spending, tokens_at_most
from tasks.llm.settings.llm_config import EndpointSpec, api_key

Job = TypeVar("Job")

STOP_POLL_SECONDS = 0.2
LAST_ANSWERS_SECONDS = 30.0
"""After an error that ends the asking: time for answers in flight, which are paid for."""

SHORTER = "Say it again, in the same language, in at most {words} words."


@dataclass(frozen=True)
class Failure:
    """A prompt without a usable answer, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class ChatRequest:
    """One question; ``key`` is the ledger's. An answer of more than ``max_words`` is asked for
    once more."""

    key: str
    prompt: ChatPrompt
    max_tokens: int
    max_words: int | None = None


@dataclass(frozen=True)
class EmbeddingRequest:
    """One text to embed; ``key`` is the ledger's."""

    key: str
    text: str


Outcome = Answer | Failure
Give = Callable[[list[Outcome]], None]
"""Takes what one request brought, on the asking loop: it must be quick."""


@dataclass(frozen=True)
class Asked:
    """What the asking cost, and why it ended before all was asked, if it did."""

    paid: Cost
    over_budget: str | None


def complete(
    requests: Iterable[ChatRequest],
    spec: EndpointSpec,
    on_outcomes: Give,
    spending: Spending | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Asked:
    """Asks every question; ``on_outcomes`` is given each outcome once, in the order of arrival.

    It is called on the asking loop; ``on_wait`` now and then in this thread.

    Raises:
        EndpointRefused, EndpointDown: the outcomes that arrived before were handed out.
    """
    return _ask_all(requests, spec, _complete_one, on_outcomes, spending, on_wait)


def embed(
    requests: Iterable[EmbeddingRequest],
    spec: EndpointSpec,
    on_outcomes: Give,
    width: int | None = None,
    spending: Spending | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Asked:
    """Embeds every text, ``spec.batch_size`` a request; otherwise as `complete`.

    Vectors of another length than ``width`` are bad answers; where it is None, the first
    vectors that come set it.
    """
    expected = VectorWidth(width)

    async def ask(lanes: Lanes, batch: list[EmbeddingRequest], purse: Purse, give: Give) -> None:
        await _embed_batch(lanes, batch, purse, give, expected)

    return _ask_all(_batches(requests, spec.batch_size), spec, ask, on_outcomes, spending, on_wait)


def require_server(spec: EndpointSpec) -> None:
    """Raises `EndpointDown` at once where nothing listens: not after a pause of minutes."""
    said: list[str] = []
    for url in spec.urls:
        if url is None:
            return
        try:
            httpx.get(f"{url}/models", timeout=spec.timeout_seconds)
        except httpx.TransportError as error:
            said.append(f"{url} ({error})")
        else:
            return
    raise EndpointDown(
        f"nothing answers at {', '.join(said)}, where {spec.model} should be; start the server, "
        "or correct LLM4CDSR_CHAT_BASE_URL or LLM4CDSR_EMBED_BASE_URL"
    )


def _ask_all(
    jobs: Iterable[Job],
    spec: EndpointSpec,
    ask: Callable[[Lanes, Job, Purse, Give], Awaitable[None]],
    on_outcomes: Give,
    spending: Spending | None,
    on_wait: Callable[[], None],
) -> Asked:
    queue = iter(jobs)
    purse = Purse(spending or Spending(), spec.price)
    key = api_key(spec)
    over_budget: str | None = None
    ending = False

    async def worker(lanes: Lanes) -> None:
        nonlocal over_budget
        while not ending and over_budget is None:
            async with lanes.slots:
                if (job := next(queue, None)) is None:
                    return
                try:
                    await ask(lanes, job, purse, on_outcomes)
                except BudgetReached as limit:
                    over_budget = str(limit)

    async def work() -> None:
        nonlocal ending
        async with open_lanes(spec, key) as lanes:
            workers = [
                asyncio.create_task(worker(lanes)) for _ in range(spec.concurrency * len(spec.urls))
            ]
            try:
                await _unless_stopped(workers)
            except Exception:
                ending = True
                if not is_stopped():
                    await asyncio.wait(workers, timeout=LAST_ANSWERS_SECONDS)
                raise
            finally:
                for task in workers:
                    task.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    event_loop.run(work(), on_wait)
    return Asked(purse.paid, over_budget)


async def _unless_stopped(workers: list[asyncio.Task[None]]) -> None:
    """Returns when all have ended; raises the first error, or `AskingStopped`."""
    pending = set(workers)
    while pending:
        raise_if_stopped()
        done, pending = await asyncio.wait(
            pending, timeout=STOP_POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()


async def _complete_one(lanes: Lanes, request: ChatRequest, purse: Purse, give: Give) -> None:
    try:
        answer = await _asked(lanes, request, request.prompt.messages, purse)
    except (BadAnswer, openai.APIError) as error:
        give([Failure(request.key, reason_of(error, lanes.secret))])
        return
    if not is_within(answer, request.max_words):
        try:
            answer = await _shorter(lanes, request, answer, purse)
        except (EndpointDown, EndpointRefused, asyncio.CancelledError):
            give([replace(answer, finish_reason=TOO_LONG)])  # It came, and is paid for.
            raise
    give([answer])


async def _asked(
    lanes: Lanes, request: ChatRequest, messages: tuple[Message, ...], purse: Purse
) -> Answer:
    body: dict[str, JsonValue] = {
        "model": lanes.spec.model,
        "messages": [{"role": said.role, "content": said.content} for said in messages],
        "max_tokens": request.max_tokens,
        **lanes.spec.parameters,
    }
    read = sum(tokens_at_most(message.content) for message in messages)
    size = Size(read, request.max_tokens)

    def check(reply: object) -> Answer:
        return checked_text(request.key, reply)

    return await lanes.answer("/chat/completions", body, check, size, purse)


async def _shorter(lanes: Lanes, request: ChatRequest, long: Answer, purse: Purse) -> Answer:
    """Asks once more with a reminder; an answer that stays too long is kept, and marked."""
    reminder = SHORTER.format(words=request.max_words)
    turns = (
        Message(role="assistant", content=long.text or ""),
        Message(role="user", content=reminder),
    )
    try:
        again = await _asked(lanes, request, (*request.prompt.messages, *turns), purse)
    except (BadAnswer, openai.APIError, BudgetReached):
        return replace(long, finish_reason=TOO_LONG)
    kept = again if words_in(again.text or "") < words_in(long.text or "") else long
    return replace(
        marked(kept, request.max_words),
        prompt_tokens=long.prompt_tokens + again.prompt_tokens,
        completion_tokens=long.completion_tokens + again.completion_tokens,
    )


def _batches(requests: Iterable[EmbeddingRequest], size: int) -> Iterator[list[EmbeddingRequest]]:
    rest = iter(requests)
    while batch := list(islice(rest, size)):
        yield batch


async def _embed_batch(
    lanes: Lanes,
    batch: list[EmbeddingRequest],
    purse: Purse,
    give: Give,
    expected: VectorWidth,
) -> None:
    """Gives an outcome for every text. A batch without an answer is halved, because one text may
    be to blame; not where the server asked us to slow down."""
    keys = [request.key for request in batch]
    texts = [request.text for request in batch]
    body: dict[str, JsonValue] = {
        "model": lanes.spec.model,
        "input": [*texts],
        "encoding_format": "base64",
        **lanes.spec.parameters,
    }
    size = Size(sum(tokens_at_most(text) for text in texts), 0)

    def check(reply: object) -> list[Answer]:
        return checked_vectors(keys, reply, expected)

    try:
        answers = await lanes.answer("/embeddings", body, check, size, purse)
    except (BadAnswer, openai.APIError) as error:
        if len(batch) == 1 or passing_fault(error) is Fault.RATE_LIMITED:
            reason = reason_of(error, lanes.secret)
            give([Failure(key, reason) for key in keys])
            return
        half = len(batch) // 2
        await _embed_batch(lanes, batch[:half], purse, give, expected)
        await _embed_batch(lanes, batch[half:], purse, give, expected)
        return
    give([*answers])
