"""What the service reads and says, as JSON: one model a message."""

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from artifacts.strict import Strict

DomainName = Annotated[str, Field(max_length=256)]


class ItemId(Strict):
    """Names an item; without `domain` only where no other domain has that id."""

    item_id: str = Field(min_length=1, max_length=256)
    domain: DomainName | None = None


class Ask(Strict):
    """A history, oldest item first, and what is wanted after it."""

    history: list[ItemId]
    domains: list[DomainName] | None = Field(
        default=None, description="Where to look; all by default."
    )
    k: int = Field(default=10, ge=1, description="Items a domain.")
    exclude_seen: bool = Field(default=True, description="Leave out what is in the history.")
    reasons: int = Field(
        default=0, ge=0, le=5, description="Nearest items of the history to give with each item."
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
    """An item with what else is known of it."""

    brand: str | None = None
    categories: list[str] = Field(default_factory=list)
    price: float | None = None


class ReasonItem(ShownItem):
    """An item of the history; `similarity` is the cosine of the two texts' embeddings."""

    similarity: FiniteFloat


class RecommendedItem(CatalogueItem):
    """Rank 1 is best; scores of one domain can be compared with each other."""

    rank: int
    score: FiniteFloat
    reasons: list[ReasonItem] = Field(default_factory=list)


class DomainList(Strict):
    """The best items of one domain."""

    domain: str
    items: list[RecommendedItem]


class Recommended(Strict):
    """`basis` is "popularity" where no item of the history is known; `unknown_items` are those.
    `user_id` is whose history it is, None for one that was sent."""

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
    """An item, and the history whose effect on its place is wanted."""

    history: list[ItemId] = Field(min_length=1)
    item: ItemId


class Effect(ShownItem):
    """One item of the history: by how much its removal lowers the score of the item that was asked
    about, and the item's place in its domain then."""

    effect: FiniteFloat
    rank_without: int


class Effects(Strict):
    """The model's own answer with and without each of the latest items of a history, those first
    whose removal lowers the score most. ``rank`` is the place among the domain's other items."""

    release: str
    item: ShownItem
    rank: int
    effects: list[Effect]


class SimilarItems(Strict):
    """Nearest in meaning first; the score is the cosine of the embeddings."""

    item: ShownItem
    similar: list[RecommendedItem]


class FoundItems(Strict):
    """Most bought first."""

    items: list[ShownItem]


class FoundUsers(Strict):
    """Known users; `total` counts all of them."""

    users: list[str]
    total: int


class UserCard(Strict):
    """A known user: events oldest first, and what the language model wrote about them."""

    user_id: str
    history: list[ShownItem]
    profile: str | None


class Health(Strict):
    """What is served, and since when."""

    status: Literal["ok"]
    release: str
    model: str
    created: str
    users: int
    items: dict[str, int]
    notes: list[str]
    max_history: int
    max_k: int
