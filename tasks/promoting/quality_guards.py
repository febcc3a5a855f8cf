"""Quality guards: properties of recommendations beyond accuracy, with limits.

Counts (`RecommendationCounts`) are stored with the recommendations; `guard_violations` reads these
counts only, so promotion needs no table.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import polars as pl
from pydantic import Field

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset
from artifacts.strict import Strict

POPULAR_FRACTION = 0.1
"""Share of items that are considered popular."""

USERS_WITHOUT, DUPLICATES = "users_without", "duplicates"
ROWS, ITEMS = "rows", "items"
COVERAGE, SERVED_SHARE = "coverage", "served_share"
REACHED_SHARE = "reached_share"
POPULAR_SHARE, POPULAR_EVENT_SHARE = "popular_share", "popular_event_share"
INDEX_RECALL = "index_recall"
"""Of the items of exact lists, those that a searched domain's lists hold: the lowest of such
domains. Counted only for domains with an index."""

_ITEM = [col.DOMAIN, col.ITEM_ID]


class GuardThresholds(Strict):
    """Limits of the counts of recommendations."""

    min_served_share: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="Minimum share of users with an event who have a recommendation.",
    )
    min_coverage: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Minimum share of distinct recommended items, of all items or of the number of "
        "recommendations if smaller.",
    )
    max_popular_share: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="Maximum share of recommendations from the most popular tenth of items.",
    )
    max_duplicates: int = Field(
        default=0, ge=0, description="Maximum number of duplicate items within lists."
    )


class RecommendationCounts:
    """Counts of a table of recommendations (`RECOMMENDATION_SCHEMA`), in blocks of distinct users.

    Shares are of all items, all users with an event, and all recommendations.
    """

    def __init__(self, data: Dataset) -> None:
        bought = data.times_bought()
        count = max(1, int(POPULAR_FRACTION * data.items.height))
        most = np.argsort(-bought[1:], kind="stable")[:count]
        popular_ones = data.items.select(col.ITEM_INDEX, col.DOMAIN, col.ITEM_ID)[most]
        self._popular = popular_ones.select(pl.col(_ITEM).cast(pl.String))
        popular = bought[popular_ones[col.ITEM_INDEX].to_numpy()].sum()
        self._popular_event_share = float(popular / max(1, bought.sum()))
        self._all_users = int((np.diff(data.offsets) > 0).sum())
        self._all_items = data.items.height
        self._rows = self._users = self._popular_rows = self._distinct = 0
        self._items: list[pl.DataFrame] = []
        self._known = 0

    def each(self, blocks: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Yields the blocks unchanged and counts them."""
        for block in blocks:
            self.add(block)
            yield block

    def add(self, recommended: pl.DataFrame) -> None:
        """Adds the rows of some users."""
        rows = recommended.select(col.USER_ID, pl.col(_ITEM).cast(pl.String))
        self._rows += rows.height
        self._users += rows[col.USER_ID].n_unique()
        self._popular_rows += rows.join(self._popular, on=_ITEM, how="semi").height
        self._distinct += rows.n_unique()
        self._items.append(rows.select(_ITEM).unique())
        # Merged when they have doubled, to bound memory and time.
        if sum(items.height for items in self._items) > 2 * self._known:
            self._items = [pl.concat(self._items).unique()]
            self._known = self._items[0].height

    def counts(self) -> dict[str, int | float]:
        """Returns the counts of all blocks so far."""
        items = pl.concat(self._items).n_unique() if self._items else 0
        return {
            ROWS: self._rows,
            "users": self._users,
            ITEMS: items,
            USERS_WITHOUT: self._all_users - self._users,
            SERVED_SHARE: round(self._users / max(1, self._all_users), 4),
            COVERAGE: round(items / max(1, self._all_items), 4),
            POPULAR_SHARE: round(self._popular_rows / max(1, self._rows), 4),
            POPULAR_EVENT_SHARE: round(self._popular_event_share, 4),
            DUPLICATES: self._rows - self._distinct,
        }


def guard_violations(
    counts: Mapping[str, int | float], thresholds: GuardThresholds
) -> tuple[str, ...]:
    """Returns one sentence per violated limit; a missing count violates its limit."""
    limits = (
        (SERVED_SHARE, counts.get(SERVED_SHARE), thresholds.min_served_share, "at least"),
        (REACHED_SHARE, _reached_share(counts), thresholds.min_coverage, "at least"),
        (POPULAR_SHARE, counts.get(POPULAR_SHARE), thresholds.max_popular_share, "at most"),
        (DUPLICATES, counts.get(DUPLICATES), thresholds.max_duplicates, "at most"),
    )
    found = []
    for name, value, limit, side in limits:
        if value is None:
            found.append(f"{name} was not measured; make the recommendations again")
        elif value < limit if side == "at least" else value > limit:
            found.append(f"{name} is {value:g}, {side} {limit:g} is required")
    return tuple(found)


def _reached_share(counts: Mapping[str, int | float]) -> float | None:
    """Returns the share of recommended items, of all items or of the number of recommendations if
    smaller."""
    if not {ROWS, ITEMS, COVERAGE} <= counts.keys():
        return None
    return max(counts[COVERAGE], counts[ITEMS] / max(1, counts[ROWS]))
