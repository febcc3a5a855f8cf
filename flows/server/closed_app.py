"""A Prefect server restricted to its own pages and to clients with its credential.

Prefect's authentication covers its API, but not cross-site requests of a browser: all host names
are accepted (DNS rebinding), pages of any origin may open websockets, and forms may post.
`ClosedApp` refuses these before Prefect. It is a separate program, because settings must be in the
environment before Prefect is imported: ``python -P -m flows.server.closed_app PORT``.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from artifacts.user_error import InvalidSettingError
from tasks.system.host_names import is_this_machine

HOST = "127.0.0.1"
ORIGINS_VARIABLE = "LLM4CDSR_UI_ORIGINS"
JSON = "application/json"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
PAGE_HEADERS = {
    # Prevents clickjacking by framing the UI.
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class ClosedApp:
    """Refuses cross-site requests; passes on all others.

    - Host: this machine's own names with any port (a tunnel may end at another one), and the
      hosts of ``origins``; otherwise 421. A foreign name that resolves to this machine would give
      a foreign page the server's origin.
    - Origin, if the browser sends it: that of the requested host, or one of ``origins``; otherwise
      403, also for websockets, which CORS does not cover.
    - Content: JSON only; otherwise 415. Any page can post a form or a text without a preflight
      request.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._hosts = frozenset(urlsplit(origin).netloc for origin in self._origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if refusal := self._refusal(scope):
            # Starlette converts a response to a websocket's handshake to a refusal.
            await refusal(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(PAGE_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not (is_this_machine(hosts[0]) or hosts[0] in self._hosts):
            return PlainTextResponse(f"this host is not served; see {ORIGINS_VARIABLE}", 421)
        own = self._origins | {f"http://{hosts[0]}"}
        if not own.issuperset(origins):
            return PlainTextResponse(f"this origin is not allowed; see {ORIGINS_VARIABLE}", 403)
        if scope["type"] == "http" and scope["method"] not in READING and not _is_json(headers):
            return PlainTextResponse(f"the content must be {JSON}", 415)
        return None


def origins_in(environment: Mapping[str, str]) -> list[str]:
    """Returns the additional origins in LLM4CDSR_UI_ORIGINS (comma-separated).

    Raises:
        InvalidSettingError: one of them is not ``https://HOST[:PORT]`` or ``http://HOST[:PORT]``.
    """
    given = [each.strip().rstrip("/") for each in environment.get(ORIGINS_VARIABLE, "").split(",")]
    for origin in filter(None, given):
        parts = urlsplit(origin)
        if origin != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in ("http", "https"):
            raise InvalidSettingError(
                f"{ORIGINS_VARIABLE}: '{origin}' is not an origin; write https://HOST or "
                "https://HOST:PORT as the browser shows it, several separated by commas"
            )
    return [origin.lower() for origin in given if origin]


def server_command(port: int) -> list[str]:
    """Returns the command that starts the server on the loopback interface."""
    # -P: prevents the import of a folder `flows` in the working folder.
    return [sys.executable, "-P", "-m", __name__, str(port)]


def server_variables(credential: str, port: int) -> dict[str, str]:
    """Returns the environment of a server with this credential.

    Raises:
        InvalidSettingError.
    """
    return {
        "PREFECT_SERVER_API_AUTH_STRING": credential,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": ",".join(
            [f"http://{HOST}:{port}", *origins_in(os.environ)]
        ),
        # By default the pages use 127.0.0.1, which differs from localhost or a proxy as an origin.
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def _is_json(headers: Headers) -> bool:
    has_content = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    kinds = headers.getlist("content-type")
    if not kinds:
        return not has_content
    return len(kinds) == 1 and kinds[0].partition(";")[0].strip().lower() == JSON


def _serve(port: int) -> None:
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    api = get_current_settings().server.api
    if api.auth_string is None:
        sys.exit("PREFECT_SERVER_API_AUTH_STRING is not set: the server would be open")
    uvicorn.run(
        ClosedApp(create_app(final=True), origins_in(os.environ)),
        host=HOST,
        port=port,
        timeout_keep_alive=api.keepalive_timeout,
        ws_ping_interval=api.websocket_ping_interval,
        ws_ping_timeout=api.websocket_ping_timeout,
        log_level=get_current_settings().server.logging_level.lower(),
        server_header=False,
    )


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
