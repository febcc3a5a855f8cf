"""Stage 3, items to clusters: K-means over the item embeddings (METHOD 3.1).

Clusters split a user's history into interests, each described by the LLM. Refitting K-means for a
few new items would move items between clusters and change the prompts of unchanged users. Centres
are therefore kept until enough of the catalogue is new; new items join the nearest centre.
"""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from artifacts.bundles import REFRESHED, parts_of
from artifacts.drafts import Draft
from artifacts.integrity import ArtifactError
from artifacts.kinds.clusters import read_centroids, write_clusters
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.item_vectors import read_item_embeddings
from artifacts.manifest import ArtifactRef, Kind, Manifest, identity
from artifacts.store import Store
from artifacts.strict import Strict
from tasks.dump.dump_config import ITEM_KEY
from tasks.frame.stage import StageResult, run_stage, stage_task

if TYPE_CHECKING:
    from sklearn.cluster import KMeans, MiniBatchKMeans

FULL_KMEANS_ITEMS = 50_000
"""Number of items above which mini-batch K-means is used."""

CENTROIDS = "centroids"
"""Parent role of the clusters whose centres are kept."""


class ClusterConfig(Strict):
    """Settings of item clusters."""

    clusters: int = Field(default=10, ge=1, description="Number of clusters; 10 as in the paper.")
    seed: int = Field(default=0, description="Seed of K-means (METHOD 7.12).")
    refit_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of changed items above which centres are refitted; refitting changes "
        "prompts of unchanged users, which are paid again. 0 refits on every change.",
    )


@stage_task("cluster items")
def cluster_items(embeddings: ArtifactRef, config: ClusterConfig, store_root: str) -> StageResult:
    """Returns the clusters: ``item_index, cluster, distance`` (Euclidean, to its centroid)."""
    store = Store(store_root)
    wanted = identity(Kind.CLUSTERS, config, {"embeddings": embeddings})
    kept = None
    if store.find(wanted) is None:
        kept = kept_centroids(store, embeddings, wanted.parameters, config.refit_share)
    if kept is not None:
        wanted = identity(Kind.CLUSTERS, config, {"embeddings": embeddings, CENTROIDS: kept})

    def make(draft: Draft) -> None:
        read = read_item_embeddings(store, embeddings)
        vectors = read.vectors[1:]
        if kept is None:
            # Many items at the mean of their domain would attract a cluster.
            own = read.is_embedded[1:]
            # Copies vectors only if some are excluded.
            centroids = _fitted(vectors if own.all() else vectors[own], config)
        else:
            centroids = read_centroids(store, kept)
        from sklearn.metrics import pairwise_distances_argmin_min

        labels, distances = pairwise_distances_argmin_min(vectors, centroids)
        write_clusters(draft.path, labels, distances, centroids)
        draft.counts.update({"items": len(vectors), "clusters": len(centroids)})

    return run_stage(store, "cluster items", wanted, make)


def kept_centroids(
    store: Store, embeddings: ArtifactRef, parameters: Mapping[str, object], changed_share: float
) -> ArtifactRef | None:
    """Returns the clusters whose centres are kept, None to refit.

    Kept if the latest refresh used equal ``parameters``, embedding model and template, at most
    ``changed_share`` of both catalogues' items are in only one of them, and its artifacts exist.
    """
    release = store.pointed(REFRESHED)
    if release is None:
        return None
    try:
        latest = store.manifest(parts_of(store, release)["clusters"])
        fitted = store.manifest(latest.parents.get(CENTROIDS, latest.ref))
        now, then = store.manifest(embeddings), store.manifest(fitted.parents["embeddings"])
        if fitted.parameters != parameters or now.parameters != then.parameters:
            return None
        if _changed_share(store, now, then) > changed_share:
            return None
    except (ArtifactError, FileNotFoundError):
        return None
    return fitted.ref if store.holds(fitted.ref) else None


def _changed_share(store: Store, now: Manifest, then: Manifest) -> float:
    """1 - |both| / |either|."""
    mine, theirs = (
        read_dataset(store, embeddings.parents["dataset"]).items.select(ITEM_KEY)
        for embeddings in (now, then)
    )
    both = mine.join(theirs, on=ITEM_KEY, how="semi").height
    either = mine.height + theirs.height - both
    return 1 - both / either if either else 0.0


def _fitted(vectors: np.ndarray, config: ClusterConfig) -> np.ndarray:
    """Returns centroids, float32 (clusters, width)."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # With fewer distinct texts than clusters, some are empty, without harm.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans = _kmeans(len(vectors), config).fit(vectors)
    return np.asarray(kmeans.cluster_centers_, np.float32)


def _kmeans(items: int, config: ClusterConfig) -> "KMeans | MiniBatchKMeans":
    from sklearn.cluster import KMeans, MiniBatchKMeans

    kind = KMeans if items <= FULL_KMEANS_ITEMS else MiniBatchKMeans
    return kind(min(config.clusters, items), random_state=config.seed, n_init="auto")
