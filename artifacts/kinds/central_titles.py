"""The titles that stand for a cluster: those nearest to its centre."""

import polars as pl

from artifacts import columns as col
from artifacts.kinds.clusters import CENTROID_DISTANCE
from artifacts.kinds.dataset import Dataset

TITLES = "titles"


def central_titles(data: Dataset, clusters: pl.DataFrame, most: int) -> pl.DataFrame:
    """Returns ``cluster, titles`` by cluster: its `most` central distinct titles, nearest first.

    A cluster of items without titles has no row.
    """
    titled = data.items.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.TITLE).drop_nulls()
    return (
        clusters.join(titled, on=col.ITEM_INDEX)
        .sort(col.CLUSTER, CENTROID_DISTANCE, col.ITEM_INDEX)
        .group_by(col.CLUSTER, maintain_order=True)
        .agg(pl.col(col.TITLE).unique(maintain_order=True).head(most).alias(TITLES))
    )
