"""JSON messages of the service, one model per message."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from artifacts.strict import Strict

DomainName = Annotated[str, Field(max_length=256)]


class ItemId(Strict):
    """Key of an item; `domain` is optional for unique ids."""

    item_id: str = Field(min_length=1, max_length=256)
    domain: DomainName | None = None


class Ask(Strict):
    """A history (oldest item first), and options of its recommendations."""

    history: list[ItemId]
    domains: list[DomainName] | None = Field(
        default=None, description="Domain of the recommendations; by default all."
    )
    k: int = Field(default=10, ge=1, description="Items per domain.")
    exclude_seen: bool = Field(default=True, description="Exclude items of the history.")
    reasons: int = Field(
        default=0,
        ge=0,
        le=5,
        description="Number of nearest items of the history to return with each item.",
    )


class ScoreAsk(Strict):
    """Items to score after a history."""

    history: list[ItemId]
    items: list[ItemId] = Field(min_length=1)


class ShownItem(Strict):
    """An item of the catalogue."""

    domain: str
    item_id: str
    title: str | None


class CatalogueItem(ShownItem):
    """An item with its metadata."""

    brand: str | None = None
    categories: list[str] = Field(default_factory=list)
    price: float | None = None
    image: str | None = Field(default=None, description="Address, or a path of this service.")


class ReasonItem(ShownItem):
    """An item of the history; `similarity` is the cosine of the two texts' embeddings."""

    similarity: FiniteFloat


class RecommendedItem(CatalogueItem):
    """Rank 1 is the best; scores are comparable within a domain."""

    rank: int
    score: FiniteFloat
    reasons: list[ReasonItem] = Field(default_factory=list)


class DomainList(Strict):
    """Top items of one domain."""

    domain: str
    items: list[RecommendedItem]


class Recommended(Strict):
    """`basis` is "popularity" if no item of the history is known; `unknown_items` lists unknown
    ones. `user_id`: of the history, null for a sent one."""

    release: str
    user_id: str | None = None
    basis: Literal["history", "popularity"]
    unknown_items: list[ItemId]
    domains: list[DomainList]


class Scores(Strict):
    """In the order of the items asked for."""

    release: str
    scores: list[FiniteFloat]


class EffectAsk(Strict):
    """An item, and the history whose effects on its score are requested."""

    history: list[ItemId] = Field(min_length=1)
    item: ItemId


class Effect(ShownItem):
    """One item of the history: the decrease of the target item's score without it, and the
    resulting rank."""

    effect: FiniteFloat
    rank_without: int


class Effects(Strict):
    """Scores with and without each of the latest items of a history, by decreasing effect.
    ``rank``: among the domain's other items. `unknown_items`: of the history, skipped."""

    release: str
    item: ShownItem
    rank: int
    unknown_items: list[ItemId]
    effects: list[Effect]


class SimilarItems(Strict):
    """Nearest text embeddings first; the score is the cosine."""

    item: CatalogueItem
    similar: list[RecommendedItem]


class FoundItems(Strict):
    """Items by popularity."""

    items: list[CatalogueItem]


class FoundUsers(Strict):
    """Shown names of known users; `total` counts all of them."""

    users: list[str]
    total: int


class UserCard(Strict):
    """A known user: events (oldest first) and profile. `user_id`: as requested; `shown_as`: name
    on the page, a keyed hash with LLM4CDSR_SHOWN_USERS=hashed."""

    user_id: str
    shown_as: str
    history: list[CatalogueItem]
    profile: str | None


class Health(Strict):
    """The served release and its loading time."""

    status: Literal["ok"]
    release: str
    model: str
    created: str
    users: int
    items: dict[str, int]
    notes: list[str]
    profiles_by: str | None = None
    max_history: int
    max_k: int
