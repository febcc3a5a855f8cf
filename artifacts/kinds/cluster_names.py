"""The cluster names artifact: what the language model calls each cluster, for people to read."""

from pathlib import Path

import polars as pl

from artifacts import columns as col
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

NAME = "name"

_NAMES_FILE = "names.parquet"
_FAILURES_FILE = "failures.parquet"


def write_cluster_names(folder: Path, names: pl.DataFrame, failures: pl.DataFrame) -> None:
    """Writes ``cluster, name``, and ``key, reason`` of the prompts without a usable answer."""
    names.select(col.CLUSTER, NAME).write_parquet(folder / _NAMES_FILE)
    failures.write_parquet(folder / _FAILURES_FILE)


def read_cluster_names(store: Store, ref: ArtifactRef) -> dict[int, str]:
    """Returns the names there are, by cluster; raises `ArtifactMissing`."""
    return dict(pl.read_parquet(store.path(ref) / _NAMES_FILE, glob=False).iter_rows())
