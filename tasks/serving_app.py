"""The service: recommendations over HTTP, and a page to try them in a browser.

Started by ``llm4cdsr serve-recs``, or by any ASGI server:
``LLM4CDSR_STORE=artifacts/data uvicorn --factory tasks.serving_app:from_environment``.
"""

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel

from artifacts import columns as col
from model.sequences import IntArray
from tasks.catalogue import AmbiguousItem, ItemName, UnknownDomain, UnknownItem
from tasks.recommender import Recommender, UnknownUser
from tasks.serving_batches import Batcher, Job, Picks
from tasks.serving_limits import BodyLimit, Limits, RequestMetrics
from tasks.serving_messages import (
    Ask,
    DomainList,
    FoundItems,
    FoundUsers,
    Health,
    ItemId,
    ReasonItem,
    Recommended,
    RecommendedItem,
    ScoreAsk,
    Scores,
    ShownItem,
    SimilarItems,
    UserCard,
)
from tasks.serving_state import ServingState

TEMPLATES = Path(__file__).parent / "templates"
PAGE_FILES = {
    "browse.html": "text/html",
    "browse.css": "text/css",
    "browse.js": "text/javascript",
}
CONTENT_POLICY = "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"

Refresh = Callable[[Recommender], Recommender | None]
"""Returns a newer release where there is one; called now and then, in a thread."""

Limit = Annotated[int, Query(ge=1, le=100)]

logger = logging.getLogger("llm4cdsr")


class Service:
    """What the routes share: the recommender in use, its batcher, the limits."""

    def __init__(self, recommender: Recommender, limits: Limits) -> None:
        self.recommender, self.limits = recommender, limits
        self.batcher = Batcher()

    async def recommended(
        self,
        recommender: Recommender,
        state: ServingState,
        history: IntArray,
        unknown: list[ItemName],
        ask: Ask,
    ) -> Recommended:
        """Raises `UnknownDomain`, or HTTPException beyond a limit."""
        if ask.k > self.limits.max_k:
            raise HTTPException(422, f"k is {ask.k}; at most {self.limits.max_k} is allowed")
        names = state.catalogue.domains if ask.domains is None else ask.domains
        domains = tuple(state.catalogue.domain_number(name) for name in names)
        job = Job(state, history, domains, ask.k, ask.exclude_seen)
        picks = await self.batcher.ask(job)
        return Recommended(
            release=recommender.facts.ref.fingerprint,
            basis="history" if len(history) else "popularity",
            unknown_items=[_item_id(name) for name in unknown],
            domains=_domain_lists(state, history, picks, ask.reasons),
        )

    def known(self, state: ServingState, items: list[ItemId]) -> tuple[IntArray, list[ItemName]]:
        """Returns indices and unknown names; raises HTTPException for too long a history."""
        if len(items) > self.limits.max_history:
            raise HTTPException(
                422,
                f"a history of {len(items)} items; at most {self.limits.max_history} are allowed: "
                "send the newest",
            )
        return state.catalogue.split_known(_name(item) for item in items)


def create_app(
    recommender: Recommender,
    limits: Limits | None = None,
    refresh: Refresh | None = None,
    refresh_seconds: float = 30.0,
) -> FastAPI:
    """Returns the service over a recommender; `refresh` lets it follow newer releases."""
    limits = limits or Limits()
    service, registry = Service(recommender, limits), CollectorRegistry()

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
        lifespan=lifespan,
    )
    app.add_middleware(BodyLimit, most=limits.max_body_bytes)
    app.add_middleware(RequestMetrics, registry=registry)
    for kind, status in _STATUS.items():
        app.add_exception_handler(kind, _answer_with(status))
    _add_recommending(app, service)
    _add_browsing(app, service)
    _add_operating(app, service, registry)
    return app


def from_environment() -> FastAPI:
    """Returns the service of LLM4CDSR_STORE, following its releases: for ASGI servers."""
    store = os.environ.get("LLM4CDSR_STORE", "artifacts/data")
    return create_app(Recommender.load(store), refresh=newer_release_of(store))


def newer_release_of(store: str) -> Refresh:
    """Returns a `Refresh` that loads what the store serves as soon as that changes."""

    def refresh(current: Recommender) -> Recommender | None:
        return None if current.is_latest(store) else Recommender.load(store)

    return refresh


def _add_recommending(app: FastAPI, service: Service) -> None:
    @app.post("/recommendations", response_model=Recommended)
    async def recommend(ask: Ask) -> Response:
        """The best next items after any history. Items that are not known are left out and
        named; without any known item, the most bought ones are returned."""
        recommender = service.recommender
        state = recommender.state
        history, unknown = service.known(state, ask.history)
        return _json(await service.recommended(recommender, state, history, unknown, ask))

    @app.get("/users/{user_id}/recommendations", response_model=Recommended)
    async def recommend_user(
        user_id: str,
        k: Annotated[int, Query(ge=1)] = 10,
        domain: Annotated[list[str] | None, Query()] = None,
        exclude_seen: bool = True,
        reasons: Annotated[int, Query(ge=0, le=5)] = 0,
    ) -> Response:
        """The best next items for a user of the dataset."""
        recommender = service.recommender
        state = recommender.state
        ask = Ask(history=[], domains=domain, k=k, exclude_seen=exclude_seen, reasons=reasons)
        history = state.history(recommender.user_index(user_id))
        return _json(await service.recommended(recommender, state, history, [], ask))

    @app.post("/scores", response_model=Scores)
    def score(ask: ScoreAsk) -> Response:
        """The score of each item after a history."""
        recommender = service.recommender
        service.known(recommender.state, ask.history)
        scores = recommender.score(map(_name, ask.history), map(_name, ask.items))
        release = recommender.facts.ref.fingerprint
        return _json(Scores(release=release, scores=scores.tolist()))

    @app.get("/similar", response_model=SimilarItems)
    def similar(
        item_id: str,
        domain: str | None = None,
        within: Annotated[str | None, Query(description="Look in this domain only.")] = None,
        k: Annotated[int, Query(ge=1, le=service.limits.max_k)] = 10,
    ) -> Response:
        """The items whose texts are nearest in meaning, also of other domains."""
        state = service.recommender.state
        name = _name(ItemId(item_id=item_id, domain=domain))
        found = service.recommender.similar(name, within, k)
        shown = [
            RecommendedItem(domain=d, item_id=i, title=t, rank=r, score=s)
            for d, r, i, t, s in found.select(
                col.DOMAIN, col.RANK, col.ITEM_ID, col.TITLE, col.SCORE
            ).iter_rows()
        ]
        return _json(SimilarItems(item=_shown(state, state.catalogue.index(name)), similar=shown))


def _add_browsing(app: FastAPI, service: Service) -> None:
    @app.get("/items", response_model=FoundItems)
    def items(search: str = "", domain: str | None = None, limit: Limit = 20) -> Response:
        """Items whose title or id holds every word of the search."""
        state = service.recommender.state
        found = state.catalogue.search(search[:200], domain, limit)
        return _json(FoundItems(items=[_shown(state, index) for index in found.tolist()]))

    @app.get("/users", response_model=FoundUsers)
    def users(search: str = "", limit: Limit = 20, any: bool = False) -> Response:
        """Known users whose id holds the search; with `any`, some drawn at random."""
        ids = service.recommender.user_ids
        if any:
            found = random.sample(ids, min(limit, len(ids)))
        else:
            found = list(islice((user for user in ids if search in user), limit))
        return _json(FoundUsers(users=found, total=len(ids)))

    @app.get("/users/{user_id}", response_model=UserCard)
    def user(user_id: str) -> Response:
        """A user's events, oldest first, and profile."""
        recommender = service.recommender
        state = recommender.state
        history = state.history(recommender.user_index(user_id)).tolist()
        card = UserCard(
            user_id=user_id,
            history=[_shown(state, item) for item in history],
            profile=recommender.profile(user_id),
        )
        return _json(card)

    for name, kind in PAGE_FILES.items():
        path = "/" if name == "browse.html" else f"/{name}"
        app.get(path, include_in_schema=False)(_page(name, kind))


def _add_operating(app: FastAPI, service: Service, registry: CollectorRegistry) -> None:
    released = Gauge(
        "llm4cdsr_release_created_seconds",
        "When the served release was made, in seconds since 1970.",
        registry=registry,
    )

    @app.get("/health", response_model=Health)
    def health() -> Response:
        """What is served."""
        facts, catalogue = service.recommender.facts, service.recommender.catalogue
        starts = catalogue.domain_starts
        return _json(
            Health(
                status="ok",
                release=facts.ref.fingerprint,
                model=facts.model.fingerprint,
                created=facts.created.isoformat(),
                users=len(service.recommender.user_ids),
                items={
                    name: int(starts[number + 1] - starts[number])
                    for number, name in enumerate(catalogue.domains)
                },
                notes=list(facts.notes),
                max_history=service.limits.max_history,
                max_k=service.limits.max_k,
            )
        )

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        released.set(service.recommender.facts.created.timestamp())
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


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


def _domain_lists(
    state: ServingState, history: IntArray, picks: Picks, reasons: int
) -> list[DomainList]:
    return [
        DomainList(
            domain=state.catalogue.domains[number],
            items=[
                _recommended(state, history, item, rank, score, reasons)
                for rank, (item, score) in enumerate(zip(*picks[number], strict=True), start=1)
            ],
        )
        for number in sorted(picks)
    ]


def _recommended(
    state: ServingState, history: IntArray, item: int, rank: int, score: float, reasons: int
) -> RecommendedItem:
    key = state.catalogue.keys[item - 1]
    near = state.reasons(history, item, reasons) if reasons and len(history) else []
    return RecommendedItem(
        domain=key.domain,
        item_id=key.item_id,
        title=state.catalogue.titles[item - 1],
        rank=rank,
        score=round(score, 4),
        reasons=[
            ReasonItem(
                **_shown(state, reason.item).model_dump(), similarity=round(reason.similarity, 3)
            )
            for reason in near
        ],
    )


def _shown(state: ServingState, item: int) -> ShownItem:
    key = state.catalogue.keys[item - 1]
    title = state.catalogue.titles[item - 1]
    return ShownItem(domain=key.domain, item_id=key.item_id, title=title)


def _name(item: ItemId) -> ItemName:
    return item.item_id if item.domain is None else (item.domain, item.item_id)


def _item_id(name: ItemName) -> ItemId:
    if isinstance(name, str):
        return ItemId(item_id=name)
    return ItemId(domain=name[0], item_id=name[1])


def _json(message: BaseModel) -> Response:
    """FastAPI would check a message that is a checked model once more."""
    return Response(message.model_dump_json(), media_type="application/json")


def _page(name: str, kind: str) -> Callable[[], Response]:
    content = (TEMPLATES / name).read_bytes()
    headers = {"Content-Security-Policy": CONTENT_POLICY, "X-Content-Type-Options": "nosniff"}
    return lambda: Response(content, media_type=kind, headers=headers)


def _answer_with(status: int) -> Callable[[Request, Exception], Response]:
    def answer(_: Request, error: Exception) -> Response:
        return JSONResponse({"detail": str(error.args[0])}, status)

    return answer


_STATUS: dict[type[Exception], int] = {
    UnknownItem: 404,
    UnknownUser: 404,
    UnknownDomain: 404,
    AmbiguousItem: 422,
}
