"""Stage 3, items to clusters: K-means over the item embeddings (METHOD 3.1).

Clusters split a user's history into interests, each of which the LLM describes on its own.
"""

import warnings

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from artifacts.clusters import write_clusters
from artifacts.item_embeddings import read_item_embeddings
from artifacts.manifest import ArtifactRef, Kind, identity
from artifacts.store import Draft, Store
from tasks.stage import StageResult, run_stage

FULL_KMEANS_ITEMS = 50_000
"""Beyond this many items mini-batches are used: minutes become seconds."""


class ClusterConfig(BaseModel):
    """How items are grouped into interests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clusters: int = Field(default=10, ge=1, description="As in the paper.")
    seed: int = Field(default=0, description="Of K-means (METHOD 7.12).")


@task(name="cluster items", task_run_name="cluster items", cache_policy=NO_CACHE)
def cluster_items(embeddings: ArtifactRef, config: ClusterConfig, store_root: str) -> StageResult:
    """Returns the clusters: ``item_index, cluster, distance`` (Euclidean, to its centroid)."""
    store = Store(store_root)
    wanted = identity(Kind.CLUSTERS, config, {"embeddings": embeddings})
    return run_stage(
        store,
        "cluster items",
        wanted,
        lambda draft: make_clusters(store, embeddings, config, draft),
    )


def make_clusters(
    store: Store, embeddings: ArtifactRef, config: ClusterConfig, draft: Draft
) -> None:
    """Fills a draft with the clusters of item embeddings.

    The centroids come from items with an embedding of their own: thousands of items that stand
    at their domain's mean would draw a cluster to themselves.
    """
    read = read_item_embeddings(store, embeddings)
    vectors, is_embedded = read.vectors[1:], read.is_embedded[1:]
    with warnings.catch_warnings():
        # Fewer distinct texts than clusters: some stay empty, which harms nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans = _kmeans(int(is_embedded.sum()), config).fit(vectors[is_embedded])
    labels = np.asarray(kmeans.predict(vectors))
    centroids = np.asarray(kmeans.cluster_centers_)
    distances = np.linalg.norm(vectors - centroids[labels], axis=1)
    write_clusters(draft.path, labels, distances, centroids)
    draft.counts.update({"items": len(vectors), "clusters": len(centroids)})


def _kmeans(items: int, config: ClusterConfig) -> KMeans | MiniBatchKMeans:
    kind = KMeans if items <= FULL_KMEANS_ITEMS else MiniBatchKMeans
    return kind(min(config.clusters, items), random_state=config.seed, n_init="auto")
