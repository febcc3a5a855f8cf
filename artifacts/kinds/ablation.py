"""The ablation artifact: one row per model part and group of held-out events."""

import polars as pl

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
