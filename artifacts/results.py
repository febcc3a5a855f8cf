"""The tables that a training leaves: learning curve, metrics, ranks, recommendations."""

import polars as pl

from artifacts import columns as col
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

LEARNING_CURVE = "learning_curve.parquet"
METRICS = "metrics.parquet"
RANKS = "ranks.parquet"
RECOMMENDATIONS = "recommendations.parquet"
REPORT = "report.html"

METRIC_SCHEMA = pl.Schema(
    {
        "model": pl.String,
        "ranking": pl.String,
        col.DOMAIN: pl.String,
        "group": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "targets": pl.Int64,
    }
)
"""One number a row; ``value`` is a fraction, ``targets`` how many held-out events it is over."""

RECOMMENDATION_SCHEMA = pl.Schema(
    {
        col.USER_ID: pl.String,
        col.DOMAIN: pl.String,
        col.RANK: pl.Int32,
        col.ITEM_ID: pl.String,
        col.TITLE: pl.String,
        col.SCORE: pl.Float32,
    }
)
"""One recommended item a row; rank 1 is best."""


def read_table(store: Store, ref: ArtifactRef, name: str) -> pl.DataFrame:
    """Returns one Parquet file of an artifact; raises `ArtifactMissing`."""
    return pl.read_parquet(store.path(ref) / name, glob=False)
