"""What a request may cost, and how requests are counted: two ASGI layers around the service."""

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
    """What one request may ask for."""

    max_history: int = Field(default=500, ge=1, description="Items of a history.")
    max_k: int = Field(default=100, ge=1, description="Items a domain.")
    max_body_bytes: int = Field(default=262_144, ge=1, description="Of a request.")


class BodyLimit:
    """Answers 413 to a body over the limit, however its length was announced."""

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


class RequestMetrics:
    """Counts requests and their seconds by route and status, for Prometheus."""

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
            # The route's template: a path would make a time series of every user.
            route = getattr(scope.get("route"), "path", "other")
            self._requests.labels(route, str(status)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - started)
