"""Access control: ASGI middleware in front of the service."""

import hmac
import os
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from artifacts.user_error import InvalidSettingError
from tasks.system.host_names import host_name, is_address

TOKEN_VARIABLE = "LLM4CDSR_SERVE_TOKEN"
HOSTS_VARIABLE = "LLM4CDSR_SERVE_HOSTS"
SHORTEST_TOKEN = 16
OPEN = frozenset(
    {"/", "/docs", "/browse.css", "/browse.js", "/api.css", "/api.js", "/service.js", "/health"}
)
"""Paths without a token: the pages, which ask for it, and probes."""
ANSWER_HEADERS = {
    # Prevents pages of other sites from loading responses as scripts or images.
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Gate:
    """Refuses other hosts with 421 and, if a token is set, requests without it with 401.

    The check of the host prevents DNS rebinding by other sites. IP addresses are always accepted.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), token: str | None = None) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._token = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not (is_address(hosts[0]) or host_name(hosts[0]) in self._hosts):
            refusal = f"this host is not served; {HOSTS_VARIABLE} or --allowed-host names others"
            await JSONResponse({"detail": refusal}, 421)(scope, receive, send)
        elif self._token is not None and not self._is_open(scope, headers):
            refusal = "send the header 'Authorization: Bearer TOKEN'"
            answer = JSONResponse({"detail": refusal}, 401, {"WWW-Authenticate": "Bearer"})
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send))

    def _is_open(self, scope: Scope, headers: Headers) -> bool:
        given = headers.getlist("authorization")
        shown = given[0].encode("utf-8", "surrogateescape") if len(given) == 1 else b""
        known = hmac.compare_digest(shown, self._token or b"")
        return known or (scope["type"] == "http" and scope["path"] in OPEN)


def token_of_environment() -> str | None:
    """Returns the required token, None if none is set.

    Raises:
        InvalidSettingError.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise InvalidSettingError(
            f"{TOKEN_VARIABLE} must have at least {SHORTEST_TOKEN} plain ASCII characters; "
            "`openssl rand -hex 32` makes one"
        )
    return token


def hosts_of_environment() -> list[str]:
    """Returns the host names that `HOSTS_VARIABLE` allows, separated by commas."""
    named = os.environ.get(HOSTS_VARIABLE, "").split(",")
    return [host.strip().lower() for host in named if host.strip()]


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(ANSWER_HEADERS)
        await send(message)

    return sent
