"""Routes of the service."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

from fastapi import FastAPI, HTTPException, Query
from fastapi import Path as PathParameter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from pydantic import AfterValidator

from artifacts import columns as col
from tasks.serving.service.item_images import KINDS, MOST_BYTES, ROUTE, ItemImages
from tasks.serving.service.messages import (
    Ask,
    DomainName,
    Effect,
    EffectAsk,
    Effects,
    FoundItems,
    FoundUsers,
    Health,
    ItemId,
    Recommended,
    RecommendedItem,
    ScoreAsk,
    Scores,
    SimilarItems,
    UserCard,
)
from tasks.serving.service.request_answers import (
    Service,
    catalogue_item,
    image_of,
    item_id_of,
    item_name,
    json_response,
    shown,
)

TEMPLATES = Path(__file__).parent / "templates"
PAGE_FILES = {
    "/": "browse.html",
    "/docs": "api.html",
    **{f"/{name}": name for name in ("browse.css", "browse.js", "api.css", "api.js", "service.js")},
}
"""Pages and their files, by path."""
PAGE_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
CONTENT_POLICY = "default-src 'self'; img-src {images}; base-uri 'none'; form-action 'none'"


def _decoded(segment: str) -> str:
    """Returns decoded text; raises ValueError for invalid UTF-8."""
    return unquote(segment, errors="strict")


UserId = Annotated[
    str,
    AfterValidator(_decoded),  # Still percent-encoded by `WholeSegments`.
    PathParameter(description="One segment of the path: percent-encoded, a slash as %2F."),
]
Limit = Annotated[int, Query(ge=1, le=100)]


def add_recommending(app: FastAPI, service: Service) -> None:
    """Adds the routes of recommendations, scores and similar items."""
    images = service.images

    @app.post("/recommendations", response_model=Recommended)
    async def recommend(ask: Ask) -> Response:
        """Top next items after any history. Unknown items are skipped and listed; without a known
        item, the most popular items are returned."""
        recommender = service.recommender
        state = recommender.state
        history, unknown = service.known(state, ask.history)
        return json_response(await service.recommended(recommender, state, history, unknown, ask))

    @app.get("/users/{user_id}/recommendations", response_model=Recommended)
    async def recommend_user(
        user_id: UserId,
        k: Annotated[int, Query(ge=1)] = 10,
        domain: Annotated[list[DomainName] | None, Query()] = None,
        exclude_seen: bool = True,
        reasons: Annotated[int, Query(ge=0, le=5)] = 0,
    ) -> Response:
        """Top next items for a user of the dataset."""
        recommender = service.recommender
        state = recommender.state
        ask = Ask(history=[], domains=domain, k=k, exclude_seen=exclude_seen, reasons=reasons)
        history = state.history(recommender.names.index(user_id))
        answer = await service.recommended(recommender, state, history, [], ask)
        return json_response(answer.model_copy(update={"user_id": user_id}))

    @app.post("/scores", response_model=Scores)
    def score(ask: ScoreAsk) -> Response:
        """The score of each item after a history."""
        recommender = service.recommender
        service.known(recommender.state, ask.history)
        scores = recommender.score(map(item_name, ask.history), map(item_name, ask.items))
        release = recommender.facts.ref.fingerprint
        return json_response(Scores(release=release, scores=scores.tolist()))

    @app.post("/effects", response_model=Effects)
    def effects(ask: EffectAsk) -> Response:
        """Effect of each of the latest items of a history on an item's score and rank, by scoring
        the history without it. Unknown items of the history are skipped and listed."""
        recommender = service.recommender
        state = recommender.state
        history, unknown = service.known(state, ask.history)
        name = item_name(ask.item)
        names = [state.catalogue.keys[index - 1] for index in history.tolist()]
        found = recommender.effects(names, name)
        told = [
            Effect(**shown(state, item).model_dump(), effect=effect, rank_without=rank)
            for item, effect, rank in zip(
                found.items.tolist(),
                found.effects.tolist(),
                found.ranks_without.tolist(),
                strict=True,
            )
        ]
        return json_response(
            Effects(
                release=recommender.facts.ref.fingerprint,
                item=shown(state, state.catalogue.index(name)),
                rank=found.rank,
                unknown_items=[item_id_of(each) for each in unknown],
                effects=sorted(told, key=lambda each: -each.effect),
            )
        )

    @app.get("/similar", response_model=SimilarItems)
    def similar(
        item_id: Annotated[str, Query(min_length=1, max_length=256)],
        domain: Annotated[str | None, Query(max_length=256)] = None,
        within: Annotated[str | None, Query(description="Restrict to this domain.")] = None,
        k: Annotated[int, Query(ge=1, le=service.limits.max_k)] = 10,
    ) -> Response:
        """Items with the nearest text embeddings, in all domains."""
        recommender = service.recommender
        state = recommender.state
        name = item_name(ItemId(item_id=item_id, domain=domain))
        found = recommender.similar(name, within, k)
        similar_items = [
            RecommendedItem(
                **dict(catalogue_item(state, state.catalogue.index((d, i)), images)),
                rank=rank,
                score=score,
            )
            for d, i, rank, score in found.select(
                col.DOMAIN, col.ITEM_ID, col.RANK, col.SCORE
            ).iter_rows()
        ]
        return json_response(
            SimilarItems(
                item=catalogue_item(state, state.catalogue.index(name), images),
                similar=similar_items,
            )
        )


def add_browsing(app: FastAPI, service: Service) -> None:
    """Adds the routes of items, users and the web page."""
    images = service.images

    @app.get("/items", response_model=FoundItems)
    def items(search: str = "", domain: str | None = None, limit: Limit = 20) -> Response:
        """Items whose title or id contains every word of the search, then items with similar
        words; without any, items with the most of the words."""
        state = service.recommender.state
        found = state.catalogue.search(search[:200], domain, limit)
        return json_response(
            FoundItems(items=[catalogue_item(state, index, images) for index in found.tolist()])
        )

    @app.get("/users", response_model=FoundUsers)
    def users(
        search: str = "",
        limit: Limit = 20,
        any: bool = False,
        only: Annotated[
            DomainName | None, Query(description="Users with events in this domain only.")
        ] = None,
    ) -> Response:
        """Known users whose id contains the search; with `any`, a random sample. With
        LLM4CDSR_SHOWN_USERS=hashed: the user of exactly this id, or users by the start of their
        hashed name."""
        recommender = service.recommender
        ids = recommender.user_ids if only is None else recommender.users_of(only)
        if any:
            sample = random.sample(ids, min(limit, len(ids)))
            found = [recommender.names.shown.name(user) for user in sample]
        else:
            found = recommender.names.search(search, ids, limit)
        return json_response(FoundUsers(users=found, total=len(ids)))

    @app.get("/users/{user_id}", response_model=UserCard)
    def user(user_id: UserId) -> Response:
        """A user's events, oldest first, and profile."""
        recommender = service.recommender
        state = recommender.state
        index = recommender.names.index(user_id)
        card = UserCard(
            user_id=user_id,
            shown_as=recommender.names.name(index),
            history=[catalogue_item(state, item, images) for item in state.history(index).tolist()],
            profile=recommender.profile(user_id),
        )
        return json_response(card)

    @app.get("/report", include_in_schema=False)
    def report() -> Response:
        """The report of the served release."""
        path = service.recommender.facts.report
        if path is None or not path.is_file():
            raise HTTPException(
                404,
                "the release that is served has no report, or one with user ids though "
                "LLM4CDSR_SHOWN_USERS=hashed; `llm4cdsr retrain` makes it",
            )
        return Response(path.read_bytes(), media_type="text/html; charset=utf-8")

    @app.get(ROUTE, include_in_schema=False)
    def image(domain: DomainName, item_id: str) -> Response:
        """The file of an item's image."""
        state = service.recommender.state
        item = state.catalogue.index((domain, item_id))
        file = images.file(image_of(state, item))
        if file is None or file.stat().st_size > MOST_BYTES:
            raise HTTPException(404, "this item has no image here")
        return Response(file.read_bytes(), media_type=KINDS[file.suffix.lower()])

    for path, name in PAGE_FILES.items():
        app.get(path, include_in_schema=False)(_page(name, images))


def add_operating(app: FastAPI, service: Service, registry: CollectorRegistry) -> None:
    """Adds the routes of health and metrics."""
    released = Gauge(
        "llm4cdsr_release_created_seconds",
        "When the served release was made, in seconds since 1970.",
        registry=registry,
    )

    @app.get("/health", response_model=Health)
    def health() -> Response:
        """The served release."""
        facts, catalogue = service.recommender.facts, service.recommender.catalogue
        starts = catalogue.domain_starts
        return json_response(
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
                profiles_by=facts.chat_model,
                max_history=service.limits.max_history,
                max_k=service.limits.max_k,
            )
        )

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        released.set(service.recommender.facts.created.timestamp())
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _page(name: str, images: ItemImages) -> Callable[[], Response]:
    content, kind = (TEMPLATES / name).read_bytes(), PAGE_KINDS[Path(name).suffix]
    policy = CONTENT_POLICY.format(images=images.sources)
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return lambda: Response(content, media_type=kind, headers=headers)
