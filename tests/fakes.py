"""A server that fails on purpose: the dummy endpoint on a real socket, with faults on a plan.

    with faulty_endpoint(FaultPlan(script=(Fault.RATE_LIMITED, None))) as server:
        ...client of server.base_url...
    assert server.requests_for("prompt") == 2

A fault is scripted (by order of arrival, or by a word in the prompt) or seeded. Seeded faults
depend on the prompt and on how often it was asked, never on the order of arrival, so that a
concurrent client meets the same faults in every run.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

from tasks.llm.providers.dummy_endpoint import DummyServer, build_app, running_app

EMBEDDINGS = "/v1/embeddings"
CHAT = "/v1/chat/completions"


class Fault(Enum):
    RATE_LIMITED = "429 with Retry-After"
    RATE_LIMITED_WITHOUT_HINT = "429 without Retry-After"
    SERVER_ERROR = "500"
    BUSY = "503 with Retry-After"
    SLOW = "a right answer after `slow_s` seconds"
    CUT = "the connection is closed without an answer"
    MALFORMED_JSON = "200 with a body that breaks off"
    EMPTY_TEXT = "chat: an answer without text"
    WRONG_LENGTH = "embeddings: a vector lacks one number"
    NAN = "embeddings: a vector holds a NaN"
    ZERO_VECTOR = "embeddings: a vector is all zeros"
    REORDERED = "embeddings: entries in reverse order, each with its right index"
    WRONG_COUNT = "embeddings: the last vector is missing"


_CHAT_ONLY = frozenset({Fault.EMPTY_TEXT})
_EMBEDDINGS_ONLY = frozenset(
    {Fault.WRONG_LENGTH, Fault.NAN, Fault.ZERO_VECTOR, Fault.REORDERED, Fault.WRONG_COUNT}
)


class FaultDoesNotApplyError(AssertionError):
    """A scripted fault met a route that cannot show it: the test would prove nothing."""


@dataclass(frozen=True)
class FaultPlan:
    """Which requests fail, and how. The default never fails.

    What spoils one vector spoils that of a text with a word of `by_word`, or else the last.

    `script`: the fault of the first, second, … request that arrives (None: answer rightly).
    `by_word`: faults of the first, second, … request whose prompts contain the word.
    `rate`: share of the other requests that draw one of `kinds` from `seed`; at most
    `faults_per_request` times for equal requests, so that retries come through.
    `refuse`: a word; every request with it in a prompt is a 400, however often it is asked.
    `latency_s`, `slow_s`, `retry_after_s`: seconds.
    """

    script: tuple[Fault | None, ...] = ()
    by_word: Mapping[str, tuple[Fault | None, ...]] = field(default_factory=dict)
    rate: float = 0.0
    kinds: tuple[Fault, ...] = (Fault.RATE_LIMITED, Fault.SERVER_ERROR, Fault.CUT)
    seed: int = 0
    faults_per_request: int = 2
    refuse: str | None = None
    latency_s: float = 0.0
    slow_s: float = 2.0
    retry_after_s: float = 0.0


@dataclass(frozen=True)
class Exchange:
    """One finished request; `status` is None where the connection was cut."""

    route: str
    prompts: tuple[str, ...]
    status: int | None
    fault: Fault | None


class FaultyServer:
    """The running server and its books, which tests may read at any time."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self.answered: list[Exchange] = []
        self.peak_in_flight = 0
        self.misplaced: list[str] = []
        self._address: DummyServer | None = None
        self._in_flight = 0
        self._arrived = 0
        self._routes: Counter[str] = Counter()
        self._prompts: Counter[str] = Counter()
        self._words: Counter[str] = Counter()
        self._bodies: Counter[bytes] = Counter()
        self._lock = threading.Lock()

    @property
    def base_url(self) -> str:
        assert self._address is not None, "the server runs only inside `with faulty_endpoint(...)`"
        return self._address.base_url

    def requests_to(self, route: str) -> int:
        """Requests that arrived at a route such as `/v1/embeddings`, failed ones included."""
        return self._routes[route]

    def requests_for(self, prompt: str) -> int:
        """Requests that held exactly this text, failed ones included."""
        return self._prompts[prompt]

    def good_answers_for(self, prompt: str) -> int:
        """Requests with this text that got the right answer: what a client pays for."""
        right = (None, Fault.SLOW, Fault.REORDERED)
        return sum(
            exchange.prompts.count(prompt) > 0
            for exchange in list(self.answered)
            if exchange.status == 200 and exchange.fault in right
        )

    def arrive(self, route: str, prompts: tuple[str, ...], body: bytes) -> Fault | None:
        """Count a request in and choose its fault."""
        with self._lock:
            self._in_flight += route in (EMBEDDINGS, CHAT)  # Who looks at the load asks nothing.
            self.peak_in_flight = max(self.peak_in_flight, self._in_flight)
            self._routes[route] += 1
            self._prompts.update(set(prompts))
            fault = self._choose(route, prompts, body) if route in (EMBEDDINGS, CHAT) else None
            if fault is not None and not _applies(fault, route):
                self.misplaced.append(f"{fault.name} at {route}")
                return None
            return fault

    def leave(self, exchange: Exchange) -> None:
        """Count a request out."""
        with self._lock:
            self._in_flight -= exchange.route in (EMBEDDINGS, CHAT)
            self.answered.append(exchange)

    def open_at(self, address: DummyServer) -> None:
        self._address = address

    def _choose(self, route: str, prompts: tuple[str, ...], body: bytes) -> Fault | None:
        arrival, self._arrived = self._arrived, self._arrived + 1
        if arrival < len(self.plan.script):
            return self.plan.script[arrival]
        for word, faults in self.plan.by_word.items():
            if any(word in prompt for prompt in prompts):
                self._words[word] += 1
                if self._words[word] <= len(faults):
                    return faults[self._words[word] - 1]
        return self._draw(route, body)

    def _draw(self, route: str, body: bytes) -> Fault | None:
        attempt = self._bodies[body]
        self._bodies[body] += 1
        if self.plan.rate == 0 or attempt >= self.plan.faults_per_request:
            return None
        digest = hashlib.blake2b(body, digest_size=8).hexdigest()
        generator = random.Random(f"{self.plan.seed}/{digest}/{attempt}")
        kinds = [kind for kind in self.plan.kinds if _applies(kind, route)]
        return generator.choice(kinds) if generator.random() < self.plan.rate and kinds else None


@contextlib.contextmanager
def faulty_endpoint(plan: FaultPlan | None = None, port: int = 0) -> Iterator[FaultyServer]:
    """Run the faulty server on a real socket until the block ends.

    Raises FaultDoesNotApplyError at the end if the plan asked for, say, a NaN in a chat answer.
    """
    server = FaultyServer(plan or FaultPlan())
    transports: dict[tuple[str, int], asyncio.Transport] = {}
    with running_app(_faulty_app(server, transports), port, _tracking(transports)) as address:
        server.open_at(address)
        yield server
    if server.misplaced:
        raise FaultDoesNotApplyError("; ".join(server.misplaced))


def _tracking(transports: dict[tuple[str, int], asyncio.Transport]) -> type[H11Protocol]:
    """A protocol that keeps each connection by the client's address, so that it can be cut."""

    class TrackingProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client is not None:
                transports[self.client] = transport

    return TrackingProtocol


def _faulty_app(
    server: FaultyServer, transports: dict[tuple[str, int], asyncio.Transport]
) -> FastAPI:
    app = build_app()

    @app.middleware("http")
    async def misbehave(
        request: Request, answer: Callable[[Request], "asyncio.Future[Response]"]
    ) -> Response:
        body = await request.body()
        prompts = _prompts_of(body)
        fault = server.arrive(request.url.path, prompts, body)
        status: int | None = None
        try:
            await asyncio.sleep(server.plan.latency_s)
            if fault is not Fault.CUT:
                response = await _respond(request, answer, server.plan, prompts, fault)
                status = response.status_code
                return response
        finally:
            # Before anything reaches the client, so that a test that has its answer finds it.
            server.leave(Exchange(request.url.path, prompts, status, fault))
        await _cut(request, transports)
        return Response()

    return app


async def _respond(
    request: Request,
    answer: Callable[[Request], "asyncio.Future[Response]"],
    plan: FaultPlan,
    prompts: tuple[str, ...],
    fault: Fault | None,
) -> Response:
    if plan.refuse is not None and any(plan.refuse in prompt for prompt in prompts):
        return _error(400, f"The prompt contains the refused word '{plan.refuse}'.")
    match fault:
        case Fault.RATE_LIMITED:
            return _error(429, "Slow down.", {"Retry-After": f"{plan.retry_after_s:g}"})
        case Fault.RATE_LIMITED_WITHOUT_HINT:
            return _error(429, "Slow down.")
        case Fault.SERVER_ERROR:
            return _error(500, "The server broke.")
        case Fault.BUSY:
            return _error(503, "Busy.", {"Retry-After": f"{plan.retry_after_s:g}"})
        case Fault.SLOW:
            await asyncio.sleep(plan.slow_s)
    right = await answer(request)
    if fault in (None, Fault.SLOW) or right.status_code != 200:
        return right
    body = b"".join([chunk async for chunk in right.body_iterator])  # type: ignore[attr-defined]
    words = tuple(plan.by_word)
    spoiled = next((i for i, p in enumerate(prompts) if any(word in p for word in words)), -1)
    return Response(_spoil(body, fault, spoiled), media_type="application/json")


def _spoil(body: bytes, fault: Fault, spoiled: int) -> bytes:
    if fault is Fault.MALFORMED_JSON:
        return body[: len(body) // 2]
    reply = json.loads(body)
    match fault:
        case Fault.EMPTY_TEXT:
            reply["choices"][0]["message"]["content"] = ""
        case Fault.REORDERED:
            reply["data"].reverse()
        case Fault.WRONG_COUNT:
            reply["data"].pop()
        case _:
            entry = reply["data"][spoiled]
            entry["embedding"] = _spoil_vector(entry["embedding"], fault)
    return json.dumps(reply).encode()


def _spoil_vector(encoded: str | list[float], fault: Fault) -> str | list[float]:
    packed = isinstance(encoded, str)
    vector = np.frombuffer(base64.b64decode(encoded), "<f4") if packed else np.array(encoded)
    vector = vector.copy()
    match fault:
        case Fault.WRONG_LENGTH:
            vector = vector[:-1]
        case Fault.NAN:
            vector[len(vector) // 2] = np.nan
        case Fault.ZERO_VECTOR:
            vector[:] = 0
    if packed:
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return vector.tolist()


async def _cut(request: Request, transports: dict[tuple[str, int], asyncio.Transport]) -> None:
    assert request.client is not None
    transports[request.client.host, request.client.port].abort()
    # The protocol learns of the cut one turn of the loop later; an answer given before that
    # would be logged as an error of the server.
    await asyncio.sleep(0.01)


def _prompts_of(body: bytes) -> tuple[str, ...]:
    """The texts of an embedding request, or the last message of a chat request."""
    try:
        request = json.loads(body or b"{}")
    except json.JSONDecodeError:
        return ()
    if "messages" in request:
        return tuple(str(message.get("content")) for message in request["messages"][-1:])
    texts = request.get("input", [])
    return (texts,) if isinstance(texts, str) else tuple(str(text) for text in texts)


def _applies(fault: Fault, route: str) -> bool:
    if fault in _CHAT_ONLY:
        return route == CHAT
    return fault not in _EMBEDDINGS_ONLY or route == EMBEDDINGS


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body = {"message": message, "type": "fault", "param": None, "code": None}
    return JSONResponse({"error": body}, status_code=status, headers=headers)
