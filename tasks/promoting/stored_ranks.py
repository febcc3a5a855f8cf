"""Ranks of held-out events as rows of a table, and back."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from artifacts import columns as col
from model.data.sequences import IntArray
from model.scoring.ranking import Ranks, expected_gains

COUNTS = ("greater", "equal", "candidates")


def rank_rows(ranks: Ranks, targets: IntArray) -> pl.DataFrame:
    """Returns ``user_index, item_index, greater, equal, candidates`` in the order of the ranks."""
    counts = {name: getattr(ranks, name) for name in COUNTS}
    return pl.DataFrame({col.USER_INDEX: ranks.users, col.ITEM_INDEX: targets, **counts})


def ranks_of(rows: pl.DataFrame, domains: IntArray | None = None) -> Ranks:
    """Returns the ranks of a table; the domains of the targets are 0 unless they are given."""
    users, *counts = (rows[name].cast(pl.Int64).to_numpy() for name in (col.USER_INDEX, *COUNTS))
    return Ranks(users, np.zeros_like(users) if domains is None else domains, *counts)


def gains_at_10(rows: pl.DataFrame, metric: str = "NDCG") -> NDArray[np.float64]:
    """Returns NDCG@10 or HR@10 of each row, as expectation over ties."""
    return expected_gains(ranks_of(rows), (10,))[metric][10]
