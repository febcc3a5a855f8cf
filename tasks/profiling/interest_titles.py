"""Titles of a history by interest, for the analysis prompts (METHOD 3). Training events only."""

import polars as pl

from artifacts import columns as col
from artifacts.kinds.dataset import Dataset
from prompts.render import MAX_TITLES

TITLES = "titles"


def titles_by_interest(data: Dataset, clusters: pl.DataFrame) -> pl.DataFrame:
    """Returns ``user_index, cluster, titles``: the latest distinct titles of each interest.

    Training events only; at most `MAX_TITLES` per cluster, oldest first; without untitled items.
    """
    return latest_titles(data.train_events(), described_items(data, clusters))


def described_items(data: Dataset, clusters: pl.DataFrame) -> pl.DataFrame:
    """Returns ``item_index, title, cluster`` of the items that have both."""
    titled = data.items.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.TITLE)
    assigned = clusters.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.CLUSTER)
    return titled.filter(pl.col(col.TITLE).is_not_null()).join(assigned, on=col.ITEM_INDEX)


def latest_titles(events: pl.DataFrame, described: pl.DataFrame) -> pl.DataFrame:
    """Returns `titles_by_interest` of some users' events."""
    latest = pl.col(col.TITLE).reverse().unique(maintain_order=True).head(MAX_TITLES).reverse()
    return (
        events.join(described, on=col.ITEM_INDEX, maintain_order="left")
        .group_by(col.USER_INDEX, col.CLUSTER, maintain_order=True)
        .agg(latest.alias(TITLES))
        .sort(col.USER_INDEX, col.CLUSTER)
    )
