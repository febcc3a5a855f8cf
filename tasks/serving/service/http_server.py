"""The HTTP server of ``llm4cdsr serve-recs``: uvicorn with connection limits."""

import asyncio
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol


@dataclass(frozen=True)
class ConnectionLimits:
    """``head_seconds``: from a connection, or a response, to the end of the next request's headers.
    ``connections``: maximum number; further ones are closed."""

    head_seconds: float = 10.0
    connections: int = 1_000


def server_config(app: ASGIApp, limits: ConnectionLimits | None = None) -> uvicorn.Config:
    """Returns the server's configuration; `app` limits bodies and response times."""
    return uvicorn.Config(
        app,
        http=protocol_with(limits or ConnectionLimits()),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


def protocol_with(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """Returns uvicorn's HTTP protocol with these limits.

    uvicorn has no header timeout: a thousand slow connections would block it.
    """

    base: Any = AutoHTTPProtocol

    class LimitedProtocol(base):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._head: asyncio.TimerHandle | None = None
            if len(self.connections) > limits.connections:
                transport.abort()
                return
            self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_idle() and self._head is None:
                self._await_head()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._is_idle():
                self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._head is not None:
                self._head.cancel()
            super().connection_lost(exc)

        def _await_head(self) -> None:
            if self._head is not None:
                self._head.cancel()
            self._head = self.loop.call_later(limits.head_seconds, self._end_if_idle)

        def _end_if_idle(self) -> None:
            self._head = None
            if self._is_idle():
                self.transport.abort()

        def _is_idle(self) -> bool:
            """Returns whether no request is being read or answered."""
            return self.cycle is None or self.cycle.response_complete

    return LimitedProtocol
