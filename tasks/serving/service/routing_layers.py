"""ASGI middleware for paths and HEAD requests.

They pass on a copy of the scope, so they must be outside of middleware that reads the matched
route.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

USERS = "/users/"


class WholeSegments:
    """Matches routes of users on the percent-encoded path.

    Servers decode paths first: `ada%2Frecommendations` would become `ada/recommendations`, the
    route of another user.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("raw_path"):
            root = scope.get("root_path", "")
            # Some servers include the query.
            sent = scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")
            if sent.removeprefix(root).startswith(USERS):
                scope = {**scope, "path": sent}
        await self._app(scope, receive, send)


class HeadAsGet:
    """Handles HEAD as GET; the server sends the headers only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
