"""The HTTP service: recommendations and a web page.

Started by ``llm4cdsr serve-recs``, or by any ASGI server:
``LLM4CDSR_STORE=artifacts/data uvicorn --factory tasks.serving.app:from_environment``.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from artifacts.store import Store
from model.scoring.ranking import NanScoreError
from tasks.serving.catalogue import AmbiguousItemError, UnknownDomainError, UnknownItemError
from tasks.serving.limits import BodyLimit, Limits, RequestMetrics, TimeLimit
from tasks.serving.recommender import Recommender
from tasks.serving.service.gate import Gate, hosts_of_environment, token_of_environment
from tasks.serving.service.item_images import ItemImages
from tasks.serving.service.request_answers import Service
from tasks.serving.service.routes import add_browsing, add_operating, add_recommending
from tasks.serving.service.routing_layers import HeadAsGet, WholeSegments
from tasks.serving.user_names import UnknownUserError
from tasks.system.dot_env import read_dot_env

Refresh = Callable[[Recommender], Recommender | None]
"""Callable that returns a newer release if any; called periodically in a thread."""

logger = logging.getLogger("llm4cdsr")


def create_app(
    recommender: Recommender,
    limits: Limits | None = None,
    refresh: Refresh | None = None,
    refresh_seconds: float = 30.0,
    hosts: Iterable[str] = (),
    token: str | None = None,
    images: ItemImages | None = None,
) -> FastAPI:
    """Returns the service over a recommender.

    Args:
        recommender: of the initial release.
        limits: of one request.
        refresh: returns newer releases; called every `refresh_seconds`.
        hosts: accepted host names beside IP addresses.
        token: required bearer token, if any.
        images: item images to show; none by default.
    """
    limits = limits or Limits()
    service = Service(recommender, limits, images or ItemImages())
    registry = CollectorRegistry()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        follow = asyncio.create_task(_follow(service, refresh, refresh_seconds))
        async with service.batcher:
            yield
        follow.cancel()
        with suppress(asyncio.CancelledError):
            await follow

    app = FastAPI(
        title="llm4cdsr",
        summary="Next-item recommendations across domains.",
        docs_url=None,  # FastAPI's viewers load scripts from other hosts; ours is self-contained.
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(_refuse_unknown_query)],
    )
    # The last middleware is the outermost.
    app.add_middleware(BodyLimit, most=limits.max_body_bytes)
    app.add_middleware(
        TimeLimit, body_seconds=limits.body_seconds, answer_seconds=limits.answer_seconds
    )
    app.add_middleware(RequestMetrics, registry=registry)
    app.add_middleware(WholeSegments)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Gate, hosts=hosts, token=token)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(400, _answer_unreadable)
    app.add_exception_handler(404, _answer_not_found)
    for kind, status in _STATUS.items():
        app.add_exception_handler(kind, _answer_with(status))
    add_recommending(app, service)
    add_browsing(app, service)
    add_operating(app, service, registry)
    return app


def from_environment() -> FastAPI:
    """Returns the service of LLM4CDSR_STORE, which follows its releases; for ASGI servers."""
    read_dot_env()
    store = os.environ.get("LLM4CDSR_STORE", "artifacts/data")
    return create_app(
        Recommender.load(store),
        refresh=newer_release_of(store),
        hosts=hosts_of_environment(),
        token=token_of_environment(),
        images=ItemImages.of_environment(),
    )


def newer_release_of(
    store: Store | str, prepare: Callable[[Recommender], None] = lambda _: None
) -> Refresh:
    """Returns a `Refresh` that loads the served release when it changes, and prepares it."""

    def refresh(current: Recommender) -> Recommender | None:
        if current.is_latest(store):
            return None
        found = Recommender.load(store)
        prepare(found)
        return found

    return refresh


async def _follow(service: Service, refresh: Refresh | None, seconds: float) -> None:
    while refresh is not None:
        await asyncio.sleep(seconds)
        try:
            newer = await asyncio.to_thread(refresh, service.recommender)
        except Exception:
            logger.exception("the newer release could not be opened; the old one stays in use")
            continue
        if newer is not None:
            service.recommender = newer
            logger.info("now serving release %s", newer.facts.ref.fingerprint)


def _refuse_unknown_query(request: Request) -> None:
    """Raises RequestValidationError, with the known names, for a parameter that would be ignored.

    Routes without parameters accept any: probes and caches add their own.
    """
    route = request.scope["route"]
    known = [each.alias for each in route.dependant.query_params]
    unknown = [name for name in request.query_params if name not in known]
    if known and unknown:
        text = f"Unknown parameter; this route has {', '.join(known)}"
        raise RequestValidationError([{"loc": ("query", name), "msg": text} for name in unknown])


def _answer_with(status: int) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        if status >= _OUR_FAULT:
            # The route's template, because paths contain ids.
            route = getattr(request.scope.get("route"), "path", "other")
            logger.error("%s: %s", route, error.args[0])
        return JSONResponse({"detail": str(error.args[0])}, status)

    return answer


def _answer_invalid(request: Request, error: Exception) -> Response:
    """Returns cause and location, without the input, which may not be valid JSON."""
    assert isinstance(error, RequestValidationError)
    faults = [{"loc": fault["loc"], "msg": fault["msg"]} for fault in error.errors()]
    if any(fault["loc"] == ("body",) for fault in faults) and not _is_json(request):
        faults = [{"loc": ("body",), "msg": "send it with Content-Type: application/json"}]
    text = json.dumps({"detail": faults}, allow_nan=False)  # Escaped to ASCII.
    return Response(text, 422, media_type="application/json")


def _is_json(request: Request) -> bool:
    """Returns whether FastAPI parses the body as JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _answer_unreadable(request: Request, error: Exception) -> Response:
    """Response for failures of the JSON parser other than syntax errors."""
    text = "the body cannot be read: it must be JSON in UTF-8, not nested deeper than a few levels"
    return JSONResponse({"detail": text}, 422)


def _answer_not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    unrouted = error.detail == HTTPStatus.NOT_FOUND.phrase
    text = "no such route: / is the page, /docs lists the routes" if unrouted else error.detail
    return JSONResponse({"detail": text}, 404)


_STATUS: dict[type[Exception], int] = {
    UnknownItemError: 404,
    UnknownUserError: 404,
    UnknownDomainError: 404,
    AmbiguousItemError: 422,
    NanScoreError: 500,
}
_OUR_FAULT = 500
