"""The ablation artifact: one row per model part and group of held-out events."""

import polars as pl

from artifacts.kinds.results import read_table
from artifacts.manifest import ArtifactRef
from artifacts.store import Store
from artifacts.strict import Strict

ABLATION = "ablation.parquet"

FEWEST = 30
"""Minimum events of a group with figures."""

ALL_EVENTS = "all events"

ABLATION_SCHEMA = pl.Schema(
    {
        "part": pl.String,
        "group": pl.String,
        "events": pl.Int64,
        "with": pl.Float64,
        "without": pl.Float64,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
)
"""``with`` and ``without`` the part are NDCG@10, ``low`` and ``high`` the 95 % interval of their
``difference``; all are null for too few ``events``."""


class AblationRow(Strict):
    """NDCG@10 of one group of held-out events with and without a part of the model, and the 95 %
    interval of the difference; None for too few events."""

    part: str
    group: str
    events: int
    with_part: float | None
    without: float | None
    difference: float | None
    low: float | None
    high: float | None


def read_ablation(store: Store, ref: ArtifactRef) -> tuple[AblationRow, ...]:
    """Returns the rows of an ablation."""
    table = read_table(store, ref, ABLATION).rename({"with": "with_part"})
    return tuple(AblationRow.model_validate(row) for row in table.iter_rows(named=True))
