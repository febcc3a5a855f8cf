"""The clusters artifact (cluster of each item) and the cluster names artifact (names by the
LLM)."""

from pathlib import Path

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.arrays import read_arrays, write_arrays
from artifacts.kinds.dataset import Dataset
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

CENTROID_DISTANCE = "distance"
NAME = "name"
TITLES = "titles"

_CLUSTERS_FILE = "clusters.parquet"
_CENTROIDS_FILE = "centroids.safetensors"
_NAMES_FILE = "names.parquet"
_FAILURES_FILE = "failures.parquet"


def write_clusters(
    folder: Path, labels: np.ndarray, distances: np.ndarray, centroids: np.ndarray
) -> None:
    """Writes label and distance of items ``1..|V|``, and centroids (clusters, width)."""
    pl.DataFrame(
        {
            col.ITEM_INDEX: np.arange(1, len(labels) + 1, dtype=np.int32),
            col.CLUSTER: labels.astype(np.int32),
            CENTROID_DISTANCE: distances.astype(np.float32),
        }
    ).write_parquet(folder / _CLUSTERS_FILE)
    write_arrays(folder / _CENTROIDS_FILE, {"centroids": centroids.astype(np.float32)})


def read_clusters(store: Store, ref: ArtifactRef) -> pl.DataFrame:
    """Returns ``item_index, cluster, distance`` (Euclidean); raises `ArtifactMissingError`."""
    return pl.read_parquet(store.path(ref) / _CLUSTERS_FILE, glob=False)


def read_centroids(store: Store, ref: ArtifactRef) -> np.ndarray:
    """Returns float32 (clusters, width); raises `ArtifactMissingError`."""
    return read_arrays(store.path(ref) / _CENTROIDS_FILE)["centroids"]


def write_cluster_names(folder: Path, names: pl.DataFrame, failures: pl.DataFrame) -> None:
    """Writes ``cluster, name``, and ``key, reason`` of the prompts without a usable answer."""
    names.select(col.CLUSTER, NAME).write_parquet(folder / _NAMES_FILE)
    failures.write_parquet(folder / _FAILURES_FILE)


def read_cluster_names(store: Store, ref: ArtifactRef) -> dict[int, str]:
    """Returns the names by cluster; raises `ArtifactMissingError`."""
    return dict(pl.read_parquet(store.path(ref) / _NAMES_FILE, glob=False).iter_rows())


def central_titles(data: Dataset, clusters: pl.DataFrame, most: int) -> pl.DataFrame:
    """Returns ``cluster, titles`` by cluster: its `most` central distinct titles, nearest first.

    Clusters without titles have no row.
    """
    titled = data.items.select(pl.col(col.ITEM_INDEX).cast(pl.Int32), col.TITLE).drop_nulls()
    return (
        clusters.join(titled, on=col.ITEM_INDEX)
        .sort(col.CLUSTER, CENTROID_DISTANCE, col.ITEM_INDEX)
        .group_by(col.CLUSTER, maintain_order=True)
        .agg(pl.col(col.TITLE).unique(maintain_order=True).head(most).alias(TITLES))
    )
