"""Result tables: learning curve, candidates, metrics, ranks, recommendations."""

from pathlib import Path

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.arrays import read_arrays, write_arrays
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

LEARNING_CURVE = "learning_curve.parquet"
METRICS = "metrics.parquet"
METRICS_JSON = "metrics.json"
RANKS = "ranks.parquet"
RECOMMENDATIONS = "recommendations.parquet"
REPORT = "report.html"
_CANDIDATES_FILE, _ITEMS = "candidates.safetensors", "items"

FULL, SAMPLED, COLD_DOMAIN = "full", "sampled", "cold domain"
"""Rankings of a held-out event: among all items of its domain, or among candidates; and of a
withheld domain (METHOD 9)."""

OUR_MODEL = "llm4cdsr"
"""Name of the model in the column ``model``, beside the baselines."""

ALL = "all"
"""Names of the domain and the group of overall figures."""

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
"""One metric per row; ``value`` is a fraction over ``targets`` held-out events; null and 0 if no
event can be measured. In rows of `COLD_DOMAIN` ``targets`` are users, ``domain`` is the withheld
one, ``group`` the direction."""

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
"""One recommended item per row; rank 1 is the best."""


OVERALL = "overall"

QuotedFigures = dict[str, dict[str, dict[str, dict[str, float | None]]]]
"""Model, then ranking, then `OVERALL` or a domain, then NDCG@10 and HR@10; for withheld domains all
metrics."""


def quoted_figures(metrics: pl.DataFrame, group: str = ALL) -> QuotedFigures:
    """Returns the headline figures of a table of `METRIC_SCHEMA`, nested for JSON."""
    is_quoted = pl.col("metric").is_in(["NDCG@10", "HR@10"]) | (pl.col("ranking") == COLD_DOMAIN)
    rows = metrics.filter((pl.col("group") == group) & is_quoted)
    found: QuotedFigures = {}
    wanted = rows.select("model", "ranking", col.DOMAIN, "metric", "value")
    for model, ranking, domain, metric, value in wanted.iter_rows():
        places = found.setdefault(model, {}).setdefault(ranking, {})
        places.setdefault(OVERALL if domain == ALL else domain, {})[metric] = value
    return found


def read_table(store: Store, ref: ArtifactRef, name: str) -> pl.DataFrame:
    """Returns one Parquet file of an artifact; raises `ArtifactMissingError`."""
    return pl.read_parquet(store.path(ref) / name, glob=False)


def scan_recommendations(store: Store, ref: ArtifactRef) -> pl.LazyFrame:
    """Returns recommendations (`RECOMMENDATION_SCHEMA`) to be read in blocks and in part, because
    they grow with users times items; raises `ArtifactMissingError`."""
    return pl.scan_parquet(store.path(ref) / RECOMMENDATIONS, glob=False)


def overall_ndcg(store: Store, metrics: ArtifactRef) -> float | None:
    """Returns the model's NDCG@10 over all held-out events by full ranking; None if no event was
    measurable."""
    rows = read_table(store, metrics, METRICS).filter(
        model=OUR_MODEL, ranking=FULL, domain=ALL, group=ALL, metric="NDCG@10"
    )
    return rows["value"][0] if rows.height else None


def write_candidates(folder: Path, items: np.ndarray) -> None:
    """Writes item indices (test events, candidates), padded with 0."""
    write_arrays(folder / _CANDIDATES_FILE, {_ITEMS: items.astype(np.int32)})


def read_candidates(store: Store, ref: ArtifactRef) -> np.ndarray:
    """Returns int64 (test events, candidates); raises `ArtifactMissingError`."""
    return read_arrays(store.path(ref) / _CANDIDATES_FILE)[_ITEMS].astype(np.int64)
