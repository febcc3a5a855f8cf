"""Stage 3, items to clusters: K-means over the item embeddings (METHOD 3.1).

Clusters split a user's history into interests, each of which the LLM describes on its own.
K-means fitted anew on a few more items moves its borders, items change their interest, and
histories that nobody added to would be asked about again. So centres are kept until enough of
the catalogue is new; new items join the nearest.
"""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from artifacts.bundles import REFRESHED, parts_of
from artifacts.drafts import Draft
from artifacts.integrity import ArtifactError
from artifacts.kinds.clusters import read_centroids, write_clusters
from artifacts.kinds.dataset import read_dataset
from artifacts.kinds.item_embeddings import read_item_embeddings
from artifacts.manifest import ArtifactRef, Kind, Manifest, identity
from artifacts.store import Store
from artifacts.strict import Strict
from tasks.dump.dump_config import ITEM_KEY
from tasks.frame.stage import StageResult, run_stage

if TYPE_CHECKING:
    from sklearn.cluster import KMeans, MiniBatchKMeans

FULL_KMEANS_ITEMS = 50_000
"""Beyond this many items mini-batches are used: minutes become seconds."""

CENTROIDS = "centroids"
"""The role of the clusters, among the parents of others, whose centres those kept."""


class ClusterConfig(Strict):
    """How items are grouped into interests."""

    clusters: int = Field(default=10, ge=1, description="As in the paper.")
    seed: int = Field(default=0, description="Of K-means (METHOD 7.12).")
    refit_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Keep the centres of the last refresh until more than this share of the items "
        "has changed: else a few new items move other items' interests, and profiles that "
        "nothing was added to are paid again. 0 fits on every change.",
    )


@task(name="cluster items", task_run_name="cluster items", cache_policy=NO_CACHE)
def cluster_items(embeddings: ArtifactRef, config: ClusterConfig, store_root: str) -> StageResult:
    """Returns the clusters: ``item_index, cluster, distance`` (Euclidean, to its centroid)."""
    store = Store(store_root)
    wanted = identity(Kind.CLUSTERS, config, {"embeddings": embeddings})
    kept = None
    if store.find(wanted) is None:
        kept = kept_centroids(store, embeddings, wanted.parameters, config.refit_share)
    if kept is not None:
        wanted = identity(Kind.CLUSTERS, config, {"embeddings": embeddings, CENTROIDS: kept})
    return run_stage(
        store,
        "cluster items",
        wanted,
        lambda draft: make_clusters(store, embeddings, config, draft, kept),
    )


def make_clusters(
    store: Store,
    embeddings: ArtifactRef,
    config: ClusterConfig,
    draft: Draft,
    kept: ArtifactRef | None = None,
) -> None:
    """Fills a draft with the clusters of item embeddings, around the centres of ``kept`` if given.

    Otherwise the centroids come from items with an embedding of their own: thousands of items
    that stand at their domain's mean would draw a cluster to themselves.
    """
    read = read_item_embeddings(store, embeddings)
    vectors = read.vectors[1:]
    if kept is None:
        own = read.is_embedded[1:]
        # A copy of all vectors only where some do not count.
        centroids = _fitted(vectors if own.all() else vectors[own], config)
    else:
        centroids = read_centroids(store, kept)
    from sklearn.metrics import pairwise_distances_argmin_min

    labels, distances = pairwise_distances_argmin_min(vectors, centroids)
    write_clusters(draft.path, labels, distances, centroids)
    draft.counts.update({"items": len(vectors), "clusters": len(centroids)})


def kept_centroids(
    store: Store, embeddings: ArtifactRef, parameters: Mapping[str, object], changed_share: float
) -> ArtifactRef | None:
    """Returns the fitted clusters whose centres still hold, or None where they are to be fitted.

    They hold where the latest refresh used the same ``parameters``, the same embedding model and
    template, and at most ``changed_share`` of both catalogues' items are in one of them only. Where
    an artifact of that refresh is gone, nothing holds.
    """
    release = store.pointed(REFRESHED)
    if release is None:
        return None
    try:
        fitted = _still_holding(store, release, embeddings, parameters, changed_share)
    except (ArtifactError, FileNotFoundError):
        return None
    return fitted if fitted is not None and store.holds(fitted) else None


def _still_holding(
    store: Store,
    release: ArtifactRef,
    embeddings: ArtifactRef,
    parameters: Mapping[str, object],
    changed_share: float,
) -> ArtifactRef | None:
    latest = store.manifest(parts_of(store, release)["clusters"])
    fitted = store.manifest(latest.parents.get(CENTROIDS, _ref(latest)))
    now, then = store.manifest(embeddings), store.manifest(fitted.parents["embeddings"])
    if fitted.parameters != parameters or now.parameters != then.parameters:
        return None
    if _changed_share(store, now, then) > changed_share:
        return None
    return _ref(fitted)


def _changed_share(store: Store, now: Manifest, then: Manifest) -> float:
    """1 - |both| / |either|."""
    mine, theirs = (_items(store, manifest) for manifest in (now, then))
    both = mine.join(theirs, on=ITEM_KEY, how="semi").height
    either = mine.height + theirs.height - both
    return 1 - both / either if either else 0.0


def _items(store: Store, embeddings: Manifest) -> pl.DataFrame:
    return read_dataset(store, embeddings.parents["dataset"]).items.select(ITEM_KEY)


def _ref(manifest: Manifest) -> ArtifactRef:
    return ArtifactRef(kind=Kind.CLUSTERS, fingerprint=manifest.fingerprint)


def _fitted(vectors: np.ndarray, config: ClusterConfig) -> np.ndarray:
    """Returns centroids, float32 (clusters, width)."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Fewer distinct texts than clusters: some stay empty, which harms nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans = _kmeans(len(vectors), config).fit(vectors)
    return np.asarray(kmeans.cluster_centers_, np.float32)


def _kmeans(items: int, config: ClusterConfig) -> "KMeans | MiniBatchKMeans":
    from sklearn.cluster import KMeans, MiniBatchKMeans

    kind = KMeans if items <= FULL_KMEANS_ITEMS else MiniBatchKMeans
    return kind(min(config.clusters, items), random_state=config.seed, n_init="auto")
