"""Requests as the routes read them: ASGI layers between the server and the application.

They hand on a copy of the scope, so they stand outside of what reads the route found in it.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

USERS = "/users/"


class WholeSegments:
    """Has the routes of users match the path as it was sent, percent signs included.

    Servers decode a path first. `ada%2Frecommendations` would then be `ada/recommendations`, and
    the card of the one person the recommendations of the other.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("raw_path"):
            root = scope.get("root_path", "")
            # Some servers send the query with it.
            sent = scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")
            if sent.removeprefix(root).startswith(USERS):
                scope = {**scope, "path": sent}
        await self._app(scope, receive, send)


class HeadAsGet:
    """Answers HEAD like GET; the server sends the headers alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
