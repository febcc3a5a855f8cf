"""Conversion of item indices and scores to tables of users and items."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.results import RECOMMENDATION_SCHEMA
from model.scoring.top_k import Recommendations
from tasks.serving.catalogue import Catalogue

ITEM_SCHEMA = pl.Schema(
    {name: kind for name, kind in RECOMMENDATION_SCHEMA.items() if name != col.USER_ID}
)
"""``domain, rank, item_id, title, score``: a list of items, rank 1 first."""


def item_rows(catalogue: Catalogue, best: Recommendations) -> pl.DataFrame:
    """Returns `ITEM_SCHEMA`, list after list, without empty places."""
    return _named(catalogue, best).select(list(ITEM_SCHEMA))


def user_rows(catalogue: Catalogue, best: Recommendations, user_ids: Sequence[str]) -> pl.DataFrame:
    """Returns `RECOMMENDATION_SCHEMA`; `user_ids` are those of the rows of `best`."""
    rows = np.repeat(np.arange(len(best.items)), (best.items > 0).sum(axis=1))
    names = pl.Series(col.USER_ID, user_ids, pl.String).gather(rows)
    return _named(catalogue, best).with_columns(names).select(list(RECOMMENDATION_SCHEMA))


def _named(catalogue: Catalogue, best: Recommendations) -> pl.DataFrame:
    is_item = best.items > 0
    ranks = np.arange(1, best.items.shape[1] + 1, dtype=np.int32)
    names = catalogue.items.select(col.DOMAIN, col.ITEM_ID, col.TITLE)
    return names[best.items[is_item] - 1].with_columns(
        pl.Series(col.RANK, np.broadcast_to(ranks, is_item.shape)[is_item]),
        pl.Series(col.SCORE, best.scores[is_item], pl.Float32),
    )
