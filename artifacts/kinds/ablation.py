"""What an ablation measured: one row a part of the model and group of held-out events."""

import polars as pl

ABLATION = "ablation.parquet"

FEWEST = 30
"""Fewer events than this have no figure: an interval over them would say nothing."""

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
"""``with`` and ``without`` the part are NDCG@10, ``low`` and ``high`` the ends of the 95 % interval
of their ``difference``; all are null where there are too few ``events``."""
