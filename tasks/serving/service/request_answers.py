"""Shared parts of routes: recommender, limits, item messages."""

import math

from fastapi import HTTPException
from fastapi.responses import Response
from pydantic import BaseModel

from artifacts import columns as col
from model.data.sequences import IntArray
from tasks.serving.catalogue import ItemName
from tasks.serving.limits import Limits
from tasks.serving.recommender import Recommender
from tasks.serving.service.item_images import ItemImages
from tasks.serving.service.messages import (
    Ask,
    CatalogueItem,
    DomainList,
    ItemId,
    ReasonItem,
    Recommended,
    RecommendedItem,
    ShownItem,
)
from tasks.serving.service.request_batches import Batcher, Picks, ScoringJob
from tasks.serving.state import ServingState


class Service:
    """State of the routes: current recommender, batcher, limits."""

    def __init__(self, recommender: Recommender, limits: Limits, images: ItemImages) -> None:
        self.recommender, self.limits, self.images = recommender, limits, images
        self.batcher = Batcher()

    async def recommended(
        self,
        recommender: Recommender,
        state: ServingState,
        history: IntArray,
        unknown: list[ItemName],
        ask: Ask,
    ) -> Recommended:
        """Returns recommendations; raises `UnknownDomainError`, or HTTPException beyond a limit."""
        if ask.k > self.limits.max_k:
            raise HTTPException(422, f"k is {ask.k}; at most {self.limits.max_k} is allowed")
        names = state.catalogue.domains if ask.domains is None else ask.domains
        domains = tuple(dict.fromkeys(state.catalogue.domain_number(name) for name in names))
        job = ScoringJob(state, history, domains, ask.k, ask.exclude_seen)
        picks = await self.batcher.ask(job)
        return Recommended(
            release=recommender.facts.ref.fingerprint,
            basis="history" if len(history) else "popularity",
            unknown_items=[item_id_of(name) for name in unknown],
            domains=domain_lists(state, history, picks, ask.reasons, self.images),
        )

    def known(self, state: ServingState, items: list[ItemId]) -> tuple[IntArray, list[ItemName]]:
        """Returns indices and unknown items; raises HTTPException for a too long history."""
        if len(items) > self.limits.max_history:
            raise HTTPException(
                422,
                f"a history of {len(items)} items; at most {self.limits.max_history} are allowed: "
                "send the newest",
            )
        return state.catalogue.split_known(item_name(item) for item in items)


def domain_lists(
    state: ServingState, history: IntArray, picks: Picks, reasons: int, images: ItemImages
) -> list[DomainList]:
    """Returns the recommendations with titles and nearest items of the history."""
    return [
        DomainList(
            domain=state.catalogue.domains[number],
            items=[
                _recommended(state, history, item, rank, score, reasons, images)
                for rank, (item, score) in enumerate(zip(*picks[number], strict=True), start=1)
            ],
        )
        for number in sorted(picks)
    ]


def shown(state: ServingState, item: int) -> ShownItem:
    """Returns an item's message by index."""
    key = state.catalogue.keys[item - 1]
    title = state.catalogue.titles[item - 1]
    return ShownItem(domain=key.domain, item_id=key.item_id, title=title)


def catalogue_item(state: ServingState, item: int, images: ItemImages) -> CatalogueItem:
    """Returns an item's message with its metadata, by index."""
    key, items = state.catalogue.keys[item - 1], state.catalogue.items
    categories, price = items[col.CATEGORIES][item - 1], items[col.PRICE][item - 1]
    return CatalogueItem(
        domain=key.domain,
        item_id=key.item_id,
        title=state.catalogue.titles[item - 1],
        brand=items[col.BRAND][item - 1],
        categories=[each for each in categories if each] if categories is not None else [],
        price=price if price is not None and math.isfinite(price) else None,
        image=images.address(key.domain, key.item_id, image_of(state, item)),
    )


def image_of(state: ServingState, item: int) -> str | None:
    """Returns the address or path of an item's image in the dump, None without one."""
    items = state.catalogue.items
    return items[col.IMAGE][item - 1] if col.IMAGE in items.columns else None


def item_name(item: ItemId) -> ItemName:
    """Returns the catalogue's key of an item."""
    return item.item_id if item.domain is None else (item.domain, item.item_id)


def item_id_of(name: ItemName) -> ItemId:
    """Returns the message of a catalogue key."""
    if isinstance(name, str):
        return ItemId(item_id=name)
    return ItemId(domain=name[0], item_id=name[1])


def json_response(message: BaseModel) -> Response:
    """Returns a response without FastAPI's second validation."""
    return Response(message.model_dump_json(), media_type="application/json")


def _recommended(
    state: ServingState,
    history: IntArray,
    item: int,
    rank: int,
    score: float,
    reasons: int,
    images: ItemImages,
) -> RecommendedItem:
    near = state.reasons(history, item, reasons) if reasons and len(history) else []
    return RecommendedItem(
        **dict(catalogue_item(state, item, images)),
        rank=rank,
        score=round(score, 4),
        reasons=[
            ReasonItem(
                **shown(state, reason.item).model_dump(), similarity=round(reason.similarity, 3)
            )
            for reason in near
        ],
    )
