"""The clusters artifact: which interest each item belongs to."""

from pathlib import Path

import numpy as np
import polars as pl

from artifacts import columns as col
from artifacts.kinds.arrays import read_arrays, write_arrays
from artifacts.manifest import ArtifactRef
from artifacts.store import Store

CENTROID_DISTANCE = "distance"

_CLUSTERS_FILE = "clusters.parquet"
_CENTROIDS_FILE = "centroids.safetensors"


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
    """Returns ``item_index, cluster, distance`` (Euclidean); raises `ArtifactMissing`."""
    return pl.read_parquet(store.path(ref) / _CLUSTERS_FILE, glob=False)


def read_centroids(store: Store, ref: ArtifactRef) -> np.ndarray:
    """Returns float32 (clusters, width); raises `ArtifactMissing`."""
    return read_arrays(store.path(ref) / _CENTROIDS_FILE)["centroids"]
