"""The client of an OpenAI-compatible endpoint: bounded concurrency, checked answers.

The `openai` package retries what is worth retrying (429, 5xx, timeouts, cut connections) with
exponential backoff and jitter, honouring ``Retry-After``. Here every answer is checked, a
batch that is refused is split until the one bad text stands alone, and what cannot be
answered becomes a `Failure` with its reason. Errors that would fail every prompt alike (no
key, no such model, server gone) are raised.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import httpx
import openai
from openai.types.chat import ChatCompletionMessageParam
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from artifacts.answers import Answer
from prompts.render import ChatPrompt, Message, one_line
from tasks.answer_checks import BadAnswer, VectorWidth, checked_text, checked_vectors
from tasks.llm_config import NO_KEY, EndpointSpec, api_key

Job = TypeVar("Job")
Reply = TypeVar("Reply")

BAD_ANSWER_TRIES = 3
"""A malformed answer is often a passing fault of a proxy; a third one in a row is not."""

STOP_POLL_SECONDS = 0.2

CONSECUTIVE_OUTAGES = 8
"""Requests in a row that found no server, each after all its retries: then it is down."""


class EndpointRefused(RuntimeError):
    """The endpoint refuses everything: wrong key, no such model, no permission."""


class EndpointDown(RuntimeError):
    """The endpoint stopped answering. What was answered is kept; run again to go on."""


class AskingStopped(RuntimeError):
    """The run that asked is ending: an interrupt, or a failure elsewhere."""


@dataclass(frozen=True)
class Failure:
    """A prompt without a usable answer, and why."""

    key: str
    reason: str
    is_outage: bool = False


@dataclass(frozen=True)
class ChatRequest:
    """One question; ``key`` is the ledger's."""

    key: str
    prompt: ChatPrompt
    max_tokens: int


@dataclass(frozen=True)
class EmbeddingRequest:
    """One text to embed; ``key`` is the ledger's."""

    key: str
    text: str


Outcome = Answer | Failure

_stop = threading.Event()


def stop_asking() -> None:
    """Ends every `complete` and `embed` of this process, in whichever thread, within a moment.

    Without it, shards would go on retrying against servers that an interrupt has stopped.
    """
    _stop.set()


def allow_asking() -> None:
    """Takes `stop_asking` back, for the next run in the same process."""
    _stop.clear()


def raise_if_stopped() -> None:
    """Raises `AskingStopped` after `stop_asking`; for who waits without asking."""
    if _stop.is_set():
        raise AskingStopped("the run was interrupted; what was answered is kept")


def complete(
    requests: Iterable[ChatRequest], spec: EndpointSpec, on_outcome: Callable[[Outcome], None]
) -> None:
    """Asks every question; ``on_outcome`` is called once for each, in the order of arrival.

    Raises:
        EndpointRefused, EndpointDown: the outcomes that arrived before were handed out.
    """

    async def ask(client: openai.AsyncOpenAI, request: ChatRequest) -> list[Outcome]:
        return [await _complete_one(client, spec, request)]

    asyncio.run(_run_all(requests, spec, ask, on_outcome))


def embed(
    requests: Iterable[EmbeddingRequest],
    spec: EndpointSpec,
    on_outcome: Callable[[Outcome], None],
    width: int | None = None,
) -> None:
    """Embeds every text, ``spec.batch_size`` a request; otherwise as `complete`.

    Vectors of another length than ``width`` are bad answers; where it is None, the first
    vectors that come set it.
    """
    expected = VectorWidth(width)

    async def ask(client: openai.AsyncOpenAI, batch: list[EmbeddingRequest]) -> list[Outcome]:
        return await _embed_batch(client, spec, batch, expected)

    texts = list(requests)
    batches = (texts[i : i + spec.batch_size] for i in range(0, len(texts), spec.batch_size))
    asyncio.run(_run_all(batches, spec, ask, on_outcome))


def require_server(spec: EndpointSpec) -> None:
    """Raises `EndpointDown` at once where nothing listens: not after every prompt's retries."""
    if spec.base_url is None:
        return
    try:
        httpx.get(f"{spec.base_url}/models", timeout=spec.timeout_seconds)
    except httpx.TransportError as error:
        raise EndpointDown(
            f"nothing answers at {spec.base_url}, where {spec.model} should be ({error}); start "
            "the server, or correct LLM4CDSR_CHAT_BASE_URL or LLM4CDSR_EMBED_BASE_URL"
        ) from error


async def _run_all(
    jobs: Iterable[Job],
    spec: EndpointSpec,
    ask: Callable[[openai.AsyncOpenAI, Job], Awaitable[list[Outcome]]],
    on_outcome: Callable[[Outcome], None],
) -> None:
    queue = iter(jobs)
    outages = 0

    async def work(client: openai.AsyncOpenAI) -> None:
        nonlocal outages
        for job in queue:
            lost = None
            for outcome in await ask(client, job):
                on_outcome(outcome)
                if isinstance(outcome, Failure) and outcome.is_outage:
                    lost = outcome
            outages = outages + 1 if lost else 0
            if lost and outages >= CONSECUTIVE_OUTAGES:
                raise EndpointDown(
                    f"{spec.model} at {spec.base_url or 'OpenAI'} stopped answering: "
                    f"{lost.reason}. What was answered is kept; start the server and run again "
                    "to go on"
                )

    async with _client(spec) as client:
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(_watch_for_stop())
                workers = [group.create_task(work(client)) for _ in range(spec.concurrency)]
                await asyncio.gather(*workers)
                watch.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None


async def _watch_for_stop() -> None:
    while True:
        raise_if_stopped()
        await asyncio.sleep(STOP_POLL_SECONDS)


def _client(spec: EndpointSpec) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=spec.base_url,
        api_key=api_key(spec).get_secret_value(),
        timeout=spec.timeout_seconds,
        max_retries=spec.max_retries,
    )


async def _complete_one(
    client: openai.AsyncOpenAI, spec: EndpointSpec, request: ChatRequest
) -> Outcome:
    messages = [_message_parameter(message) for message in request.prompt.messages]

    async def once() -> Answer:
        reply = await client.chat.completions.create(
            model=spec.model,
            messages=messages,
            max_tokens=request.max_tokens,
            extra_body=spec.parameters,
        )
        return checked_text(request.key, reply)

    try:
        return await _again_if_bad(once)
    except (BadAnswer, openai.APIError) as error:
        return _failure(request.key, spec, client.api_key, error)


def _message_parameter(message: Message) -> ChatCompletionMessageParam:
    match message.role:
        case "system":
            return {"role": "system", "content": message.content}
        case "assistant":
            return {"role": "assistant", "content": message.content}
        case "user":
            return {"role": "user", "content": message.content}


async def _embed_batch(
    client: openai.AsyncOpenAI,
    spec: EndpointSpec,
    batch: list[EmbeddingRequest],
    expected: VectorWidth,
) -> list[Outcome]:
    async def once() -> list[Outcome]:
        reply = await client.embeddings.create(
            model=spec.model,
            input=[request.text for request in batch],
            encoding_format="base64",
            extra_body=spec.parameters,
        )
        return [*checked_vectors([request.key for request in batch], reply, expected)]

    try:
        return await _again_if_bad(once)
    except (BadAnswer, openai.APIError) as error:
        failures = [_failure(request.key, spec, client.api_key, error) for request in batch]
        if len(batch) == 1 or failures[0].is_outage:
            return list(failures)
        half = len(batch) // 2
        return [
            *await _embed_batch(client, spec, batch[:half], expected),
            *await _embed_batch(client, spec, batch[half:], expected),
        ]


_MALFORMED = (openai.APIResponseValidationError, ValueError, TypeError, AttributeError)
"""What a body that is no JSON, or JSON of another shape, reaches us as."""


async def _again_if_bad(once: Callable[[], Awaitable[Reply]]) -> Reply:
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(BadAnswer),
        stop=stop_after_attempt(BAD_ANSWER_TRIES),
        wait=wait_random(0.1, 0.5),
        reraise=True,
    ):
        with attempt:
            try:
                return await once()
            except BadAnswer:
                raise
            except _MALFORMED as error:
                raise BadAnswer(f"malformed answer: {error}") from error
    raise AssertionError("tenacity reraises the last error")


def _failure(key: str, spec: EndpointSpec, secret: str, error: Exception) -> Failure:
    """Raises `EndpointRefused` for what would fail every prompt alike.

    A server may quote the key in its refusal; it goes no further than here.
    """
    said = str(error) if secret == NO_KEY else str(error).replace(secret, "[key]")
    words = one_line(said, 300)
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        raise EndpointRefused(
            f"{spec.base_url or 'OpenAI'} refuses the key or the model {spec.model} "
            f"(HTTP {error.status_code}); check {spec.key_variable or 'the key'}. It said: {words}"
        ) from None
    if isinstance(error, openai.NotFoundError):
        raise EndpointRefused(
            f"{spec.base_url or 'OpenAI'} has no model {spec.model} (HTTP 404); "
            f"check the model's name and that base_url ends in /v1. It said: {words}"
        ) from None
    if isinstance(error, openai.RateLimitError | openai.InternalServerError):
        return Failure(key, f"after every retry: {words}", is_outage=True)
    if isinstance(error, openai.APIConnectionError):
        return Failure(key, f"no answer after every retry: {words}", is_outage=True)
    return Failure(key, words)
