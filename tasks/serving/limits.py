"""ASGI middleware: request limits and metrics."""

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from artifacts.strict import Strict

LATENCY_BUCKETS = (0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds."""


class Limits(Strict):
    """Limits of one request."""

    max_history: int = Field(default=500, ge=1, description="Items of a history.")
    max_k: int = Field(default=100, ge=1, description="Maximum items per domain.")
    max_body_bytes: int = Field(default=262_144, ge=1, description="Maximum body size in bytes.")
    body_seconds: float = Field(default=10, gt=0, description="Seconds to receive the body.")
    answer_seconds: float = Field(default=60, gt=0, description="Seconds to answer, body included.")


class BodyLimit:
    """Responds 413 to a body over the limit, with or without a declared length."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = f"the request is over {self._most:,} bytes; send less"
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            await JSONResponse({"detail": refusal}, 413)(scope, receive, send)
            return
        left = self._most

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, refusal)
            return message

        await self._app(scope, counted, send)


class TimeLimit:
    """Ends slow requests: 408 if the body is late, else 503.

    Clients that do not read the response are disconnected.
    """

    def __init__(self, app: ASGIApp, body_seconds: float, answer_seconds: float) -> None:
        self._app, self._body, self._answer = app, body_seconds, answer_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = arrived = False
        body_until = asyncio.get_running_loop().time() + self._body

        async def in_time() -> Message:
            nonlocal arrived
            if arrived:
                return await receive()
            try:
                async with asyncio.timeout_at(body_until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the body of the request did not arrive in time") from None
            arrived = not message.get("more_body", False)
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._answer):
                await self._app(scope, in_time, noted)
        except TimeoutError:
            if begun:
                raise
            refusal = {"detail": "the answer took too long; request less, or retry later"}
            await JSONResponse(refusal, 503)(scope, receive, send)


class RequestMetrics:
    """Prometheus counters and latencies by route and status."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        labels = ("route", "status")
        self._requests = Counter(
            "llm4cdsr_requests_total", "Requests answered.", labels, registry=registry
        )
        self._seconds = Histogram(
            "llm4cdsr_request_seconds",
            "Seconds from the first to the last byte.",
            ("route",),
            registry=registry,
            buckets=LATENCY_BUCKETS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            # The route's template, because paths would make a time series per user.
            route = getattr(scope.get("route"), "path", "other")
            self._requests.labels(route, str(status)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - started)
